"""The keypoint network of the method: backbone, feature pyramid, shared head, flattened over all cells."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd6d_ros.networks.backbones import IMAGENET_MEAN, IMAGENET_STD
from kd6d_ros.networks.head import KEYPOINTS, KeypointHead
from kd6d_ros.networks.make_backbone import make_backbone
from kd6d_ros.networks.pyramid import FeaturePyramid
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.networks.surface import SURFACE_STRIDE, SurfaceBranch


class CellGrid(NamedTuple):
    """All cells of all levels: centre (A, 2) network px, anchor size (A,) px and level index (A,)."""

    centre: Tensor
    anchor: Tensor
    level: Tensor


class KeypointOutput(NamedTuple):
    """logits (N, A, C) and keypoints (N, A, C, 8, 2) in network px, float32, for the cells of `grid`; surface
    (N, C, 4, H / 8, W / 8) float32 of ``SurfaceBranch``, None for a network without it; maps: what the pyramid
    gave the head, (N, channels, H / stride, W / stride) per stride."""

    logits: Tensor
    keypoints: Tensor
    grid: CellGrid
    surface: Tensor | None = None
    maps: tuple[Tensor, ...] = ()


class KeypointNetwork(nn.Module):
    """Images (N, 3, H, W), RGB in 0..255, to local predictions; H and W multiples of
    ``spec.input_multiple``."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = make_backbone(spec.backbone)
        self.pyramid = FeaturePyramid(self.backbone.channels, spec.strides, spec.channels)
        self.head = KeypointHead(spec.channels, spec.classes, spec.head_convs, spec.norm, len(spec.strides))
        self.surface = (
            SurfaceBranch(self.backbone.channels[SURFACE_STRIDE], spec.channels, spec.surface, spec.classes)
            if spec.surface else None
        )  # fmt: skip
        self.register_buffer('mean', 255.0 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', 255.0 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> KeypointOutput:
        normal = (image - self.mean) / self.std
        features = self.backbone(normal)
        maps = self.pyramid(features)
        levels = self.head(maps)
        logits = torch.cat([flatten_cells(logit, 1) for logit, _ in levels], 1)[..., 0]
        offsets = torch.cat([flatten_cells(offset, 2 * KEYPOINTS) for _, offset in levels], 1)
        grid = self.grid([(logit.shape[2], logit.shape[3]) for logit, _ in levels], image.device)
        shape = (*offsets.shape[:3], 2, KEYPOINTS)
        xy = offsets.float().reshape(shape).transpose(-1, -2)
        keypoints = grid.centre[:, None, None, :] + grid.anchor[:, None, None, None] * xy
        surface = None
        if self.surface is not None:
            surface = self.surface(features[SURFACE_STRIDE], maps[0], self.spec.strides[0]).float()
        return KeypointOutput(logits.float(), keypoints, grid, surface, tuple(maps))

    def grid(self, sizes: list[tuple[int, int]], device: torch.device) -> CellGrid:
        """Cells in the order of the output: levels finest first, row by row."""
        centres, anchors, levels = [], [], []
        for index, (stride, (rows, columns)) in enumerate(zip(self.spec.strides, sizes, strict=True)):
            y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * stride - 0.5
            x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * stride - 0.5
            xx = x.unsqueeze(0) + torch.zeros_like(y).unsqueeze(1)
            yy = y.unsqueeze(1) + torch.zeros_like(x).unsqueeze(0)
            centre = torch.stack([xx, yy], -1).reshape(-1, 2)
            centres.append(centre)
            anchors.append(torch.full_like(centre[:, 0], self.spec.anchor_sizes[index]))
            levels.append(torch.full_like(centre[:, 0], index))
        return CellGrid(torch.cat(centres), torch.cat(anchors), torch.cat(levels).long())


def flatten_cells(x: Tensor, per_class: int) -> Tensor:
    """(N, C * per_class, H, W) to (N, H * W, C, per_class)."""
    x = x.permute(0, 2, 3, 1)
    return x.reshape(x.shape[0], -1, x.shape[3] // per_class, per_class)
