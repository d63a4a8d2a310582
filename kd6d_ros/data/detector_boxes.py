"""Boxes as a detector would give them, from true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.inference.decode import box_iou

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray

LEAST_IOU = 0.6


def jitter_box(box: AnyArray, rng: np.random.Generator) -> FloatArray:
    """Move the sides of `box` at random such that the overlap stays at least LEAST_IOU."""
    size = np.tile(box[2:] - box[:2], 2)
    for _ in range(20):
        moved: FloatArray = box + size * rng.uniform(-0.22, 0.22, 4)
        if box_iou(box, moved) >= LEAST_IOU:
            return moved
    return np.asarray(box, np.float64)
