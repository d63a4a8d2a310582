"""The surface branch: which object, and which point of it, lies under each cell of the stride-8 grid.

Corners are far from what a cell sees; a surface point is under it. Many such points, each learnt from local
evidence, fix the distance of an object better than the corners do, and they teach the backbone.

References: Wang et al., "Normalized Object Coordinate Space", CVPR 2019; Park et al., "Pix2Pose", ICCV 2019.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SURFACE_STRIDE = 8
CHANNELS = 4
"""Per class: x, y, z of the surface point relative to the centre of the box, in diameters; mask logit."""


class SurfaceBranch(nn.Module):
    """Backbone features at stride 8 and the finest map of the pyramid to (N, C, 4, H / 8, W / 8)."""

    def __init__(self, fine: int, coarse: int, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Conv2d(fine + coarse, width, 1), nn.GroupNorm(8, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU(),
            nn.Conv2d(width, CHANNELS * classes, 1),
        )  # fmt: skip

    def forward(self, fine: Tensor, coarse: Tensor, coarse_stride: int) -> Tensor:
        if coarse_stride > SURFACE_STRIDE:
            factor = float(coarse_stride // SURFACE_STRIDE)
            coarse = F.interpolate(coarse, scale_factor=factor, mode='nearest')
        out: Tensor = self.layers(torch.cat([fine, coarse], 1))
        return out.reshape(out.shape[0], self.classes, CHANNELS, *out.shape[2:])
