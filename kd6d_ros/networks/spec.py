"""What a network looks like, as plain data (no torch): recipes and checkpoints carry it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kd6d_ros.errors import ConfigError

KINDS = ('keypoints', 'dense')
BACKBONES = ('darknet53', 'darknet_tiny', 'darknet_tiny_h', 'efficientnet_lite0', 'resnet34')
DENSE_BACKBONE = 'resnet34'
"""Of dense networks only: its coarsest map has stride 8."""
DECODERS = ('compact', 'aspp')
TIMM = 'timm:'
"""Before the name of a model of the package timm, which may carry the tag of its weights: timm:resnet18.a1_in1k."""
TIMM_BACKBONE = re.compile(r'timm:[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?')
NORMS = ('group', 'batch')
LABEL_STEP = 4
"""The centre pixel of a cell of any stride is a multiple of this: a window's instance map at this step says which
object lies under the cells of every network, student or teacher."""


@dataclass(frozen=True)
class NetworkSpec:
    """Architecture of one network.

    kind: 'keypoints', corners of boxes, or 'dense', a surface code for every pixel. backbone: one of BACKBONES, or
    timm:NAME; ``TimmBackbone`` finds out whether there is such a model. channels: width of pyramid and head, or of
    the decoder. classes: number of objects.

    Keypoints only: strides: pyramid levels in use, consecutive powers of two, finest first; the anchor size of a
    level is 4 times its stride. head_convs: 3x3 convolutions per tower. norm: 'group' (32 groups, as in the method)
    or 'batch' (one per level, as the statistics of levels differ). surface: width of the branch that says which
    point of which object lies under each stride-8 cell; 0 for none.

    Dense only: decoder: 'compact', or 'aspp', that of ZebraPose.
    """

    backbone: str = 'darknet_tiny_h'
    strides: tuple[int, ...] = (16, 32, 64)
    channels: int = 128
    head_convs: int = 4
    norm: str = 'group'
    classes: int = 1
    surface: int = 0
    kind: str = 'keypoints'
    decoder: str = 'compact'

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f'network.kind: {self.kind!r} is unknown; one of {", ".join(KINDS)}')
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
        if self.kind == 'keypoints' and self.backbone == DENSE_BACKBONE:
            raise ConfigError(f'network.backbone: {self.backbone} belongs to network.kind: dense')
        if self.decoder not in DECODERS:
            raise ConfigError(f'network.decoder: {self.decoder!r} is unknown; one of {", ".join(DECODERS)}')
        if self.decoder == 'aspp' and self.backbone != DENSE_BACKBONE:
            raise ConfigError(f'network.decoder: aspp needs network.backbone: {DENSE_BACKBONE}, got {self.backbone}')

    @property
    def input_multiple(self) -> int:
        """Input width and height must be multiples of this: the coarsest stride of the backbone (32 for every
        timm model, as nearly all have a map of that stride)."""
        return {'darknet_tiny': 16, 'darknet_tiny_h': 16, DENSE_BACKBONE: 8}.get(self.backbone, 32)

    @property
    def learns_surface(self) -> bool:
        """Whether depth images are needed to train it."""
        return self.kind == 'dense' or self.surface > 0

    @property
    def code_stride(self) -> int:
        """Network px per pixel of a dense network's maps, in both directions."""
        return 2 if self.decoder == 'aspp' else 4

    @property
    def anchor_sizes(self) -> tuple[float, ...]:
        """Object size [network px] that each level is made for (32 at stride 8 ... 512 at 128)."""
        return tuple(4.0 * stride for stride in self.strides)
