"""Dense networks: sizes and work against the description, shapes, gradients everywhere."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.networks.backbones import parameter_count  # noqa: E402
from kd6d_ros.networks.dense_network import DenseNetwork  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.macs import count_macs  # noqa: E402
from kd6d_ros.networks.make_network import make_network  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402

STUDENTS = ('darknet_tiny', 'darknet_tiny_h', 'efficientnet_lite0')


def dense(backbone, channels=64, classes=1, decoder='compact'):
    return NetworkSpec(backbone, channels=channels, classes=classes, kind='dense', decoder=decoder)


@pytest.fixture(scope='module')
def described():
    return DenseNetwork(dense('resnet34', 256, 1, 'aspp'))


def test_the_described_teacher_has_the_described_size(described):
    assert parameter_count(described.backbone) == pytest.approx(21.28e6, abs=0.005e6)
    assert parameter_count(described.decoder) == pytest.approx(7.83e6, abs=0.005e6)


def test_the_described_teacher_does_the_described_work(described):
    macs = count_macs(described, 256, 256)
    assert (macs.backbone / 1e9, macs.decoder / 1e9) == pytest.approx((22.6, 32.0), rel=0.005)
    assert macs.total == macs.backbone + macs.decoder


def test_the_described_teacher_gives_128_pixels_for_256(described):
    with torch.no_grad():
        output = described.eval()(torch.zeros(1, 3, 256, 256))
    assert output.mask.shape == (1, 1, 128, 128)
    assert output.code.shape == (1, 1, 16, 128, 128)
    assert described.spec.code_stride == 2


@pytest.mark.parametrize('backbone', STUDENTS)
@pytest.mark.parametrize('classes', [1, 8])
def test_students_stay_within_their_budget(backbone, classes):
    network = DenseNetwork(dense(backbone, 64, classes))
    macs = count_macs(network, 128, 128)
    assert macs.total < 0.3e9
    assert macs.decoder < 0.12e9
    output = network.eval()(torch.zeros(2, 3, 128, 128))
    assert output.mask.shape == (2, classes, 32, 32)
    assert output.code.shape == (2, classes, 16, 32, 32)


def test_the_teacher_for_two_cores_stays_within_its_budget():
    network = DenseNetwork(dense('darknet53', 128))
    assert 1e9 < count_macs(network, 128, 128).total < 3e9


@pytest.mark.parametrize('backbone', [*STUDENTS, 'darknet53', 'resnet34'])
def test_every_trained_parameter_gets_a_gradient(backbone):
    torch.manual_seed(0)
    decoder = 'aspp' if backbone == 'resnet34' else 'compact'
    network = DenseNetwork(dense(backbone, 32, 2, decoder))
    output = network(torch.rand(2, 3, 64, 96) * 255)
    stride = network.spec.code_stride
    assert output.mask.shape == (2, 2, 64 // stride, 96 // stride)
    (output.mask.square().mean() + output.code.square().mean()).backward()
    norms = {name: float(p.grad.abs().sum()) for name, p in network.named_parameters() if p.requires_grad}
    taken_away = [f'decoder.context.{part}.0.bias' for part in ('point', 'join', 'dilated.0', 'dilated.1', 'dilated.2',
                                                                'whole')]  # fmt: skip
    silent = [name for name, norm in norms.items() if norm == 0 and name not in taken_away]
    assert silent == []


def test_the_maps_are_laid_out_class_by_class():
    network = DenseNetwork(dense('darknet_tiny_h', 32, 3)).eval()
    last = network.decoder.output[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data.copy_(torch.arange(51.0))
    output = network(torch.zeros(1, 3, 32, 32))
    torch.testing.assert_close(output.mask[0, :, 3, 4].detach(), torch.tensor([0.0, 17.0, 34.0]))
    torch.testing.assert_close(output.code[0, 1, :, 3, 4].detach(), torch.arange(18.0, 34.0))


@pytest.mark.parametrize('backbone', ['darknet_tiny_h', 'efficientnet_lite0', 'resnet34'])
def test_a_pixel_of_the_map_sees_its_own_place(backbone):
    torch.manual_seed(2)
    decoder = 'aspp' if backbone == 'resnet34' else 'compact'
    network = DenseNetwork(dense(backbone, 32, 1, decoder)).eval()
    image = torch.rand(1, 3, 64, 96) * 255
    stride = network.spec.code_stride
    with torch.no_grad():
        for x, y in ((16, 40), (80, 8)):
            changed = image.clone()
            changed[:, :, y - 4 : y + 4, x - 4 : x + 4] = 255.0
            gap = (network(changed).code - network(image).code).abs().sum((0, 1, 2))
            weight = gap**2 / (gap**2).sum()
            rows, columns = (torch.arange(float(n)) for n in weight.shape)
            assert abs(float((weight.sum(1) * rows).sum()) * stride - y) < 8
            assert abs(float((weight.sum(0) * columns).sum()) * stride - x) < 8


def test_a_backbone_without_a_map_at_stride_4_will_do():
    from kd6d_ros.networks.dense_decoders import CompactDecoder

    decoder = CompactDecoder({8: 12, 16: 20}, 32, 17)
    logits, maps = decoder({8: torch.zeros(1, 12, 8, 8), 16: torch.zeros(1, 20, 4, 4)})
    assert logits.shape == (1, 17, 16, 16)
    assert [tuple(x.shape) for x in maps] == [(1, 32, 4, 4), (1, 32, 8, 8), (1, 32, 16, 16)]


def test_networks_are_made_by_their_kind():
    assert isinstance(make_network(dense('darknet_tiny_h')), DenseNetwork)
    assert isinstance(make_network(NetworkSpec()), KeypointNetwork)


def test_maps_are_float_under_autocast():
    network = DenseNetwork(dense('darknet_tiny_h', 32)).eval()
    with torch.autocast('cpu', torch.bfloat16):
        output = network(torch.zeros(1, 3, 32, 32))
    assert output.mask.dtype == output.code.dtype == torch.float32
