"""ResNet-34 whose last two stages keep stride 8 and dilate instead: the backbone of ZebraPose's teacher.

References: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Chen et al., "Rethinking Atrous
Convolution for Semantic Image Segmentation", 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd6d_ros.networks.backbones import Backbone

STAGES = ((64, 3, 1, 1), (128, 4, 2, 1), (256, 6, 1, 2), (512, 3, 1, 4))
"""Width, blocks, stride and dilation of each stage."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions plus the input, which a 1x1 convolution fits where the shapes differ."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.fit: nn.Module = nn.Identity()
        if stride > 1 or inputs != width:
            self.fit = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(out + self.fit(x))


class DilatedResNet34(Backbone):
    """Feature maps 64 at stride 2 (the first convolution), 64 at 4 (first stage) and 512 at 8 (last stage)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages, previous = [], 64
        for width, blocks, stride, dilation in STAGES:
            first = BasicBlock(previous, width, stride, dilation)
            stages.append(nn.Sequential(first, *(BasicBlock(width, width, 1, dilation) for _ in range(blocks - 1))))
            previous = width
        self.stages = nn.ModuleList(stages)
        self.channels = {2: 64, 4: 64, 8: 512}
        self.initialise()

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        half = self.stem(image)
        quarter = x = self.stages[0](self.pool(half))
        for stage in self.stages[1:]:
            x = stage(x)
        return {2: half, 4: quarter, 8: x}
