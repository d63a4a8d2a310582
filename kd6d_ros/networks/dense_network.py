"""The dense network: backbone and decoder; for every pixel of its map and every object a mask and 16 code bits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd6d_ros.inference.surface_codes import BITS
from kd6d_ros.networks.backbones import IMAGENET_MEAN, IMAGENET_STD
from kd6d_ros.networks.dense_decoders import AsppDecoder, CompactDecoder
from kd6d_ros.networks.make_backbone import make_backbone
from kd6d_ros.networks.spec import NetworkSpec


class DenseOutput(NamedTuple):
    """mask (N, C, h, w) and code (N, C, 16, h, w), logits, float32, first split first; h and w are the input's over
    ``spec.code_stride``; maps: what the decoder made on the way, (N, channels, H / stride, W / stride) for each of
    ``decoder.strides``."""

    mask: Tensor
    code: Tensor
    maps: tuple[Tensor, ...] = ()


class DenseNetwork(nn.Module):
    """Images (N, 3, H, W), RGB in 0..255, to maps of logits; H and W multiples of ``spec.input_multiple``."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = make_backbone(spec.backbone)
        decoder = AsppDecoder if spec.decoder == 'aspp' else CompactDecoder
        self.decoder = decoder(self.backbone.channels, spec.channels, spec.classes * (1 + BITS))
        self.register_buffer('mean', 255.0 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', 255.0 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> DenseOutput:
        logits, maps = self.decoder(self.backbone((image - self.mean) / self.std))
        by_class = logits.float().unflatten(1, (self.spec.classes, 1 + BITS))
        return DenseOutput(by_class[:, :, 0], by_class[:, :, 1:], maps)
