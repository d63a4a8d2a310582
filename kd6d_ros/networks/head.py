"""The head shared by all levels: per cell and class a score logit and 8 corner offsets.

Two towers (score, keypoints) of 3x3 convolutions; one learnable factor per level scales the offsets.

Reference: Hu et al., "Wide-Depth-Range 6D Object Pose Estimation in Space", CVPR 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

KEYPOINTS = 8


class Tower(nn.Module):
    """Convolutions shared by the levels; batch normalisation keeps its own statistics per level."""

    def __init__(self, width: int, depth: int, norm: str, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        per_layer = 1 if norm == 'group' else levels
        self.norms = nn.ModuleList(
            nn.ModuleList(self._norm(norm, width) for _ in range(per_layer)) for _ in range(depth)
        )

    @staticmethod
    def _norm(norm: str, width: int) -> nn.Module:
        return nn.GroupNorm(32, width) if norm == 'group' else nn.BatchNorm2d(width)

    def forward(self, x: Tensor, level: int) -> Tensor:
        for conv, norms in zip(self.convs, self.norms, strict=True):
            norm = norms[level] if len(norms) > 1 else norms[0]  # type: ignore[index, arg-type]
            x = torch.relu(norm(conv(x)))
        return x


class KeypointHead(nn.Module):
    """Returns per level logits (N, C, H, W) and offsets (N, 16 C, H, W): per class 8 x then 8 y."""

    def __init__(self, width: int, classes: int, depth: int, norm: str, levels: int) -> None:
        super().__init__()
        self.score_tower = Tower(width, depth, norm, levels)
        self.keypoint_tower = Tower(width, depth, norm, levels)
        self.score = nn.Conv2d(width, classes, 3, padding=1)
        self.offsets = nn.Conv2d(width, 2 * KEYPOINTS * classes, 3, padding=1)
        self.level_scale = nn.Parameter(torch.ones(levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        prior = 0.01
        if self.score.bias is not None:
            nn.init.constant_(self.score.bias, -math.log((1 - prior) / prior))

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        out = []
        for level, x in enumerate(maps):
            logits = self.score(self.score_tower(x, level))
            offsets = self.offsets(self.keypoint_tower(x, level)) * self.level_scale[level]
            out.append((logits, offsets))
        return out
