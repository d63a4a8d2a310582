"""From a backbone's maps to one map of mask and code logits, and the maps of equal width on the way there, one for
each of `strides`, coarsest first.

``AsppDecoder`` is the described one, a quarter of the teacher's parameters and most of its work: 256 channels at half
of the input's resolution. ``CompactDecoder`` does the same job for a small fraction of that: narrow, at a quarter of
the resolution, with the parallel dilations only on the coarsest map, where they are nearly free.

References: Su et al., "ZebraPose", CVPR 2022; Chen et al., "Encoder-Decoder with Atrous Separable Convolution", 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd6d_ros.networks.backbones import conv_unit

FINEST = 4
"""Stride of what ``CompactDecoder`` gives."""

ASPP_DILATIONS = (6, 12, 18)
COMPACT_DILATIONS = (2, 4)


class ParallelDilations(nn.Module):
    """1x1, one 3x3 per dilation, and the mean over the whole map, side by side, joined by a 1x1.

    Batch normalisation after the mean over the map, as in the described decoder, needs two images per batch.
    """

    def __init__(self, inputs: int, width: int, dilations: Sequence[int], normalised_mean: bool) -> None:
        super().__init__()
        self.point = _unit(inputs, width, 1)
        self.dilated = nn.ModuleList(_unit(inputs, width, 3, dilation) for dilation in dilations)
        whole = _unit(inputs, width, 1) if normalised_mean else nn.Sequential(nn.Conv2d(inputs, width, 1), nn.ReLU())
        self.whole = whole
        self.join = _unit((2 + len(dilations)) * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        joined: Tensor = self.join(torch.cat([self.point(x), *(layer(x) for layer in self.dilated), whole], 1))
        return joined


class AsppDecoder(nn.Module):
    """The decoder of ZebraPose: maps at stride 8, 4 and 2 to `outputs` channels at stride 2."""

    def __init__(self, channels: Mapping[int, int], width: int, outputs: int) -> None:
        super().__init__()
        self.strides = (8, 4, 2)
        self.context = ParallelDilations(channels[8], width, ASPP_DILATIONS, normalised_mean=True)
        self.up1 = _upsample(width, width)
        self.up2 = _upsample(width + channels[4], width)
        self.output = nn.Conv2d(width + channels[2], outputs, 1)

    def forward(self, maps: Mapping[int, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        coarse = self.context(maps[8])
        middle = self.up1(coarse)
        fine = self.up2(torch.cat([middle, maps[4]], 1))
        return self.output(torch.cat([fine, maps[2]], 1)), (coarse, middle, fine)


class CompactDecoder(nn.Module):
    """All maps of a backbone from stride 4 on to `outputs` channels at stride 4; a backbone may lack that of 4."""

    def __init__(self, channels: Mapping[int, int], width: int, outputs: int) -> None:
        super().__init__()
        strides = sorted((stride for stride in channels if stride > FINEST), reverse=True)
        self.strides = (*strides, FINEST)
        self.context = ParallelDilations(channels[strides[0]], width, COMPACT_DILATIONS, normalised_mean=False)
        self.laterals = nn.ModuleDict(
            {str(s): nn.Conv2d(channels[s], width, 1) for s in self.strides[1:] if s in channels}
        )
        self.merged = nn.ModuleList(conv_unit(width, width, 3) for _ in self.strides[1:])
        self.output = nn.Sequential(conv_unit(width, width, 3), nn.Conv2d(width, outputs, 1))

    def forward(self, maps: Mapping[int, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = self.context(maps[self.strides[0]])
        made = [x]
        for stride, layer in zip(self.strides[1:], self.merged, strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode='nearest')
            if str(stride) in self.laterals:
                x = x + self.laterals[str(stride)](maps[stride])
            x = layer(x)
            made.append(x)
        return self.output(x), tuple(made)


def _unit(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Convolution with a bias (as described, although the normalisation takes it away again), normalisation, ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _upsample(inputs: int, width: int) -> nn.Sequential:
    """Transposed 3x3 convolution to twice the size and two 3x3 convolutions."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(inputs, width, 3, 2, 1, output_padding=1, bias=False)]
    for _ in range(2):
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())
