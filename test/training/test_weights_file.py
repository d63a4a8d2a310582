"""Weights of the user's own: what of a file fits a backbone, and one line when it does not."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from torch import nn  # noqa: E402

from kd6d_ros.errors import ConfigError  # noqa: E402
from kd6d_ros.training.weights_file import load_weights, read_weights_file  # noqa: E402


def model(channels=4):
    """Named like a feature model: 'stages_0', where the whole model has 'stages.0'."""
    stage = nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels))
    return nn.ModuleDict({'stages_0': stage, 'stages_1': nn.Conv2d(channels, 2, 1)})


def whole(channels=4):
    """A state dict as of the whole model: other names, a classifier, no counted batches."""
    state = model(channels).state_dict()
    named = {name.replace('stages_', 'stages.'): value + 1 for name, value in state.items() if value.ndim}
    return {**named, 'head.weight': torch.zeros(5, 2), 'head.bias': torch.zeros(5)}


@pytest.mark.parametrize('wrap', ['', 'state_dict', 'model'])
@pytest.mark.parametrize('prefix', ['', 'module.', 'model.'])
def test_every_tensor_arrives_under_its_name(tmp_path, wrap, prefix):
    state = {f'{prefix}{name}': value for name, value in whole().items()}
    path = tmp_path / 'weights.pth'
    torch.save({wrap: state, 'epoch': 3} if wrap else state, path)
    network = model()
    load_weights(network, read_weights_file(path), path)
    for name, value in network.state_dict().items():
        if 'num_batches' not in name:
            torch.testing.assert_close(value, state[prefix + name.replace('stages_', 'stages.')])


def test_safetensors_are_read(tmp_path):
    library = pytest.importorskip('safetensors.torch', reason='pip install kd6d_ros[timm]')
    path = tmp_path / 'weights.safetensors'
    library.save_file(whole(), path)
    network = model()
    load_weights(network, read_weights_file(path), path)
    torch.testing.assert_close(network['stages_1'].weight, read_weights_file(path)['stages.1.weight'])
    path.write_bytes(b'\x08\x00')
    with pytest.raises(ConfigError, match='not a readable checkpoint'):
        read_weights_file(path)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'stages.1.weight': torch.zeros(2, 9, 1, 1)},
            '7 of the 8 tensors of the backbone fit; the first that does not is stages_1.weight (2, 4, 1, 1), '
            'the file has (2, 9, 1, 1)',
        ),
        ({'stages.0.1.bias': None}, 'not is stages_0.1.bias (4,), the file has nothing of that name'),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, change, message):
    content = {name: value for name, value in {**whole(), **change}.items() if value is not None}
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigError, match=re.escape(message)) as info:
        load_weights(network, content, tmp_path / 'weights.pth')
    assert '\n' not in str(info.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize('content', [{'epoch': 3}, [1, 2], {'state_dict': {}}, torch.zeros(2)])
def test_a_file_without_weights_is_refused(tmp_path, content):
    with pytest.raises(ConfigError, match='holds no weights; expected a state dict'):
        load_weights(model(), content, tmp_path / 'weights.pth')


def test_pickled_code_in_a_file_is_not_run(tmp_path):
    marker = tmp_path / 'ran'

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), 'w'))

    torch.save({'weights': Evil()}, tmp_path / 'evil.pth')
    with pytest.raises(ConfigError, match='not a readable checkpoint'):
        read_weights_file(tmp_path / 'evil.pth')
    assert not marker.exists()
