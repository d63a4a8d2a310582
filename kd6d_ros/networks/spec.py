"""What a keypoint network looks like, as plain data (no torch): recipes and checkpoints carry it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kd6d_ros.errors import ConfigError

BACKBONES = ('darknet53', 'darknet_tiny', 'darknet_tiny_h', 'efficientnet_lite0')
TIMM = 'timm:'
"""Before the name of a model of the package timm, which may carry the tag of its weights: timm:resnet18.a1_in1k."""
TIMM_BACKBONE = re.compile(r'timm:[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?')
NORMS = ('group', 'batch')
LABEL_STEP = 4
"""The centre pixel of a cell of any stride is a multiple of this: a window's instance map at this step says which
object lies under the cells of every network, student or teacher."""


@dataclass(frozen=True)
class NetworkSpec:
    """Architecture of one keypoint network.

    backbone: one of BACKBONES, or timm:NAME; ``TimmBackbone`` finds out whether there is such a model.
    strides: pyramid levels in use, consecutive powers of two, finest first; the anchor size of a level is 4
    times its stride. channels: width of pyramid and head. head_convs: 3x3 convolutions per tower. norm:
    'group' (32 groups, as in the method) or 'batch' (one per level, as the statistics of levels differ).
    classes: number of objects. surface: width of the branch that says which point of which object lies under
    each stride-8 cell; 0 for none.
    """

    backbone: str = 'darknet_tiny_h'
    strides: tuple[int, ...] = (16, 32, 64)
    channels: int = 128
    head_convs: int = 4
    norm: str = 'group'
    classes: int = 1
    surface: int = 0

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES and not TIMM_BACKBONE.fullmatch(self.backbone):
            known = ', '.join((*BACKBONES, 'timm:NAME'))
            raise ConfigError(f'network.backbone: {self.backbone!r} is unknown; one of {known}')
        if self.norm not in NORMS:
            raise ConfigError(f'network.norm: {self.norm!r} is unknown; one of {", ".join(NORMS)}')
        doubling = all(b == 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False))
        if not self.strides or self.strides[0] not in (8, 16) or not doubling:
            raise ConfigError(
                f'network.strides: {list(self.strides)} must start at 8 or 16 and double, e.g. [16, 32, 64]'
            )
        if self.channels % 32 or self.channels < 32:
            raise ConfigError(f'network.channels: {self.channels} must be a multiple of 32')
        if self.classes < 1 or not 0 <= self.head_convs <= 8:
            raise ConfigError('network: needs at least one class and 0 to 8 head_convs')
        if self.surface < 0 or self.surface % 8:
            raise ConfigError(f'network.surface: {self.surface} must be 0 or a multiple of 8')

    @property
    def input_multiple(self) -> int:
        """Input width and height must be multiples of this: the coarsest stride of the backbone (32 for every
        timm model, as nearly all have a map of that stride)."""
        return 16 if self.backbone in ('darknet_tiny', 'darknet_tiny_h') else 32

    @property
    def anchor_sizes(self) -> tuple[float, ...]:
        """Object size [network px] that each level is made for (32 at stride 8 ... 512 at 128)."""
        return tuple(4.0 * stride for stride in self.strides)
