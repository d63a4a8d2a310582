"""Surface points of one instance: where the network saw which point of the object.

A bundle whose network has a surface branch gives, for each cell of a fixed grid, the point of the object under
the cell's centre. These are correspondences of the usual kind, many of them, learnt from what the cell sees.

Reference: Park et al., "Pix2Pose", ICCV 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.types import AnyArray, FloatArray, LocalPredictions, ObjectModel

LEAST_MASK_LOGIT = 0.0
"""A cell belongs to the object when its mask is at least this, that is likelier than not."""

MARGIN_CELLS = 0.5
"""How far outside the box of the corners a cell's centre may lie [cells]."""


@dataclass(frozen=True, eq=False)
class SurfaceCloud:
    """points (N, 3) [m, object frame] under pixels (N, 2), weights (N,) in 0.5..1."""

    points: FloatArray
    pixels: FloatArray
    weights: FloatArray


def surface_cloud(
    cells: LocalPredictions, class_index: int, model: ObjectModel, crop: Crop, box: AnyArray
) -> Optional[SurfaceCloud]:
    """The cells of a class inside `box` x0 y0 x1 y1 [network px] of `crop`, with pixels of the image; None when
    the network has no such branch."""
    if cells.surface is None:
        return None
    stride = crop.width / cells.surface.shape[3]
    x, y, z, logit = cells.surface[class_index].astype(np.float64)
    ys, xs = np.nonzero(logit >= LEAST_MASK_LOGIT)
    pixels = (np.stack([xs, ys], axis=1) + 0.5) * stride - 0.5
    margin = MARGIN_CELLS * stride
    inside = ((pixels >= box[:2] - margin) & (pixels <= box[2:] + margin)).all(axis=1)
    ys, xs, pixels = ys[inside], xs[inside], pixels[inside]
    points = np.stack([x[ys, xs], y[ys, xs], z[ys, xs]], axis=1) * model.diameter
    centre = (model.keypoints.min(axis=0) + model.keypoints.max(axis=0)) / 2
    weights: FloatArray = 1.0 / (1.0 + np.exp(-logit[ys, xs]))
    return SurfaceCloud(points + centre, crop.to_image(pixels), weights)
