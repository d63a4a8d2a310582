"""What the surface branch learns: class and surface point under each stride-8 cell of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd6d_ros.networks.surface import SURFACE_STRIDE
from kd6d_ros.training.frames import DEPTH_UNIT

if TYPE_CHECKING:
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.training.frames import Frame
    from kd6d_ros.types import AnyArray, Float32Array

BACKGROUND, UNKNOWN = -1, -2


class SurfaceTargets(NamedTuple):
    """Per cell (row by row): class index (G,) int8, BACKGROUND or UNKNOWN; point (G, 3) [diameters]
    relative to the centre of the box in the object's frame, zero without a class."""

    classes: AnyArray
    points: Float32Array


def surface_targets(frame: Frame, crop: Crop) -> SurfaceTargets:
    """Targets of a window; everything on an object is UNKNOWN where the frame has no depth."""
    x, y = _pixels(crop)
    inside = (x >= 0) & (y >= 0) & (x < frame.width) & (y < frame.height)
    x, y = np.clip(x, 0, frame.width - 1), np.clip(y, 0, frame.height - 1)
    owner = np.where(inside, frame.labels[y, x], 0).astype(np.int64) - 1
    classes = np.where(owner >= 0, np.append(frame.class_index, BACKGROUND)[owner], BACKGROUND).astype(np.int8)
    points = np.zeros((len(x), 3), np.float32)
    known = classes >= 0
    depth = np.zeros(len(x)) if frame.depth is None else frame.depth[y, x] * DEPTH_UNIT
    classes[known & (depth <= 0)] = UNKNOWN
    rows = np.flatnonzero(known & (depth > 0))
    pixels = np.stack([x[rows], y[rows], np.ones(len(rows))], 1)
    in_camera = depth[rows, None] * np.linalg.solve(frame.matrix, pixels.T).T
    of = owner[rows]
    centre = frame.corners_m[of].mean(axis=1)
    # The box's centre is the origin of the normalised frame, so the translation drops out.
    turned = np.einsum('nij,ni->nj', frame.rotation[of], in_camera - centre)
    points[rows] = turned / frame.diameter[of, None]
    elsewhere = rows[(np.abs(points[rows]) > 1.0).any(axis=1)]  # depth of something else
    classes[elsewhere], points[elsewhere] = UNKNOWN, 0.0
    return SurfaceTargets(classes, points)


def _pixels(crop: Crop) -> tuple[AnyArray, AnyArray]:
    """Image pixels nearest to the centres of the cells, row by row."""
    count_x, count_y = crop.width // SURFACE_STRIDE, crop.height // SURFACE_STRIDE
    centre_x = (np.arange(count_x) + 0.5) * SURFACE_STRIDE - 0.5
    centre_y = (np.arange(count_y) + 0.5) * SURFACE_STRIDE - 0.5
    xx, yy = np.meshgrid(centre_x, centre_y)
    pixels = np.rint(crop.to_image(np.stack([xx, yy], -1).reshape(-1, 2))).astype(np.int64)
    return pixels[:, 0], pixels[:, 1]
