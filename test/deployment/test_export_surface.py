"""Export of the surface branch: the ONNX file computes what PyTorch does, and what differs is refused."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.deployment.equality import check_equal  # noqa: E402
from kd6d_ros.deployment.export import ExportRequest, export_bundle  # noqa: E402
from kd6d_ros.deployment.onnx_export import rounded_weights  # noqa: E402
from kd6d_ros.errors import EngineError  # noqa: E402
from kd6d_ros.inference.bundle import load_bundle  # noqa: E402
from kd6d_ros.inference.engines.select import make_engine  # noqa: E402
from kd6d_ros.networks.deployed_graph import DeployedGraph  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe  # noqa: E402
from kd6d_ros.types import ObjectModel  # noqa: E402

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.02)])
OBJECTS = (ObjectModel('box', 4, 0.123, CORNERS), ObjectModel('can', 9, 0.2, CORNERS * 2))


def make_network(surface=16):
    torch.manual_seed(3)
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, classes=2, surface=surface)).eval()
    torch.nn.init.normal_(network.head.score.weight, std=0.3)
    torch.nn.init.normal_(network.head.offsets.weight, std=0.05)
    if surface:
        torch.nn.init.normal_(network.surface.layers[-1].weight, std=0.1)
    return network


def save(path, network):
    recipe = Recipe('two', network=network.spec, input=InputRecipe(96, 1.5, (160, 128), 64), data=DataRecipe('here'))
    save_checkpoint(path, Checkpoint(network, recipe, OBJECTS, {}))


def exported(folder, network):
    """The bundle of a network at `folder`/two, and the network that it should compute."""
    save(folder / 'final.pt', network)
    bundle = export_bundle(ExportRequest(folder / 'final.pt', folder / 'two'))
    return bundle, rounded_weights(load_checkpoint(folder / 'final.pt').network)


@pytest.mark.parametrize('size', [(96, 96), (128, 160)])  # crop and whole frame, (height, width)
def test_the_surface_of_a_bundle_is_that_of_pytorch(tmp_path, size):
    bundle, rounded = exported(tmp_path, make_network())
    assert bundle.network.surface_stride == 8
    assert bundle.network.architecture.endswith('surface 16')
    engine = make_engine(load_bundle(tmp_path / 'two'), threads=1)
    image = np.random.default_rng(1).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    with torch.no_grad():
        wanted = DeployedGraph(rounded, 64)(torch.from_numpy(image), torch.ones(2, 2, dtype=torch.bool))[5].numpy()
    assert wanted.std() > 0.05  # the answer depends on the place
    for row, cells in enumerate(engine.run(image, np.ones((2, 2), dtype=bool))):
        assert cells.surface.shape == (2, 4, size[0] // 8, size[1] // 8)
        assert cells.surface.dtype == np.float32
        np.testing.assert_allclose(cells.surface, wanted[row], atol=1e-3)
        assert cells.keypoints.shape == (64, 8, 2)


def test_without_the_branch_nothing_promises_a_surface(tmp_path):
    save(tmp_path / 'final.pt', make_network(surface=0))
    bundle = export_bundle(ExportRequest(tmp_path / 'final.pt', tmp_path / 'two'))
    assert bundle.network.surface_stride is None
    assert 'surface' not in bundle.network.architecture
    assert make_engine(bundle).run(np.zeros((1, 96, 96, 3), np.uint8), np.ones((1, 2), dtype=bool))[0].surface is None


@pytest.mark.parametrize(
    ('channel', 'change', 'message'), [(2, 0.02, 'surface points by 0.02'), (3, 0.1, 'masks by 0.1')]
)
def test_a_surface_that_differs_is_refused(tmp_path, channel, change, message):
    network = make_network()
    with torch.no_grad():
        network.surface.layers[-1].bias[3::4] = 3.0  # masks are on, so that their points count
    bundle, rounded = exported(tmp_path, network)
    check_equal(rounded, tmp_path / 'two' / 'model_fp32.onnx', bundle)
    with torch.no_grad():
        rounded.surface.layers[-1].bias[4 + channel] += change  # of the second class
    with pytest.raises(EngineError, match=rf'differs from PyTorch at 2x96x96: .*{message}'):
        check_equal(rounded, tmp_path / 'two' / 'model_fp32.onnx', bundle)


def test_points_outside_the_masks_may_differ(tmp_path):
    """They reach nobody, and a network is not trained on them."""
    network = make_network()
    with torch.no_grad():
        network.surface.layers[-1].weight[3::4] = 0.0
        network.surface.layers[-1].bias[3::4] = -3.0
    bundle, rounded = exported(tmp_path, network)
    with torch.no_grad():
        rounded.surface.layers[-1].bias[0] += 0.5
    check_equal(rounded, tmp_path / 'two' / 'model_fp32.onnx', bundle)


def test_a_bundle_that_does_not_tell_of_its_surface_is_refused(tmp_path):
    bundle, rounded = exported(tmp_path, make_network())
    silent = replace(bundle, network=replace(bundle.network, surface_stride=None))
    with pytest.raises(EngineError, match='without surface_stride'):
        check_equal(rounded, tmp_path / 'two' / 'model_fp32.onnx', silent)
