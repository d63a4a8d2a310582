"""From a network's code map to surface points under pixels, for one object in one crop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.inference.surface import LEAST_MASK_LOGIT, SurfaceCloud
from kd6d_ros.inference.surface_codes import HARD_BITS

if TYPE_CHECKING:
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.types import AnyArray, FloatArray

LOGIT_BOUND = 60.0
"""Logits are cut to this, beyond which a sigmoid says nothing new and overflows in float32."""


def code_cloud(mask: AnyArray, code: AnyArray, book: CodeBook, crop: Crop) -> SurfaceCloud:
    """Surface points of the pixels that are likelier on the object than not.

    Args:
        mask: (h, w) mask logits of the object.
        code: (16, h, w) logits of its bits, first split first.
        book: codes of the object.
        crop: the window that the network saw; its width is a multiple of w.

    Returns:
        As ``cloud_of_cells``.
    """
    ys, xs = np.nonzero(mask >= LEAST_MASK_LOGIT)
    probability = _sigmoid(code[:, ys, xs].T)
    stride = crop.width / mask.shape[1]
    return cloud_of_cells(np.stack([xs, ys], axis=1), stride, _sigmoid(mask[ys, xs]), probability, book, crop)


def cloud_of_cells(
    cells: AnyArray, stride: float, mask: AnyArray, probability: AnyArray, book: CodeBook, crop: Crop
) -> SurfaceCloud:
    """Surface points of chosen cells of the map.

    Args:
        cells: (N, 2) column and row. stride: of the map [network px].
        mask: (N,) probability of the object in each cell.
        probability: (N, 16) of its bits, first split first.

    Returns:
        Points [m, object frame] under pixels of the image. A point's weight is the mask's probability times that of
        the region which its first bits name, as these probabilities are: a wrong one of them makes an outlier.
    """
    sure = np.maximum(probability, 1 - probability)[:, :HARD_BITS].prod(axis=1)
    points = book.expected(probability).astype(np.float64)
    return SurfaceCloud(points, crop.to_image(cell_centres(cells, stride)), mask * sure)


def cell_centres(cells: AnyArray, stride: float) -> FloatArray:
    """Network px (N, 2) of cells (N, 2), column and row."""
    out: FloatArray = (np.asarray(cells, np.float64) + 0.5) * stride - 0.5
    return out


def _sigmoid(logits: AnyArray) -> FloatArray:
    clipped: FloatArray = np.clip(np.asarray(logits, np.float64), -LOGIT_BOUND, LOGIT_BOUND)
    return 1.0 / (1.0 + np.exp(-clipped))
