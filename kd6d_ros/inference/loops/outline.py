"""``outline_arrays.fitted`` in one go: a thread that fits an outline needs nothing of Python until it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

import numpy as np

from kd6d_ros.inference.loops import colours, lines, rim
from kd6d_ros.inference.loops.numba_loops import compiled
from kd6d_ros.inference.loops.small_matrices import product, solve, turn_between, turn_by
from kd6d_ros.inference.outline import BEYOND_PX, NEAREST
from kd6d_ros.inference.outline_arrays import (
    IN_PLACE,
    LEAST_AGREEMENT,
    LEAST_LINES,
    LINES,
    MOST_CHANGE,
    RING,
    ROUNDS,
    TOGETHER,
)

if TYPE_CHECKING:
    from kd6d_ros.inference.outline import MeshEdges, OutlineModel
    from kd6d_ros.inference.outline_view import View
    from kd6d_ros.inference.robust import Pose
    from kd6d_ros.types import AnyArray, Float32Array, FloatArray

    _Seen = Tuple[FloatArray, float, AnyArray, Float32Array, bool]
    """Matrix, size, colours and mask of a view, and whether there is a mask."""

_STEPS = np.array([(gap, reach, step == 0) for gap, reaches in ROUNDS for step, reach in enumerate(reaches)])
"""(S, 3): gap, reach and whether colours are learnt anew."""

_LAST_GAP, _FIRST_REACH = ROUNDS[-1][0], ROUNDS[0][1][0]

_MESH = 'Tuple((f8[:,::1], f8[:,::1], f8[::1], i8[:,::1], i8[:,::1], i8[:,::1], i8[::1], f8[:,::1]))'
_VIEW = 'Tuple((f8[:,::1], f8, i8[:,::1], f4[:,::1], b1))'
_POSE = 'f8[:,::1], f8[::1]'


@compiled(f'Tuple((f8[:,::1], f8[:,::1], f8[:,::1], u1[:,::1]))({_MESH}, {_POSE}, f8[:,::1], i8)')
def _seen(
    mesh: MeshEdges, rotation: FloatArray, translation: FloatArray, matrix: FloatArray, side: int
) -> Tuple[FloatArray, FloatArray, FloatArray, AnyArray]:
    """Points (N, 3), pixels and normals (N, 2) of the outline and the silhouette (S, S); no points without one."""
    vertices, normals, offsets, edges, sides, opposite, owned, forward = mesh
    visible, pixels, depth = rim.project(vertices, rotation, translation, matrix, NEAREST)
    if not visible:
        return np.empty((0, 3)), np.empty((0, 2)), np.empty((0, 2)), np.zeros((side, side), np.uint8)
    eye = np.zeros(3)
    for i in range(3):
        for j in range(3):
            eye[i] -= rotation[j, i] * translation[j]
    turns, chosen, third = rim.rim(normals, offsets, eye, owned, forward, sides, opposite)
    covered = rim.silhouette(pixels, edges, turns, side)
    points, at, outward = rim.places(vertices, pixels, depth, edges, chosen, third, covered, LINES, BEYOND_PX)
    return points, at, outward, covered


@compiled('Tuple((f8[::1], f8))(f8[::1], f8[::1], i8)')
def _clear(variance: FloatArray, trust: FloatArray, reach: int) -> Tuple[FloatArray, float]:
    """How much less certain (N,) a crossing would be without the image, 0 to 1; and the trust of all lines."""
    uniform = trusted = 0.0
    for k in range(2 * reach + 2):
        uniform += (k - reach - 0.5) ** 2 / (2 * reach + 2)
    clear = np.empty(len(variance))
    for i in range(len(variance)):
        clear[i] = min(max(1.0 - variance[i] / uniform, 0.0), 1.0)
        trusted += trust[i]
    return clear, trusted


@compiled(f'Tuple((b1, f8[:,::1], f8[::1]))({_MESH}, {_VIEW}, {_POSE}, f8[:,::1])')
def _moved(
    mesh: MeshEdges,
    view: _Seen,
    rotation: FloatArray,
    translation: FloatArray,
    hold: FloatArray,
) -> Tuple[bool, FloatArray, FloatArray]:
    """All rounds: the pose; False where there is no outline, or the distance changes too much."""
    matrix, size, picture, mask, masked = view
    start_rotation, start_translation = rotation, translation
    odds = np.empty(0, np.float32)
    gone, step = np.empty(6), np.empty(6)
    for s in range(len(_STEPS)):
        if _STEPS[s, 2] > 0.0 and abs(translation[2] / start_translation[2] - 1.0) > MOST_CHANGE:
            break
        points, at, normals, covered = _seen(mesh, rotation, translation, matrix, len(picture))
        if len(points) < LEAST_LINES:
            return False, rotation, translation
        if _STEPS[s, 2] > 0.0:
            known, odds = colours.odds(covered, picture, mask, masked, _STEPS[s, 0] * size, RING * size)
            if not known:
                return False, rotation, translation
        reach = max(3, int(np.rint(_STEPS[s, 1] * size)))
        mean, variance, trust = lines.measure(at, normals, picture, odds, mask, masked, size, reach)
        weight, _ = _clear(variance, trust, reach)
        for i in range(len(weight)):
            weight[i] *= trust[i] / (variance[i] + 1.0) / TOGETHER
        gone[:3] = turn_between(rotation, start_rotation)
        gone[3:] = translation - start_translation
        hessian = hold.copy()
        for i in range(6):
            step[i] = 0.0
            for j in range(6):
                step[i] -= hold[i, j] * gone[j]
        lines.normal_equations(
            points, normals, rotation, translation, matrix[0, 0], matrix[1, 1], weight, mean, hessian, step
        )
        if not solve(hessian, step):
            return False, rotation, translation
        rotation = product(turn_by(step[:3]), rotation)
        translation = translation + step[3:]
    return abs(translation[2] / start_translation[2] - 1.0) <= MOST_CHANGE, rotation, translation


@compiled(f'f8({_MESH}, {_VIEW}, {_POSE})')
def _agreement(
    mesh: MeshEdges,
    view: _Seen,
    rotation: FloatArray,
    translation: FloatArray,
) -> float:
    """See ``outline_arrays._agreement``; 0 without an outline."""
    matrix, size, picture, mask, masked = view
    points, at, normals, covered = _seen(mesh, rotation, translation, matrix, len(picture))
    if len(points) < LEAST_LINES:
        return 0.0
    known, odds = colours.odds(covered, picture, mask, masked, _LAST_GAP * size, RING * size)
    if not known:
        return 0.0
    reach = max(3, int(np.rint(_FIRST_REACH * size)))
    mean, variance, trust = lines.measure(at, normals, picture, odds, mask, masked, size, reach)
    clear, trusted = _clear(variance, trust, reach)
    agreed = 0.0
    for i in range(len(mean)):
        agreed += trust[i] * clear[i] * np.exp(-0.5 * (mean[i] / (IN_PLACE * size)) ** 2)
    return agreed / max(trusted, 1e-9)


def fitted(model: OutlineModel, view: View, start: Pose, hold: FloatArray) -> Optional[Tuple[Pose, float]]:
    """See ``outline_arrays.fitted``."""
    mask = np.empty((1, 1), np.float32) if view.mask is None else view.mask
    seen = model.arrays, (view.matrix, view.size, view.colours, mask, view.mask is not None)
    found, rotation, translation = _moved(*seen, *start, hold)
    agreement: float = _agreement(*seen, rotation, translation) if found else 0.0
    return None if agreement < LEAST_AGREEMENT else ((rotation, translation), agreement)
