"""The steps of ``outline_fit`` with NumPy; those of ``loops.outline`` are the same for whoever has Numba."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Sequence, Tuple

import cv2
import numpy as np

from kd6d_ros.inference.outline_view import colour_odds

if TYPE_CHECKING:
    from kd6d_ros.inference.outline import OutlineModel, OutlinePoints
    from kd6d_ros.inference.outline_view import View
    from kd6d_ros.inference.robust import Pose
    from kd6d_ros.types import Float32Array, FloatArray

LINES = 160
"""Lines across the outline, those before the object included."""

LEAST_LINES = 20

ROUNDS = ((0.085, (0.28, 0.22)), (0.065, (0.16, 0.12)), (0.045, (0.09, 0.07, 0.05)), (0.02, (0.06, 0.05, 0.04, 0.03)))
"""Each round: the distance from the outline up to which no colours are learnt, and how far the lines of each of its
steps reach to both sides; shares of the object's size. The last one learns the mixed colours beside the outline too:
not learnt they look like surroundings, of which more colours are known, and the object is taken for a smaller one."""

DEPTH, LEAST_DEPTH_PX = 0.06, 3.0
"""How far inside of the outline the object must be seen: share of its size, and pixels of the view."""

RING = 0.35
"""Width of the surroundings whose colours are learnt, as a share of the object's size."""

TOGETHER = 4.0
"""Neighbouring lines are wrong together: this many count as one."""

COLOUR_LIMIT, COLOUR_TRUST = 1.5, 0.5
"""Log-odds of one pixel's colour are cut at the first and multiplied with the second, as pixels are no independent
witnesses."""

MASK_LIMIT, MASK_TRUST = 2.0, 0.45
"""The same of the network's mask."""

MASK_SHIFT = 0.7
"""What is added to the log-odds of the mask: networks are more careful about the object's rim than about its
surroundings, and their masks end a little inside of it. Found on renders of LM-O's objects."""

IN_PLACE = 0.04
"""An outline that is off by this share of the object's size is no longer in its place."""

MOST_CHANGE = 0.25
"""A distance that changes by more than this share is no refinement."""

LEAST_AGREEMENT = 0.5
"""A fit with less is not taken."""


@dataclass(frozen=True, eq=False)
class _Lines:
    """mean (N,) [px of the view]: where the outline should be, along the outward normals; clear (N,): how much less
    certain that would be without the image, 0 to 1; trust (N,): that the object is seen there; weight (N,) of all."""

    mean: FloatArray
    clear: FloatArray
    trust: FloatArray
    weight: FloatArray


def fitted(model: OutlineModel, view: View, start: Pose, hold: FloatArray) -> Optional[Tuple[Pose, float]]:
    """The pose near `start` whose outline fits the view best, and its agreement; None where it does not fit.

    Args:
        hold: information (6, 6) about `start`, by a left rotation vector [rad] and the translation [m].
    """
    now = start
    for gap, reaches in ROUNDS:
        found = _round(model, view, now, start, hold, reaches, gap)
        if found is None or abs(found[1][2] / start[1][2] - 1) > MOST_CHANGE:
            return None
        now = found
    agreement = _agreement(model, view, now)
    return None if agreement is None or agreement < LEAST_AGREEMENT else (now, agreement)


def _agreement(model: OutlineModel, view: View, pose: Pose) -> Optional[float]:
    """Share of the outline that is clear and in its place, by lines that reach as far as the first ones."""
    outline = model.seen(*pose, view.matrix, (view.side, view.side), LINES)
    if outline is None or len(outline.points) < LEAST_LINES:
        return None
    gap, reaches = ROUNDS[-1][0], ROUNDS[0][1]
    odds = colour_odds(view, outline.silhouette, gap * view.size, RING * view.size)
    if odds is None:
        return None
    lines = _measure(view, odds, outline, max(3, round(reaches[0] * view.size)))
    near = np.exp(-0.5 * (lines.mean / (IN_PLACE * view.size)) ** 2)
    return float((lines.trust * lines.clear * near).sum() / max(float(lines.trust.sum()), 1e-9))


def _round(
    model: OutlineModel, view: View, pose: Pose, start: Pose, hold: FloatArray, reaches: Sequence[float], gap: float
) -> Optional[Pose]:
    """The pose after a round; None without an outline."""
    odds: Optional[Float32Array] = None
    for reach in reaches:
        outline = model.seen(*pose, view.matrix, (view.side, view.side), LINES)
        if outline is None or len(outline.points) < LEAST_LINES:
            return None
        if odds is None:
            odds = colour_odds(view, outline.silhouette, gap * view.size, RING * view.size)
        if odds is None:
            return None
        lines = _measure(view, odds, outline, max(3, round(reach * view.size)))
        pose = _step(view, outline, lines, pose, start, hold)
    return pose


def _measure(view: View, odds: Float32Array, outline: OutlinePoints, reach: int) -> _Lines:
    """Where the outline crosses each line, by the odds of the pixels before and after every place of it."""
    offsets = np.arange(-reach, reach + 1)
    at = outline.pixels[:, None] + offsets[None, :, None] * outline.normals[:, None]
    column, row = np.clip(np.round(at), 0, view.side - 1).astype(np.int64).transpose(2, 0, 1)
    inside = COLOUR_TRUST * np.clip(odds[view.colours[row, column]], -COLOUR_LIMIT, COLOUR_LIMIT)
    trust = np.ones(len(at))
    if view.mask is not None:
        inside = inside + MASK_TRUST * np.clip(view.mask[row, column] + MASK_SHIFT, -MASK_LIMIT, MASK_LIMIT)
        trust = _seen(view, outline)
    # The outline between two pixels: what is before it is object, what is behind it is not.
    total = np.concatenate([np.zeros((len(at), 1)), np.cumsum(inside, axis=1)], axis=1)
    evidence = total - 0.5 * total[:, -1:]
    place = np.arange(-reach, reach + 2) - 0.5
    likely = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    mean = likely @ place
    variance = np.maximum(likely @ place**2 - mean**2, 0.0)
    uniform = float((place**2).mean())
    clear = np.clip(1 - variance / uniform, 0, 1)
    return _Lines(mean, clear, trust, trust * clear / (variance + 1.0))


def _seen(view: View, outline: OutlinePoints) -> FloatArray:
    """Probability (N,) that the object is seen just inside of its outline."""
    assert view.mask is not None
    depth = max(LEAST_DEPTH_PX, DEPTH * view.size)
    inner = np.clip(np.round(outline.pixels - depth * outline.normals), 0, view.side - 1).astype(np.int64)
    seen: FloatArray = 1 / (1 + np.exp(-2 * (view.mask[inner[:, 1], inner[:, 0]].astype(np.float64) + 0.5)))
    return seen


def _step(view: View, outline: OutlinePoints, lines: _Lines, pose: Pose, start: Pose, hold: FloatArray) -> Pose:
    """One Gauss-Newton step by a left rotation about the object's origin and a translation."""
    moved = outline.points @ pose[0].T + pose[1]
    scaled = outline.normals * np.diag(view.matrix)[:2] / moved[:, 2:]
    depth = -np.einsum('nd,nd->n', scaled, moved[:, :2]) / moved[:, 2]
    slope = np.concatenate([scaled, depth[:, None]], axis=1)
    jacobian = np.concatenate([np.cross(moved - pose[1], slope), slope], axis=1)
    turned = cv2.Rodrigues(pose[0] @ start[0].T)[0].reshape(3)
    gone = np.concatenate([turned, pose[1] - start[1]])
    weight = lines.weight / TOGETHER
    hessian = (jacobian * weight[:, None]).T @ jacobian + hold
    step = np.linalg.solve(hessian, jacobian.T @ (weight * lines.mean) - hold @ gone)
    rotation: FloatArray = np.asarray(cv2.Rodrigues(step[:3])[0], np.float64) @ pose[0]
    return rotation, pose[1] + step[3:]
