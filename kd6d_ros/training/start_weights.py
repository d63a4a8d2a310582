"""Where a run may start from: ImageNet, a checkpoint, a file of weights for the backbone, or a bundle.

A bundle stands in for a checkpoint that nobody has any more. Its graph holds the weights with batch normalisation
folded into the convolutions, under names that the exporter made up. A twin of the network with random weights is
exported the same way: where a random value of the twin turns up in its graph is where the bundle's graph has the
trained one. The unfolded normalisation then gets the statistics of training windows, and a scale and shift that undo
them: the network computes what the bundle computes, and can be trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from kd6d_ros.deployment.onnx_export import export_graph
from kd6d_ros.errors import BundleError, ConfigError
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.networks.backbones import Backbone
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.make_backbone import make_backbone
from kd6d_ros.networks.spec import TIMM, NetworkSpec
from kd6d_ros.networks.timm_backbone import TimmBackbone
from kd6d_ros.strict_yaml import from_mapping
from kd6d_ros.training.checkpoint import any_checkpoint, is_checkpoint
from kd6d_ros.training.imagenet import IMAGENET, load_imagenet
from kd6d_ros.training.weights_file import load_weights, read_weights_file

if TYPE_CHECKING:
    from kd6d_ros.networks.make_network import AnyNetwork
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.types import AnyArray


class Start(NamedTuple):
    """A network (evaluation mode) to start from; unfolded: its batch normalisation needs ``recalibrate``."""

    network: nn.Module
    unfolded: bool


def start_network(recipe: Recipe) -> Start | None:
    """What `recipe.initial_weights` names: a checkpoint, a bundle folder, ImageNet, or a state dict (.pth or
    .safetensors) of the backbone if that is a timm model; None for nothing.

    Raises:
        ConfigError: none of these, ImageNet weights that are not to be had, or a state dict of another model.
        BundleError: a damaged bundle, or one of another exporter.
    """
    if not recipe.initial_weights:
        return None
    if recipe.initial_weights == IMAGENET:
        backbone = make_backbone(recipe.network.backbone)
        load_imagenet(backbone)
        return _start_of(backbone)
    path = Path(recipe.initial_weights)
    if path.is_dir():
        return Start(network_of_bundle(path), unfolded=True)
    content = read_weights_file(path)
    if recipe.network.backbone.startswith(TIMM) and not is_checkpoint(content):
        backbone = make_backbone(recipe.network.backbone)
        assert isinstance(backbone, TimmBackbone)
        load_weights(backbone.model, content, path)
        return _start_of(backbone)
    return Start(any_checkpoint(content, path).network, unfolded=False)


def _start_of(backbone: Backbone) -> Start:
    return Start(nn.ModuleDict({'backbone': backbone}).eval(), unfolded=False)


def take_weights(network: nn.Module, start: nn.Module) -> None:
    """Overwrite every weight of `network` whose name and shape `start` knows."""
    network.load_state_dict(_fitting(network, start), strict=False)


def check_fixed_weights(network: AnyNetwork, start: Start | None) -> None:
    """Refuse to train around random weights that training leaves as they are.

    Raises:
        ConfigError: a parameter of `network` is not trained, and `start` has no value for it.
    """
    given = {} if start is None else _fitting(network, start.network)
    if any(not p.requires_grad and name not in given for name, p in network.named_parameters()):
        source = 'initial_weights is not set' if start is None else 'initial_weights has none for this backbone'
        raise ConfigError(
            f'network.backbone: {network.spec.backbone} keeps its first blocks and depthwise kernels as they start, '
            f'and {source}; set initial_weights to imagenet, or to a bundle or checkpoint with this backbone'
        )


def _fitting(network: nn.Module, start: nn.Module) -> dict[str, Tensor]:
    own = network.state_dict()
    return {k: v for k, v in start.state_dict().items() if k in own and own[k].shape == v.shape}


def network_of_bundle(folder: Path) -> KeypointNetwork:
    """The network of a bundle; its batch normalisation has no statistics yet (``recalibrate``)."""
    bundle = load_bundle(folder)
    if bundle.kind == 'dense':  # biases before a normalisation are one with it in the graph
        raise BundleError(f'{folder}: a dense network can only start from a checkpoint')
    recipe = bundle.training.get('recipe')
    if not isinstance(recipe, dict) or 'network' not in recipe:
        raise BundleError(f'{folder}: its manifest does not say how the network is built (training.recipe.network)')
    spec = from_mapping(NetworkSpec, recipe['network'], f'{folder}: training.recipe.network')
    if spec.norm == 'batch':  # one convolution folded with the normalisation of each level: several of one
        raise BundleError(f'{folder}: a network with norm: batch can only start from a checkpoint')
    network = _twin(spec)
    size = bundle.network.crop_size
    model = export_graph(network, size, bundle.network.max_cells)
    trained = onnx.load_from_string(bundle.engine_path('fp32').read_bytes())
    _copy_weights(network, _initialisers(model), _initialisers(trained), folder)
    return network.eval()


def _twin(spec: NetworkSpec) -> KeypointNetwork:
    """A network in which every value is random, and whose normalisation folds to its shift alone."""
    network = KeypointNetwork(spec).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
        for layer in _normalisations(network):
            mean, variance = _statistics(layer)
            mean.zero_()
            variance.fill_(1.0 - layer.eps)
            layer.weight.fill_(1.0)
    return network


def _initialisers(model: onnx.ModelProto) -> dict[str, AnyArray]:
    return {item.name: numpy_helper.to_array(item).astype(np.float32) for item in model.graph.initializer}


def _copy_weights(
    network: KeypointNetwork, twin: dict[str, AnyArray], trained: dict[str, AnyArray], folder: Path
) -> None:
    """Overwrite the random values of `network`, found in `twin`, with those of `trained` at the same place."""
    if [(k, v.shape) for k, v in twin.items()] != [(k, v.shape) for k, v in trained.items()]:
        raise BundleError(f'{folder}: exported by another version, its weights cannot be told apart; use a checkpoint')
    skipped = {id(layer.weight) for layer in _normalisations(network)}
    left = dict(twin)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if id(parameter) in skipped:
                continue
            for value, key in _pieces(parameter, left, f'{folder}: {name}'):
                value.copy_(torch.from_numpy(trained[key].reshape(value.shape)))
                left.pop(key)


def _pieces(parameter: Tensor, left: dict[str, AnyArray], where: str) -> list[tuple[Tensor, str]]:
    """Where the values of a parameter stand: in one initialiser, or one by one (the scales of the levels)."""
    whole = _find(parameter, left)
    if whole is not None:
        return [(parameter, whole)]
    parts = [(part, _find(part, left)) for part in parameter] if parameter.ndim == 1 else []
    if not parts or any(key is None for _, key in parts):
        raise BundleError(f'{where}: not found in the graph; use a checkpoint')
    return [(part, key) for part, key in parts if key is not None]


def _find(value: Tensor, left: dict[str, AnyArray]) -> str | None:
    wanted = value.detach().numpy().reshape(-1)
    for key, array in left.items():
        if array.size == wanted.size and np.allclose(array.reshape(-1), wanted, rtol=1e-3, atol=0):
            return key
    return None


def _normalisations(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def _statistics(layer: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance, which layers of this package always keep."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


@torch.no_grad()
def recalibrate(network: nn.Module, images: Tensor) -> None:
    """Give every batch normalisation the statistics of `images` (N, 3, S, S) without changing the output.

    Raises:
        ConfigError: no images.
    """
    if not len(images):
        raise ConfigError('recalibration needs at least one window')
    network.eval()
    for layer in _normalisations(network):
        seen: list[Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        network(images.float())
        hook.remove()
        if not seen:
            continue
        values = torch.cat([x.transpose(0, 1).flatten(1) for x in seen], 1)
        mean, variance = values.mean(1), values.var(1)
        kept_mean, kept_variance = _statistics(layer)
        scale = layer.weight / (kept_variance + layer.eps).sqrt()
        shift = layer.bias - scale * kept_mean
        layer.weight.copy_(scale * (variance + layer.eps).sqrt())
        layer.bias.copy_(shift + scale * mean)
        kept_mean.copy_(mean)
        kept_variance.copy_(variance)
