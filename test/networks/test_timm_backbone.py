"""Models of timm as backbones: their maps, gradients, export, checkpoints, and one line for each mistake."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
pytest.importorskip('onnx', reason='onnx is not installed: pip install kd6d_ros[train]')

from kd6d_ros.deployment.export import ExportRequest, export_bundle  # noqa: E402
from kd6d_ros.deployment.onnx_export import rounded_weights  # noqa: E402
from kd6d_ros.errors import ConfigError  # noqa: E402
from kd6d_ros.inference.bundle import load_bundle  # noqa: E402
from kd6d_ros.inference.engines.select import make_engine  # noqa: E402
from kd6d_ros.networks.deployed_graph import DeployedGraph  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.macs import count_macs  # noqa: E402
from kd6d_ros.networks.make_backbone import make_backbone  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe  # noqa: E402
from kd6d_ros.training.start_weights import network_of_bundle, recalibrate, start_network, take_weights  # noqa: E402
from kd6d_ros.types import ObjectModel  # noqa: E402

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.02)])
TINY = 'test_efficientnet'
"""80 000 parameters; part of timm for tests like these."""


@pytest.fixture
def timm():
    try:
        import timm
    except Exception as error:  # a torchvision for another torch raises whatever it meets first
        pytest.skip(f'timm does not load ({type(error).__name__}): pip install kd6d_ros[timm]')
    return timm


def spec(name=TINY, strides=(16, 32), surface=16):
    return NetworkSpec(f'timm:{name}', strides, 32, 1, classes=2, surface=surface)


def trained(name=TINY):
    """A network whose every parameter and statistic differs from its initial value."""
    torch.manual_seed(3)
    network = KeypointNetwork(spec(name))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.train()
    for _ in range(3):
        network(torch.rand(4, 3, 64, 64) * 255)
    return network.eval()


def saved(path, network):
    inputs = InputRecipe(64, frame_size=(96, 64), max_cells=40)
    recipe = Recipe(data=DataRecipe(train='x'), network=network.spec, input=inputs)
    objects = tuple(ObjectModel(f'thing_{i}', i, 2 * float(np.linalg.norm(CORNERS[0])), CORNERS) for i in (1, 2))
    save_checkpoint(path, Checkpoint(network, recipe, objects, {'parameters': 1}))
    return path


def starting_from(path, name=TINY):
    return Recipe(initial_weights=str(path), data=DataRecipe(train='x'), network=spec(name))


@pytest.mark.parametrize(
    ('name', 'channels'),
    [
        ('resnet18', {8: 128, 16: 256, 32: 512}),
        ('mobilenetv3_small_100', {8: 24, 16: 48, 32: 576}),
        ('convnext_atto', {8: 80, 16: 160, 32: 320}),
        (TINY, {8: 32, 16: 48, 32: 64}),
    ],
)
def test_feature_shapes(timm, name, channels):
    network = KeypointNetwork(spec(name, (8, 16, 32, 64)))
    assert network.backbone.channels == channels
    maps = network.backbone(torch.zeros(2, 3, 64, 128))
    assert {s: tuple(m.shape) for s, m in maps.items()} == {s: (2, c, 64 // s, 128 // s) for s, c in channels.items()}
    assert network(torch.zeros(2, 3, 64, 128)).surface.shape == (2, 2, 4, 8, 16)
    assert network.spec.input_multiple == 32


@pytest.mark.parametrize('name', [TINY, 'mobilenetv3_small_100', 'resnet18'])
def test_every_parameter_gets_a_gradient(timm, name):
    torch.manual_seed(0)
    network = KeypointNetwork(spec(name))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # timm starts residual branches at zero
    output = network(torch.rand(4, 3, 128, 96) * 255)
    (output.logits.square().mean() + output.keypoints.square().mean() + output.surface.square().mean()).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_a_model_without_a_map_of_stride_32_is_used_up_to_16(timm, monkeypatch):
    whole = timm.create_model

    def shorter(name, **settings):
        settings['out_indices'] = settings.get('out_indices', (0, 1, 2, 3))
        return whole(name, **settings)

    monkeypatch.setattr(timm, 'create_model', shorter)
    backbone = make_backbone(f'timm:{TINY}').eval()
    assert backbone.channels == {8: 32, 16: 48}
    assert sorted(backbone(torch.zeros(1, 3, 32, 32))) == [8, 16]
    for strides, cells in (((8, 16), 80), ((8,), 64)):
        assert KeypointNetwork(spec(strides=strides)).eval()(torch.zeros(1, 3, 64, 64)).logits.shape[1] == cells


def test_the_input_is_normalised_as_the_weights_of_the_model_expect(timm):
    backbone = make_backbone('timm:test_resnet').eval()  # mean and deviation 0.5
    assert backbone.model.pretrained_cfg['mean'] == (0.5, 0.5, 0.5)
    image = torch.rand(1, 3, 64, 64)
    usual = (image - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        1, 3, 1, 1
    )
    with torch.no_grad():
        wanted = backbone.model((image - 0.5) / 0.5)
        for got, expected in zip(backbone(usual).values(), wanted, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_the_tag_of_the_weights_decides_on_the_normalisation(timm):
    usual, other = (make_backbone(f'timm:mobilenetv3_large_100.{tag}') for tag in ('ra_in1k', 'miil_in21k_ft_in1k'))
    assert usual.scale.unique().tolist() == [1.0]
    assert usual.shift.unique().tolist() == [0.0]
    torch.testing.assert_close(other.scale.flatten(), torch.tensor([0.229, 0.224, 0.225]))  # expects 0..1
    torch.testing.assert_close(other.shift.flatten(), torch.tensor([0.485, 0.456, 0.406]))


@pytest.mark.parametrize('name', [TINY, 'mobilenetv3_small_100', 'resnet18', 'convnext_atto'])
def test_a_bundle_computes_what_pytorch_does(timm, tmp_path, name):
    network = trained(name)
    bundle = export_bundle(ExportRequest(saved(tmp_path / 'final.pt', network), tmp_path / 'b'))  # compares as well
    engine = make_engine(load_bundle(tmp_path / 'b'), threads=1)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    cells = engine.run(image, np.array([[True, True]]))[0]
    graph = DeployedGraph(rounded_weights(load_checkpoint(tmp_path / 'final.pt').network), 40)
    with torch.no_grad():
        outputs = graph(torch.from_numpy(image), torch.ones(1, 2, dtype=torch.bool))
    np.testing.assert_allclose(cells.score, outputs[1][0].numpy(), atol=2e-3)
    np.testing.assert_allclose(cells.surface, outputs[5][0].numpy(), rtol=0.02, atol=0.02)
    assert bundle.network.architecture.startswith(f'timm:{name} strides [16, 32]')
    assert bundle.network.frame_macs == count_macs(network, 96, 64).total
    assert count_macs(network, 96, 64).backbone > 0


def test_checkpoint_round_trip(timm, tmp_path):
    network = trained()
    again = load_checkpoint(saved(tmp_path / 'final.pt', network)).network
    assert again.spec == network.spec
    for name, value in network.state_dict().items():
        tolerance = {'rtol': 2**-11, 'atol': 6e-8} if value.ndim > 1 else {'rtol': 0.0, 'atol': 0.0}
        torch.testing.assert_close(again.state_dict()[name], value, **tolerance)
    start = start_network(starting_from(tmp_path / 'final.pt'))  # a checkpoint is a start, as for every backbone
    torch.testing.assert_close(start.network.state_dict(), again.state_dict())


def test_the_network_of_a_bundle_comes_back(timm, tmp_path):
    network = trained()
    export_bundle(ExportRequest(saved(tmp_path / 'final.pt', network), tmp_path / 'b'))
    again = network_of_bundle(tmp_path / 'b')
    images = torch.rand(8, 3, 64, 64) * 255
    recalibrate(again, images)
    with torch.no_grad():
        got, wanted = again(images), network(images)
    assert float((got.keypoints - wanted.keypoints).std() / wanted.keypoints.std()) < 1.5e-2


@pytest.mark.parametrize('name', [TINY, 'convnext_atto'])
@pytest.mark.parametrize('kind', ['weights.pth', 'wrapped.pth', 'weights.safetensors'])
def test_a_run_starts_from_a_file_of_weights(timm, tmp_path, name, kind):
    torch.manual_seed(5)
    model = timm.create_model(name, num_classes=7).eval()  # the whole model, with its classifier
    path = tmp_path / kind
    if kind == 'weights.safetensors':
        pytest.importorskip('safetensors.torch').save_file(model.state_dict(), path)
    else:
        state = model.state_dict()
        wrapped = {'epoch': 3, 'state_dict': {f'module.{key}': value for key, value in state.items()}}
        torch.save(wrapped if kind == 'wrapped.pth' else state, path)
    recipe = starting_from(path, name)
    network = KeypointNetwork(recipe.network).eval()
    start = start_network(recipe)
    assert not start.unfolded
    take_weights(network, start.network)
    image = torch.rand(1, 3, 64, 64)
    _, wanted = model.forward_intermediates(image, output_fmt='NCHW')
    maps = network.backbone(image)
    with torch.no_grad():
        for stride in (8, 16):
            expected = [x for x in wanted if x.shape[2] == 64 // stride][-1]
            torch.testing.assert_close(maps[stride], expected, rtol=1e-4, atol=1e-4)


def test_weights_of_another_model_are_one_line(timm, tmp_path):
    other = timm.create_model('test_resnet')
    torch.save(other.state_dict(), tmp_path / 'other.pth')
    state = timm.create_model(TINY).state_dict()
    torch.save({**state, 'conv_stem.weight': torch.zeros(24, 1, 3, 3)}, tmp_path / 'grey.pth')
    torch.save({'epoch': 3}, tmp_path / 'none.pth')
    for name, message in (
        ('other.pth', r'other\.pth: 0 of the \d+ tensors of the backbone fit; the first .* is conv_stem\.weight'),
        ('grey.pth', r'conv_stem\.weight \(24, 3, 3, 3\), the file has \(24, 1, 3, 3\)'),
        ('none.pth', 'holds no weights'),
        ('nowhere.pth', 'no such'),
        ('nowhere.safetensors', 'no such'),
    ):
        with pytest.raises(ConfigError, match=message) as info:
            start_network(starting_from(tmp_path / name))
        assert '\n' not in str(info.value)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('resnet81', "timm:resnet81 is unknown; did you mean 'timm:resnet"),
        ('resnet18.nonsense', r'timm:resnet18\.nonsense does not give .*nonsense.*choose a convolutional model'),
        ('vit_tiny_patch16_224', r'timm:vit_tiny_patch16_224 does not give .* 8 and 16 are needed'),
        ('swin_tiny_patch4_window7_224', 'timm:swin_tiny_patch4_window7_224 does not give'),
        ('inception_v4', r'timm:inception_v4 does not give .* \(at stride 8 '),
    ],
)
def test_models_that_cannot_be_backbones_are_one_line(timm, name, message):
    with pytest.raises(ConfigError, match=message) as info:
        make_backbone(f'timm:{name}')
    assert '\n' not in str(info.value)


@pytest.mark.parametrize('backbone', ['timm:', 'timm:hf-hub:some/model', 'timm:a b', 'timm:../x', 'resnet18'])
def test_names_that_timm_would_fetch_or_nobody_knows_are_refused_without_timm(backbone):
    with pytest.raises(ConfigError, match=r'network\.backbone: .* is unknown; one of darknet53, .*, timm:NAME'):
        NetworkSpec(backbone)


def test_a_missing_timm_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ConfigError, match=r"timm:resnet18 needs .* 'timm'; .* pip install 'kd6d_ros\[timm\]'"):
        make_backbone('timm:resnet18')


def test_a_timm_that_does_not_load_is_named_with_its_cure(monkeypatch, tmp_path):
    (tmp_path / 'timm.py').write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    for name in [name for name in sys.modules if name.partition('.')[0] == 'timm']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r'timm does not load \(.*nms does not exist\); install the torchvision'):
        make_backbone('timm:resnet18')
