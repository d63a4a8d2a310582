"""The user's own pretrained weights of a backbone: a state dict in a file, read without running code from it.

The names are those of the model in timm; timm's feature models write some of them with '_' instead of '.'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd6d_ros.errors import ConfigError

SAFETENSORS = '.safetensors'
WRAPPERS = ('state_dict', 'model')
"""Keys under which training programs put the state dict into a file that holds more."""
PREFIXES = ('module.', 'model.', 'body.')
"""Before the names of a model that was trained or is used inside another one."""


def read_weights_file(path: Path) -> Any:
    """What a .safetensors file, or any other as a file of torch.save, holds; tensors and plain containers only.

    Raises:
        ConfigError: no such file, not readable, or safetensors is not installed.
    """
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f'{path}: no such checkpoint; `kd6d train` writes <out>/final.pt') from None
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path}: needs the Python package 'safetensors'; install it with: pip install 'kd6d_ros[timm]'"
        ) from None
    except Exception as err:  # both raise many kinds for a damaged file
        raise ConfigError(f'{path}: not a readable checkpoint ({type(err).__name__})') from None


def load_weights(model: nn.Module, content: Any, path: Path) -> None:
    """Overwrite every tensor of `model` with the one of its name in `content`; others in there are left over.

    Raises:
        ConfigError: `content` of the file `path` is no state dict, or does not have every tensor in its shape.
    """
    given = {_plain(name): value for name, value in _state_dict(content, path).items()}
    own = model.state_dict()
    fitting = {name: given[_plain(name)] for name, value in own.items()
               if _plain(name) in given and given[_plain(name)].shape == value.shape}  # fmt: skip
    needed = [name for name in own if not name.endswith('num_batches_tracked')]  # old files do not count batches
    unfit = [name for name in needed if name not in fitting]
    if unfit:
        first, found = unfit[0], given.get(_plain(unfit[0]))
        has = 'nothing of that name' if found is None else f'{tuple(found.shape)}'
        raise ConfigError(
            f'{path}: {len(needed) - len(unfit)} of the {len(needed)} tensors of the backbone fit; the first that does '
            f'not is {first} {tuple(own[first].shape)}, the file has {has}'
        )
    model.load_state_dict(fitting, strict=False)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise ConfigError(f'{path}: holds no weights; expected a state dict, tensors by their names')
    return tensors


def _plain(name: str) -> str:
    """The name without what differs between a model and its feature model."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace('.', '_')
