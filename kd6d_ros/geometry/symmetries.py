"""Object symmetries with the semantics of BOP's models_info.json.

A symmetry S (obj_from_obj) leaves the object looking the same, so the poses T and T @ S are equivalent. BOP
combines them as continuous after discrete: S = C(angle) @ D. Several continuous axes through one point make
the object a sphere: every rotation about that point is then a symmetry (BOP's finite list covers only
rotations about each axis).

``symmetry_transforms`` discretises for the error definitions; ``nearest_equivalent`` and
``canonical_pose`` solve the continuous angle in closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List

import numpy as np

from kd6d_ros.geometry.transforms import (
    nearest_rotation,
    rotation_angle,
    rotation_from_vector,
    vector_from_rotation,
)
from kd6d_ros.types import ContinuousSymmetry, RigidTransform, Symmetries

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray

_HALF = np.sqrt(0.5)
REFERENCE_VIEW = np.array([[1.0, 0.0, 0.0], [0.0, -_HALF, -_HALF], [0.0, _HALF, -_HALF]])
"""Rotation (3, 3) cam_from_obj: object z up in the image and seen from 45 degrees above, object x right.

The labels of a symmetric object jump where its representative changes. Relative to this view they jump
where objects that stand on a table (z up) are rarely seen: for an axis of revolution along z only when the
object is seen exactly from 45 degrees below and upside down."""

HOMING = np.radians(1.0)
"""Most that ``steady_equivalent`` turns back to the canonical pose per image [rad]."""


def rotation_about(symmetry: ContinuousSymmetry, angle: float) -> RigidTransform:
    """obj_from_obj rotation by `angle` [rad] about the symmetry's axis through its offset."""
    axis = symmetry.axis / np.linalg.norm(symmetry.axis)
    rotation = rotation_from_vector(axis * angle)
    return RigidTransform(rotation, symmetry.offset - rotation @ symmetry.offset)


def symmetry_transforms(symmetries: Symmetries, max_sym_disc_step: float = 0.01) -> List[RigidTransform]:
    """All symmetries obj_from_obj as BOP discretises them, the identity first.

    Args:
        max_sym_disc_step: how far the vertex farthest from a continuous axis may travel between two
            steps, as a fraction of the diameter (BOP: 0.01, which gives 315 steps).
    """
    discrete = [RigidTransform.identity(), *symmetries.discrete]
    steps = int(np.ceil(np.pi / max_sym_disc_step))
    turns = [
        rotation_about(symmetry, 2 * np.pi * step / steps)
        for symmetry in symmetries.continuous
        for step in range(steps)
    ]
    if not turns:
        return discrete
    return [turn @ flip for flip in discrete for turn in turns]


def nearest_equivalent(
    cam_from_obj: RigidTransform, reference: RigidTransform, symmetries: Symmetries
) -> RigidTransform:
    """The pose equivalent to `cam_from_obj` whose rotation is nearest to that of `reference`.

    Exact for continuous axes. Equal rotations (within 1e-6 rad) are told apart by the translation, then
    by the order of the discrete symmetries.
    """
    if not symmetries:
        return cam_from_obj
    candidates = [
        cam_from_obj @ _best_turn(cam_from_obj, reference, flip, symmetries) @ flip
        for flip in (RigidTransform.identity(), *symmetries.discrete)
    ]
    best = candidates[0]
    best_cost = _cost(best, reference)
    for candidate in candidates[1:]:
        cost = _cost(candidate, reference)
        closer = cost[0] < best_cost[0] - 1e-6
        tied = abs(cost[0] - best_cost[0]) <= 1e-6 and cost[1] < best_cost[1] - 1e-9
        if closer or tied:
            best, best_cost = candidate, cost
    return best


def canonical_pose(cam_from_obj: RigidTransform, symmetries: Symmetries) -> RigidTransform:
    """One representative of all poses equivalent to `cam_from_obj`: the label a network can learn.

    The representative is the equivalent nearest to ``REFERENCE_VIEW`` turned with the line of sight to the
    object's symmetry centre, so it depends on what a crop around the object shows and not on where in the
    image the object is. It is continuous except where two equivalents are equally near; for one
    continuous axis that is only the view along which the axis points opposite to the reference view. Listed
    discrete symmetries that are measured (LM-O) and do not quite close as a group give representatives that
    differ by that misfit.
    """
    if not symmetries:
        return cam_from_obj
    return nearest_equivalent(cam_from_obj, _reference(cam_from_obj, symmetries), symmetries)


def steady_equivalent(cam_from_obj: RigidTransform, last: RigidTransform, symmetries: Symmetries) -> RigidTransform:
    """The equivalent of a pose that follows `last`, that of the image before: no jumps and no spinning.

    A discrete symmetry stays the one that is nearest to `last`. The angle about a continuous axis follows `last`
    too, and turns back to that of ``canonical_pose`` by at most ``HOMING`` per image: what it picks up on the way
    (the axis may go round in a loop) does not stay, and the same view ends in the same pose.
    """
    near = nearest_equivalent(cam_from_obj, last, symmetries)
    if not symmetries.continuous:
        return near
    home = nearest_equivalent(near, _reference(near, symmetries), Symmetries(continuous=symmetries.continuous))
    turn = vector_from_rotation(near.rotation.T @ home.rotation)
    angle = float(np.linalg.norm(turn))
    if angle <= HOMING:
        return home
    rotation = rotation_from_vector(turn * (HOMING / angle))
    offset = symmetries.continuous[0].offset
    return near @ RigidTransform(rotation, offset - rotation @ offset)


def symmetric_distance(a: RigidTransform, b: RigidTransform, points: FloatArray, symmetries: Symmetries) -> float:
    """Least RMS distance [m] between `points` (N, 3) [m, object frame] under an equivalent of `a` and under `b`.

    The same for all equivalents of `a`, and 0 when `b` is one of them. Exact for continuous axes: the turn that is
    best for the points has a closed form.
    """
    # In the object frame of a, where distances are the same.
    target = a.inverse().apply(b.apply(points))
    best = np.inf
    for flip in (RigidTransform.identity(), *symmetries.discrete):
        moved = flip.apply(points)
        for turn in _turns_onto(moved, target, symmetries):
            gaps = turn.apply(moved) - target
            best = min(best, float(np.sqrt((gaps**2).sum(axis=1).mean())))
    return best


def symmetry_centre(symmetries: Symmetries) -> FloatArray:
    """A point (3,) [m, object frame] that every symmetry leaves in place; the origin without any."""
    start = symmetries.continuous[0].offset if symmetries.continuous else np.zeros(3)
    flips = (RigidTransform.identity(), *symmetries.discrete)
    centre: FloatArray = np.mean([flip.apply(start[None])[0] for flip in flips], axis=0)
    return centre


def _reference(cam_from_obj: RigidTransform, symmetries: Symmetries) -> RigidTransform:
    """The reference view, turned with the line of sight to the object's symmetry centre."""
    centre = cam_from_obj.apply(symmetry_centre(symmetries)[None])[0]
    return RigidTransform(_rotation_to(centre) @ REFERENCE_VIEW, cam_from_obj.translation)


def _cost(pose: RigidTransform, reference: RigidTransform) -> tuple[float, float]:
    apart = float(np.linalg.norm(pose.translation - reference.translation))
    return rotation_angle(pose.rotation, reference.rotation), apart


def _best_turn(
    pose: RigidTransform, reference: RigidTransform, flip: RigidTransform, symmetries: Symmetries
) -> RigidTransform:
    """The continuous symmetry C that brings pose @ C @ flip nearest to the reference rotation."""
    if not symmetries.continuous:
        return RigidTransform.identity()
    # tr(reference' @ pose @ C @ flip) = tr(spread @ C) is to be maximised.
    spread = flip.rotation @ reference.rotation.T @ pose.rotation
    if _is_sphere(symmetries):
        offset = symmetries.continuous[0].offset
        # Rounded to a rotation: a pose that follows its own last one would double the error with every image.
        best = nearest_rotation(spread.T)
        return RigidTransform(best, offset - best @ offset)
    turns = [rotation_about(symmetry, _best_angle(spread, symmetry.axis)) for symmetry in symmetries.continuous]
    return max(turns, key=lambda turn: float(np.trace(spread @ turn.rotation)))


def _turns_onto(points: FloatArray, target: FloatArray, symmetries: Symmetries) -> List[RigidTransform]:
    """For each continuous axis the turn that brings `points` nearest to `target` (N, 3); identity without any."""
    if not symmetries.continuous:
        return [RigidTransform.identity()]
    if _is_sphere(symmetries):
        offset = symmetries.continuous[0].offset
        # Kabsch: the rotation about the centre that maximises tr(spread @ C).
        rotation = nearest_rotation(((points - offset).T @ (target - offset)).T)
        return [RigidTransform(rotation, offset - rotation @ offset)]
    return [
        rotation_about(item, _best_angle((points - item.offset).T @ (target - item.offset), item.axis))
        for item in symmetries.continuous
    ]


def _best_angle(spread: FloatArray, axis: FloatArray) -> float:
    """Angle that maximises tr(spread @ C(angle)) = const + cos * a + sin * b."""
    axis = axis / np.linalg.norm(axis)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    a = np.trace(spread) - axis @ spread @ axis
    b = np.trace(spread @ cross)
    return float(np.arctan2(b, a))


def _is_sphere(symmetries: Symmetries) -> bool:
    first = symmetries.continuous[0].axis
    return any(
        np.linalg.norm(np.cross(first, other.axis)) > 1e-3 * np.linalg.norm(first) * np.linalg.norm(other.axis)
        for other in symmetries.continuous[1:]
    )


def _rotation_to(direction: FloatArray) -> FloatArray:
    """Shortest rotation (3, 3) that takes the optical axis to `direction` (identity at the camera)."""
    length = float(np.linalg.norm(direction))
    if length < 1e-9:
        return np.eye(3)
    x, y, z = direction / length
    sine = float(np.hypot(x, y))
    if sine < 1e-12:
        return np.eye(3)
    angle = np.arctan2(sine, z)
    return rotation_from_vector(np.array([-y, x, 0.0]) * (angle / sine))
