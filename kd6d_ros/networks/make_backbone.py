"""The backbones by their names in a recipe."""

from __future__ import annotations

from collections.abc import Callable

from kd6d_ros.networks.backbones import Backbone, DarkNet53, DarkNetTiny
from kd6d_ros.networks.efficientnet_lite import EfficientNetLite0
from kd6d_ros.networks.resnet import DilatedResNet34
from kd6d_ros.networks.spec import TIMM
from kd6d_ros.networks.timm_backbone import TimmBackbone


def make_backbone(name: str) -> Backbone:
    """The backbone called `name` (see ``NetworkSpec``), randomly initialised.

    Raises:
        ConfigError: a timm model that is not to be had, see ``TimmBackbone``.
    """
    if name.startswith(TIMM):
        return TimmBackbone(name[len(TIMM) :])
    makers: dict[str, Callable[[], Backbone]] = {
        'darknet53': DarkNet53,
        'darknet_tiny': DarkNetTiny,
        'darknet_tiny_h': lambda: DarkNetTiny(0.5),
        'efficientnet_lite0': EfficientNetLite0,
        'resnet34': DilatedResNet34,
    }
    return makers[name]()
