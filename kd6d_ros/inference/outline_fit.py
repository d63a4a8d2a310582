"""Moves a pose until the outline of the mesh lies where the image changes from object to surroundings.

A network that sees a crop of 128 pixels is good at telling how an object is turned, and weak at its distance, on which
a grasp depends. The outline is the other way round: a tenth of the distance moves every outline pixel of a 100-pixel
object by five pixels.

On short lines across the outline, the colours' odds give for each place how likely the outline crosses there; its
mean and variance are one measurement per line. Gauss-Newton moves the pose, held by what the network said; lines where
the network sees something else before the object (its mask) hardly count. Deterministic.

Reference: Stoiber, Pfanne, Strobl, Triebel, Albu-Schaeffer, "SRT3D: A Sparse Region-Based 3D Object Tracking Approach
for the Real World", IJCV 2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from kd6d_ros.inference.inner_loops import ARRAYS, InnerLoops
from kd6d_ros.inference.outline_view import look
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.inference.outline import OutlineModel
    from kd6d_ros.inference.outline_view import MaskMap
    from kd6d_ros.types import Camera, FloatArray, ImageArray

TURN, DISTANCE, SHIFT = 0.28, 0.17, 0.042
"""What any network's pose may be wrong by (standard deviations): rotation [rad], distance (relative), and place across
the viewing ray as a share of the object's size."""


class OutlineFit(NamedTuple):
    """A pose, camera from object, and the share of its outline that is clear in the image and in its place."""

    pose: RigidTransform
    agreement: float


def fit_outline(
    model: OutlineModel,
    image: ImageArray,
    camera: Camera,
    pose: RigidTransform,
    size: float,
    mask: Optional[MaskMap] = None,
    certainty: Optional[FloatArray] = None,
    loops: InnerLoops = ARRAYS,
) -> Optional[OutlineFit]:
    """The pose nearby whose outline fits the image best.

    Args:
        image: (H, W, 3) uint8 RGB.
        pose: camera from object, to start from.
        size: of the object in the image [px].
        mask: where the network sees the object; without it everything in front of the object disturbs.
        certainty: information (6, 6) of the pose to start from, by a left rotation vector [rad] and the translation
            [m] in the camera frame. A good network's pose is held where it is, another one may move.
        loops: what does the work.

    Returns:
        None where there is no outline, too little of it to say anything, or no place nearby where it fits.
    """
    start = np.array(pose.rotation), np.array(pose.translation)
    if not start[1][2] > 0 or not size > 0:
        return None
    view = look(image, camera, start[1][:2] / start[1][2], size, mask)
    hold = _loose(start[1], size / camera.matrix[0, 0]) + (0 if certainty is None else certainty)
    if view is None:
        return None
    found = loops.fitted(model, view, start, hold)
    return None if found is None else OutlineFit(RigidTransform(*found[0]), found[1])


def _loose(translation: FloatArray, size: float) -> FloatArray:
    """Information (6, 6) that every start holds the fit with; `size` of the object at distance 1."""
    distance = translation[2]
    ray = translation / np.linalg.norm(translation)
    across, along = 1 / (SHIFT * size * distance) ** 2, 1 / (DISTANCE * distance) ** 2
    out = np.eye(6) / TURN**2
    out[3:, 3:] = across * np.eye(3) + (along - across) * np.outer(ray, ray)
    return out
