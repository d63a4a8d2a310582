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
        ('darknet53', (8, 16, 32, 64, 128), 256, {4: 128, 8: 256, 16: 512, 32: 1024}),
        ('darknet_tiny', (8, 16, 32, 64), 256, {4: 32, 8: 128, 16: 128}),
        ('darknet_tiny_h', (8, 16, 32, 64), 128, {4: 16, 8: 64, 16: 64}),
        ('efficientnet_lite0', (8, 16, 32, 64), 96, {4: 24, 8: 40, 16: 112, 32: 192}),
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


@pytest.mark.parametrize('strides', [(16,), (8, 16), (8,)])
def test_maps_that_have_no_level_lend_their_context(strides):
    """The backbone ends at stride 32: its last map has no cells of its own here, but the others see it."""
    torch.manual_seed(0)
    network = KeypointNetwork(NetworkSpec('efficientnet_lite0', strides, 32, 1, classes=1)).eval()
    maps = {
        stride: value.detach().requires_grad_() for stride, value in network.backbone(torch.rand(1, 3, 64, 64)).items()
    }
    pyramid = network.pyramid(maps)
    assert [tuple(item.shape[1:]) for item in pyramid] == [(32, 64 // s, 64 // s) for s in strides]
    pyramid[-1].square().mean().backward()
    assert maps[32].grad.abs().sum() > 0
    output = network(torch.zeros(1, 3, 64, 64))
    assert output.logits.shape[1] == sum((64 // s) ** 2 for s in strides)


@pytest.mark.parametrize(
    ('backbone', 'strides'),
    [
        ('darknet_tiny', (16, 32, 64)),
        ('darknet_tiny', (8, 16, 32)),
        ('darknet_tiny_h', (16, 32, 64)),
        ('darknet_tiny_h', (8, 16, 32)),
        ('darknet53', (16, 32, 64)),
        ('darknet53', (8, 16, 32)),
        ('efficientnet_lite0', (16, 32)),
        ('efficientnet_lite0', (8, 16, 32)),
    ],
)
def test_the_surface_has_stride_8_whatever_the_levels(backbone, strides):
    network = KeypointNetwork(NetworkSpec(backbone, strides, 64, 1, classes=3, surface=16)).eval()
    image = torch.zeros(2, 3, 64, 96)
    with torch.no_grad():
        output = network(image)
        deployed = DeployedGraph(network, 8)(torch.zeros(2, 64, 96, 3, dtype=torch.uint8), torch.ones(2, 3) > 0)
    assert output.surface.shape == (2, 3, 4, 8, 12)
    assert output.surface.dtype == torch.float32
    assert len(deployed) == 6
    torch.testing.assert_close(deployed[5], output.surface)


def test_a_surface_cell_sees_its_own_place():
    """A change of the image moves the output most in the cell where it is, and not far away."""
    torch.manual_seed(2)
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, classes=1, surface=16)).eval()
    torch.nn.init.normal_(network.surface.layers[-1].weight, std=0.5)
    image = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        for row, column in ((1, 2), (6, 9)):
            changed = image.clone()
            changed[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255.0
            gap = (network(changed).surface - network(image).surface).abs().sum((0, 1, 2))
            rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(12.0), indexing='ij')
            weight = gap**2 / (gap**2).sum()
            assert abs(float((weight * rows).sum()) - row) < 1.5
            assert abs(float((weight * columns).sum()) - column) < 1.5


def test_the_surface_is_laid_out_class_by_class():
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, classes=3, surface=8)).eval()
    torch.nn.init.zeros_(network.surface.layers[-1].weight)
    network.surface.layers[-1].bias.data.copy_(torch.arange(12.0))
    surface = network(torch.zeros(1, 3, 32, 32)).surface.detach()
    torch.testing.assert_close(surface[0, :, :, 1, 2], torch.arange(12.0).reshape(3, 4))


def test_every_parameter_of_the_surface_gets_a_gradient():
    torch.manual_seed(0)
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, classes=2, surface=16))
    network(torch.rand(2, 3, 64, 96) * 255).surface.square().mean().backward()
    silent = [name for name, p in network.surface.named_parameters() if not p.grad.abs().sum() > 0]
    assert silent == []
    assert network.backbone.stages[0][0][0].weight.grad.abs().sum() > 0  # and it teaches the backbone


@pytest.mark.parametrize('backbone', ['darknet_tiny', 'darknet_tiny_h'])
def test_the_surface_adds_parameters_of_its_own_only(backbone):
    plain = KeypointNetwork(NetworkSpec(backbone, (16, 32), 64, 1, classes=2))
    seeing = KeypointNetwork(NetworkSpec(backbone, (16, 32), 64, 1, classes=2, surface=16))
    assert plain.surface is None
    assert plain(torch.zeros(1, 3, 32, 32)).surface is None
    names = {name for name, _ in seeing.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert {name.split('.')[0] for name in names} == {'surface'}
    inputs = plain.backbone.channels[8] + 64
    expected = (inputs + 1) * 16 + 2 * (9 * 16 + 1) * 16 + 3 * 2 * 16 + (16 + 1) * 4 * 2
    assert parameter_count(seeing) - parameter_count(plain) == expected


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
        ({'surface': 12}, 'network.surface: 12 must be 0 or a multiple of 8'),
        ({'surface': -8}, 'network.surface: -8'),
        ({'kind': 'denze'}, "network.kind: 'denze' is unknown; one of keypoints, dense"),
        ({'backbone': 'resnet34'}, 'resnet34 belongs to network.kind: dense'),
        ({'kind': 'dense', 'decoder': 'unet'}, "network.decoder: 'unet' is unknown; one of compact, aspp"),
        ({'kind': 'dense', 'decoder': 'aspp'}, 'aspp needs network.backbone: resnet34'),
    ],
)
def test_wrong_architectures_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        NetworkSpec(**change)
