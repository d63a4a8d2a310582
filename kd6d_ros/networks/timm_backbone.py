"""Any convolutional model of the package timm as a backbone, by its name; nothing is ever downloaded.

The weights are random until ``training.weights_file`` or a checkpoint replaces them. The input is normalised as the
weights that timm publishes under this name expect it.

Reference: Wightman, "PyTorch Image Models", github.com/huggingface/pytorch-image-models (Apache-2.0).
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from kd6d_ros.errors import ConfigError
from kd6d_ros.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone

STRIDES = (8, 16, 32)
PROBE = (128, 160)
"""Height and width [px] of the image that shows whether a model's maps are what its description says."""
CURE = 'choose a convolutional model, e.g. timm:resnet18'


class TimmBackbone(Backbone):
    """Feature maps at stride 8 and 16, and at 32 where the model has one; randomly initialised.

    Raises:
        ConfigError: timm is missing or does not load, the name is unknown, or the model has no such maps.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        try:
            model, self.channels = _feature_model(_timm(name), name)
            self.model: nn.Module = model
            self._normalise_like(model.pretrained_cfg)
            self._check_maps()
        except ConfigError:
            raise
        except Exception as error:  # each of timm's models has its own way to say that it cannot
            raise ConfigError(f'{_unusable(name)} ({_first_line(error)}); {CURE}') from None

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        maps = self.model(image * self.scale + self.shift)
        return dict(zip(self.channels, maps, strict=True))

    def _normalise_like(self, config: dict[str, Any]) -> None:
        """From the normalisation of ``KeypointNetwork`` to that of the model."""
        usual_mean, usual_std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        mean, std = torch.tensor(config['mean']), torch.tensor(config['std'])
        self.register_buffer('scale', (usual_std / std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('shift', ((usual_mean - mean) / std).view(1, 3, 1, 1), persistent=False)

    @torch.no_grad()
    def _check_maps(self) -> None:
        """Models for one input size, and maps with other axes or borders, are only found out by trying."""
        height, width = PROBE
        maps = self.eval()(torch.zeros(1, 3, height, width))
        self.train()
        for stride, channels in self.channels.items():
            wanted, got = (1, channels, height // stride, width // stride), tuple(maps[stride].shape)
            if got != wanted:
                raise ConfigError(f'{_unusable(self.name)} (at stride {stride} {got} instead of {wanted}); {CURE}')


def _unusable(name: str) -> str:
    return f'network.backbone: timm:{name} does not give the feature maps that a backbone needs'


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f'{type(error).__name__}: {lines[0][:160]}' if lines else type(error).__name__


def _timm(name: str) -> Any:
    """The module, imported only when a recipe asks for it."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"network.backbone: timm:{name} needs the Python package '{error.name}'; "
            "install it with: pip install 'kd6d_ros[timm]'"
        ) from None
    except Exception as error:  # a torchvision for another torch raises whatever it meets first
        raise ConfigError(
            f'network.backbone: timm:{name}: timm does not load ({_first_line(error)}); '
            f'install the torchvision that fits torch {torch.__version__}'
        ) from None
    return timm


def _feature_model(timm: Any, name: str) -> tuple[Any, dict[int, int]]:
    """The model up to its last map in use, and the channels by stride."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition('.')[0], timm.list_models(), 1, 0.0)[0]
        raise ConfigError(f"network.backbone: timm:{name} is unknown; did you mean 'timm:{near}'?")
    settings = {'pretrained': False, 'features_only': True, 'exportable': True}
    strides = timm.create_model(name, **settings).feature_info.reduction()
    last = {stride: index for index, stride in enumerate(strides) if stride in STRIDES}
    if not {8, 16} <= set(last):
        raise ConfigError(f'{_unusable(name)} (strides {strides}, but 8 and 16 are needed); {CURE}')
    model = timm.create_model(name, **settings, out_indices=tuple(last.values()))
    return model, dict(zip(last, model.feature_info.channels(), strict=True))
