"""EfficientNet-Lite0 without its classifier, as it is deployed: normalisation folded into the convolutions.

The only backbone here whose ImageNet weights come with a package (``training.imagenet``). It is fine-tuned in the
folded form, and its depthwise kernels (2 % of the weights) stay as they are: PyTorch's gradients of depthwise
convolutions take longer on a CPU than everything else together, and the 1x1 convolutions learn enough.

References: Tan & Le, "EfficientNet", ICML 2019; the Lite variants of github.com/tensorflow/tpu, whose "same"
padding adds one more pixel at the right and the bottom where the stride is 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd6d_ros.networks.backbones import Backbone


class Stage(NamedTuple):
    """`blocks` inverted residuals; the first has `stride`, the hidden width is `expand` times the input."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    width: int


STEM_WIDTH = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(2, 5, 2, 6, 192),
)
"""The published network has two more blocks in the last stage and one more stage."""
FIXED_BLOCKS = 3
"""The stem and these first blocks, down to stride 4, keep the weights that they start with."""

TAPS = {1: 4, 2: 8, 4: 16, 5: 32}
"""Stage whose output is the feature map of a stride."""


class _FixedDepthwise(torch.autograd.Function):
    """Depthwise convolution of stride 1 with a gradient for its input only: the same convolution, kernel turned."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, Tensor]:
        (weight,) = ctx.saved_tensors
        turned = weight.flip(2, 3).contiguous()
        x = F.conv2d(grad[0], turned, None, padding=weight.shape[-1] // 2, groups=len(weight))
        return x, None, grad[0].sum((0, 2, 3))


class Depthwise(nn.Module):
    """Depthwise convolution whose kernels are not trained, padded as TensorFlow does; H and W even."""

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.missing = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.weight = nn.Parameter(torch.empty(width, 1, kernel, kernel), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1 and torch.is_grad_enabled():
            fixed: Tensor = _FixedDepthwise.apply(x, self.weight.to(x.dtype), self.bias.to(x.dtype))  # type: ignore[no-untyped-call]
            return fixed
        before, after = self.missing
        with torch.autocast(x.device.type, enabled=False):  # bf16 gradients of strided ones are slower still
            # Zeros before the kernel say the same as fewer before the image, and cost less; graphs keep their kernels.
            if torch.is_grad_enabled() and not torch.onnx.is_in_onnx_export():
                kernel = F.pad(self.weight, (after - before, 0, after - before, 0))
                out = F.conv2d(x.float(), kernel, self.bias, self.stride, after, groups=len(kernel))
            else:
                padded = F.pad(x.float(), (before, after, before, after))
                out = F.conv2d(padded, self.weight, self.bias, self.stride, groups=len(self.weight))
        return out.to(x.dtype)


class InvertedResidual(nn.Module):
    """1x1 to the hidden width, depthwise, 1x1 to the output; plus the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = nn.Conv2d(inputs, hidden, 1) if expand > 1 else None
        self.depthwise = Depthwise(hidden, kernel, stride)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(hidden)))
        return x + out if self.residual else out


class EfficientNetLite0(Backbone):
    """Feature maps 24 at stride 4, 40 at 8, 112 at 16 and 192 at 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_WIDTH, 3, 2)
        self.blocks = nn.ModuleList()
        self.taps: dict[int, int] = {}
        self.channels = {}
        previous = STEM_WIDTH
        for index, stage in enumerate(STAGES):
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                self.blocks.append(InvertedResidual(previous, stage.width, stage.kernel, stride, stage.expand))
                previous = stage.width
            if index in TAPS:
                self.taps[len(self.blocks) - 1] = TAPS[index]
                self.channels[TAPS[index]] = stage.width
        self.initialise()
        self.stem.requires_grad_(False)
        for block in self.blocks[:FIXED_BLOCKS]:
            block.requires_grad_(False)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        x, features = F.relu6(self.stem(F.pad(image, (0, 1, 0, 1)))), {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                features[self.taps[index]] = x
        return features
