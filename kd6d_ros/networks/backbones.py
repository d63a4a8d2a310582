"""DarkNet-53, DarkNet-tiny and DarkNet-tiny-H: convolution, batch normalisation, leaky ReLU 0.1.

Each backbone returns its feature maps as {stride: (N, C, H/stride, W/stride)}; `channels` gives C per stride.

Reference: Redmon & Farhadi, "YOLOv3", 2018 (DarkNet-53); the two-map tap of the tiny networks and the
halved tiny-H follow Guo et al., CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in 0..1: every backbone's input is normalised with them."""


def conv_unit(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution + batch normalisation + leaky ReLU 0.1."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1, inplace=True),
    )


class Backbone(nn.Module):
    """Base: subclasses set `channels` {stride: C} in __init__, finest first."""

    channels: dict[int, int]

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        raise NotImplementedError(f'{type(self).__name__} has no forward pass')

    def initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1, nonlinearity='leaky_relu')


class ResidualUnit(nn.Module):
    """1x1 to half the channels, 3x3 back, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_unit(channels, channels // 2, 1), conv_unit(channels // 2, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class DarkNet53(Backbone):
    """Feature maps 128 at stride 4, 256 at 8, 512 at 16, 1024 at 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_unit(3, 32, 3)
        widths, units = (64, 128, 256, 512, 1024), (1, 2, 8, 8, 4)
        stages, previous = [], 32
        for width, count in zip(widths, units, strict=True):
            residual = [ResidualUnit(width) for _ in range(count)]
            stages.append(nn.Sequential(conv_unit(previous, width, 3, 2), *residual))
            previous = width
        self.stages = nn.ModuleList(stages)
        self.channels = {4: 128, 8: 256, 16: 512, 32: 1024}
        self.initialise()

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        x, features = self.stem(image), {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index >= 1:
                features[2 ** (index + 1)] = x
        return features


TINY_STAGES: tuple[tuple[int, ...], ...] = (
    (16,),
    (32,),
    (16, 128, 16, 128),
    (32, 256, 32, 256),
    (64, 512, 64, 512, 128),
)


class DarkNetTiny(Backbone):
    """Feature maps at stride 4 (second stage, pooled), 8 (third, pooled) and 16 (fifth); `width` scales every stage."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        previous = 3
        for index, plan in enumerate(TINY_STAGES):
            stage, previous = self._stage(previous, [int(width * c) for c in plan])
            if index < 4:
                stage.append(nn.MaxPool2d(2, 2))
            stages.append(stage)
        self.stages = nn.ModuleList(stages)
        self.channels = {4: int(32 * width), 8: int(128 * width), 16: int(128 * width)}
        self.initialise()

    @staticmethod
    def _stage(previous: int, plan: Sequence[int]) -> tuple[nn.Sequential, int]:
        """3x3 alone, or alternating 1x1 and 3x3."""
        layers: list[nn.Module] = []
        for index, width in enumerate(plan):
            kernel = 1 if len(plan) > 1 and index % 2 == 0 else 3
            layers.append(conv_unit(previous, width, kernel))
            previous = width
        return nn.Sequential(*layers), previous

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        x, features = image, {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in (1, 2):
                features[2 ** (index + 1)] = x
        features[16] = x
        return features


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
