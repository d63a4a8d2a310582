"""How many cells each pyramid level contributes for an object of a given size.

Gaussian in log-scale around each level's anchor size, renormalised over the levels that the network has:
``w_l = exp(-lambda * log2(size / anchor_l)^2)``, ``n_l = round(total * w_l / sum(w))``. The same rule
chooses positives in training, the teacher's cloud and the cells that reach PnP.

Reference: Hu et al., "Wide-Depth-Range 6D Object Pose Estimation in Space", CVPR 2021, sec. 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import IntArray


def allocate_cells(size_px: float, anchor_sizes: Sequence[float], total: int, sharpness: float = 1.0) -> IntArray:
    """Cells per level (L,) for an object of `size_px` network pixels; never all zero.

    Rounding may make the sum differ from `total` by a cell or two, as in the released code.
    """
    anchors = np.asarray(anchor_sizes, dtype=np.float64)
    exponent = -sharpness * np.log2(max(size_px, 1e-3) / anchors) ** 2
    weight = np.exp(exponent - exponent.max())
    count: IntArray = np.round(total * weight / weight.sum()).astype(np.int64)
    if count.sum() == 0:
        count[int(np.argmax(weight))] = 1
    return count
