"""Multiply-adds against the published figures of the networks, and against counting by hand."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.macs import count_macs  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402

FULL = {
    'darknet53': ((8, 16, 32, 64, 128), 256),
    'darknet_tiny': ((8, 16, 32, 64), 256),
    'darknet_tiny_h': ((8, 16, 32, 64), 128),
}
GIGA = {
    ('darknet53', 15): (9.28, 0.95, 7.24, 17.47),
    ('darknet_tiny', 15): (0.61, 0.83, 7.22, 8.65),
    ('darknet_tiny_h', 15): (0.16, 0.21, 2.00, 2.37),
    ('darknet53', 1): (9.28, 0.95, 6.49, 16.72),
    ('darknet_tiny', 1): (0.61, 0.83, 6.47, 7.91),
    ('darknet_tiny_h', 1): (0.16, 0.21, 1.63, 2.00),
}
"""Backbone, pyramid, head and total at 256x256, by backbone and number of classes."""


def giga(macs):
    return tuple(value / 1e9 for value in (macs.backbone, macs.pyramid, macs.head, macs.total))


@pytest.mark.parametrize(('backbone', 'classes'), GIGA)
def test_macs_match_the_description(backbone, classes):
    strides, channels = FULL[backbone]
    macs = count_macs(KeypointNetwork(NetworkSpec(backbone, strides, channels, classes=classes)), 256, 256)
    assert giga(macs) == pytest.approx(GIGA[backbone, classes], rel=0.01, abs=0.005)
    assert macs.surface == 0


def test_the_level_of_stride_8_is_most_of_the_work():
    whole, coarse = (
        count_macs(KeypointNetwork(NetworkSpec('darknet_tiny_h', strides, 128, classes=15)), 256, 256)
        for strides in ((8, 16, 32, 64), (16, 32, 64))
    )
    assert (whole.total - coarse.total) / 1e9 == pytest.approx(1.66, rel=0.01)
    assert whole.backbone == coarse.backbone


def test_the_parts_are_those_counted_by_hand():
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, classes=3, surface=16))
    macs = count_macs(network, 96, 64)
    fine, coarse = 6 * 4, 3 * 2
    lateral, output, down = 64 * 64, 9 * 64 * 64, 9 * 64 * 64
    assert macs.pyramid == fine * (lateral + output) + coarse * down
    assert macs.head == (fine + coarse) * 9 * 64 * (2 * 64 + 3 + 48)
    cells, inputs = 12 * 8, network.backbone.channels[8] + 64
    assert macs.surface == cells * (inputs * 16 + 2 * 9 * 16 * 16 + 16 * 4 * 3)
    assert macs.total == macs.backbone + macs.pyramid + macs.head + macs.surface


def test_depthwise_convolutions_count_one_input_channel():
    network = KeypointNetwork(NetworkSpec('efficientnet_lite0', (16, 32), 32, 0))
    first = network.backbone.blocks[0]  # depthwise 3x3 of 32 channels, then 1x1 to 16
    without = count_macs(network, 64, 64).backbone
    first.depthwise = torch.nn.Identity()
    assert without - count_macs(network, 64, 64).backbone == 32 * 32 * 9 * 32


@pytest.mark.parametrize('training', [True, False])
def test_counting_leaves_the_network_as_it_was(training):
    network = KeypointNetwork(NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, 'batch')).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_macs(network, 64, 64)
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
