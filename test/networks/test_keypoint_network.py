"""Sizes and shapes against the published description of the networks, and gradients everywhere."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.errors import ConfigError  # noqa: E402
from kd6d_ros.networks.backbones import parameter_count  # noqa: E402
from kd6d_ros.networks.deployed_graph import DeployedGraph  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402

FULL = {
    'darknet53': ((8, 16, 32, 64, 128), 256, 51.08e6),
    'darknet_tiny': ((8, 16, 32, 64), 256, 8.36e6),
    'darknet_tiny_h': ((8, 16, 32, 64), 128, 2.24e6),
}


@pytest.mark.parametrize('backbone', FULL)
def test_parameter_counts_match_the_description(backbone):
    strides, channels, expected = FULL[backbone]
    network = KeypointNetwork(NetworkSpec(backbone, strides, channels, classes=15))
    assert parameter_count(network) == pytest.approx(expected, abs=0.006e6)


@pytest.mark.parametrize(
    ('backbone', 'strides', 'channels', 'features'),
    [
        ('darknet53', (8, 16, 32, 64, 128), 256, {8: 256, 16: 512, 32: 1024}),
        ('darknet_tiny', (8, 16, 32, 64), 256, {8: 128, 16: 128}),
        ('darknet_tiny_h', (8, 16, 32, 64), 128, {8: 64, 16: 64}),
    ],
)
def test_feature_shapes(backbone, strides, channels, features):
    network = KeypointNetwork(NetworkSpec(backbone, strides, channels, classes=2))
    image = torch.zeros(1, 3, 128, 128)
    maps = network.backbone(image)
    assert {s: tuple(m.shape[1:]) for s, m in maps.items()} == {s: (c, 128 // s, 128 // s) for s, c in features.items()}
    pyramid = network.pyramid(maps)
    assert [tuple(m.shape[1:]) for m in pyramid] == [(channels, 128 // s, 128 // s) for s in strides]


@pytest.mark.parametrize('norm', ['group', 'batch'])
@pytest.mark.parametrize('strides', [(8, 16, 32, 64), (16, 32, 64), (16,)])
def test_every_parameter_gets_a_gradient(norm, strides):
    torch.manual_seed(0)
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', strides, 64, 2, norm, classes=3))
    output = network(torch.rand(2, 3, 64, 96) * 255)
    cells = sum(-(-64 // s) * -(-96 // s) for s in strides)
    assert output.logits.shape == (2, cells, 3)
    assert output.keypoints.shape == (2, cells, 3, 8, 2)
    (output.logits.square().mean() + output.keypoints.square().mean()).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_cells_are_centred_on_their_pixels():
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 64, 1))
    grid = network(torch.zeros(1, 3, 64, 64)).grid
    first = grid.centre[grid.level == 0]
    np.testing.assert_allclose(first[:2].numpy(), [[7.5, 7.5], [23.5, 7.5]])
    np.testing.assert_allclose(first.mean(0).numpy(), [31.5, 31.5])  # the middle of a 64-pixel image
    np.testing.assert_allclose(grid.centre[grid.level == 1].mean(0).numpy(), [31.5, 31.5])
    assert grid.anchor[grid.level == 1].unique().item() == 128


def test_offsets_are_read_as_eight_x_then_eight_y():
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16,), 64, 1, classes=2)).eval()
    torch.nn.init.zeros_(network.head.offsets.weight)
    values = torch.arange(32, dtype=torch.float32) / 100
    network.head.offsets.bias.data.copy_(values)
    output = network(torch.zeros(1, 3, 16, 16))
    expected = 7.5 + 64 * torch.stack([values[16:24], values[24:32]], -1)  # second class
    torch.testing.assert_close(output.keypoints[0, 0, 1].detach(), expected)


def test_deployed_graph_picks_the_best_cells_of_the_wanted_classes():
    torch.manual_seed(1)
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, classes=3)).eval()
    torch.nn.init.normal_(network.head.score.weight, std=1.0)
    image = torch.randint(0, 255, (1, 96, 96, 3), dtype=torch.uint8)
    wanted = torch.tensor([[False, True, False]])
    class_index, score, level, centre, keypoints = DeployedGraph(network, 16)(image, wanted)
    output = network(image.permute(0, 3, 1, 2).float())
    order = output.logits[0, :, 1].argsort(descending=True)[:16]
    assert (class_index == 1).all()
    torch.testing.assert_close(score[0], torch.sigmoid(output.logits[0, order, 1]))
    torch.testing.assert_close(keypoints[0], output.keypoints[0, order, 1])
    torch.testing.assert_close(centre[0], output.grid.centre[order])
    torch.testing.assert_close(level[0], output.grid.level[order])


def test_small_inputs_are_filled_up_with_score_zero():
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16,), 64, 1)).eval()
    image = torch.zeros((1, 32, 32, 3), dtype=torch.uint8)
    _, score, _, _, keypoints = DeployedGraph(network, 50)(image, torch.ones(1, 1, dtype=torch.bool))
    assert score.shape == (1, 50)
    assert (score[0, 4:] == 0).all()
    assert torch.isfinite(keypoints).all()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'backbone': 'darknet_tny'}, 'darknet_tny'),
        ({'strides': (16, 64)}, 'double'),
        ({'strides': (4, 8)}, 'start at 8 or 16'),
        ({'channels': 100}, 'multiple of 32'),
        ({'norm': 'layer'}, "'layer'"),
        ({'classes': 0}, 'at least one class'),
    ],
)
def test_wrong_architectures_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        NetworkSpec(**change)
