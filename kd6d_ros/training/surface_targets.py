"""What lies under the cells of a window: class and surface point, for the surface branch and for surface codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd6d_ros.networks.surface import SURFACE_STRIDE
from kd6d_ros.training.frames import DEPTH_UNIT

if TYPE_CHECKING:
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.training.frames import Frame
    from kd6d_ros.types import AnyArray, Float32Array, FloatArray

BACKGROUND, UNKNOWN = -1, -2
ONE_SURFACE = 1.03
"""Neighbouring pixels whose depths differ by a larger factor show two surfaces."""


class SurfaceTargets(NamedTuple):
    """Per cell (row by row): class index (G,) int8, BACKGROUND or UNKNOWN; point (G, 3) [diameters]
    relative to the centre of the box in the object's frame, zero without a class."""

    classes: AnyArray
    points: Float32Array


def surface_targets(
    frame: Frame, crop: Crop, stride: int = SURFACE_STRIDE, through_centres: bool = False
) -> SurfaceTargets:
    """Targets of a window, a cell for every `stride` px; everything on an object is UNKNOWN where the frame has no
    depth.

    through_centres: the points lie on the rays through the centres of the cells, at a depth between those of the four
    pixels around, instead of on the ray of the nearest pixel, which is up to half a pixel off.
    """
    centres = _centres(crop, stride)
    x, y = np.rint(centres).astype(np.int64).T
    inside = (x >= 0) & (y >= 0) & (x < frame.width) & (y < frame.height)
    x, y = np.clip(x, 0, frame.width - 1), np.clip(y, 0, frame.height - 1)
    owner = np.where(inside, frame.labels[y, x], 0).astype(np.int64) - 1
    classes = np.where(owner >= 0, np.append(frame.class_index, BACKGROUND)[owner], BACKGROUND).astype(np.int8)
    points = np.zeros((len(x), 3), np.float32)
    known = classes >= 0
    depth = np.zeros(len(x)) if frame.depth is None else frame.depth[y, x] * DEPTH_UNIT
    if through_centres and frame.depth is not None:
        depth = _depth_between(frame, centres, owner, depth)
    classes[known & (depth <= 0)] = UNKNOWN
    rows = np.flatnonzero(known & (depth > 0))
    seen = centres[rows] if through_centres else np.stack([x[rows], y[rows]], 1)
    pixels = np.concatenate([seen, np.ones((len(rows), 1))], 1)
    in_camera = depth[rows, None] * np.linalg.solve(frame.matrix, pixels.T).T
    of = owner[rows]
    centre = frame.corners_m[of].mean(axis=1)
    # The box's centre is the origin of the normalised frame, so the translation drops out.
    turned = np.einsum('nij,ni->nj', frame.rotation[of], in_camera - centre)
    points[rows] = turned / frame.diameter[of, None]
    elsewhere = rows[(np.abs(points[rows]) > 1.0).any(axis=1)]  # depth of something else
    classes[elsewhere], points[elsewhere] = UNKNOWN, 0.0
    return SurfaceTargets(classes, points)


def _depth_between(frame: Frame, centres: FloatArray, owner: AnyArray, nearest: FloatArray) -> FloatArray:
    """Depth (G,) [m] at `centres` (G, 2): linear in its inverse, which is exact on planes, where the four pixels around
    belong to `owner` (G,) and to one surface; that of the `nearest` pixel elsewhere."""
    assert frame.depth is not None
    low = np.floor(centres).astype(np.int64)
    share = centres - low
    depths, weights, alike = [], [], np.ones(len(low), bool)
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = np.clip(low[:, 0] + right, 0, frame.width - 1), np.clip(low[:, 1] + down, 0, frame.height - 1)
        alike &= frame.labels[y, x].astype(np.int64) - 1 == owner
        depths.append(frame.depth[y, x] * DEPTH_UNIT)
        weights.append(np.abs(1 - right - share[:, 0]) * np.abs(1 - down - share[:, 1]))
    around = np.stack(depths)
    alike &= (around.min(0) > 0) & (around.max(0) < ONE_SURFACE * around.min(0))
    inverse = (np.stack(weights) / np.maximum(around, DEPTH_UNIT)).sum(0)
    out: FloatArray = np.where(alike, 1.0 / np.maximum(inverse, 1e-9), nearest)
    return out


def _centres(crop: Crop, stride: int) -> FloatArray:
    """Centres (G, 2) of the cells in image pixels, row by row."""
    centre_x = (np.arange(crop.width // stride) + 0.5) * stride - 0.5
    centre_y = (np.arange(crop.height // stride) + 0.5) * stride - 0.5
    xx, yy = np.meshgrid(centre_x, centre_y)
    return crop.to_image(np.stack([xx, yy], -1).reshape(-1, 2))
