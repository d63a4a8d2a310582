"""The peer of the speed bench has the size it is named for."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason="the peer is built with onnx: pip install '.[train]'")

from kd6d_ros.deployment.belief_map_peer import belief_map_network  # noqa: E402


def test_layers_and_weights_are_those_of_the_published_network():
    model = onnx.load_from_string(belief_map_network(64, 48))
    kernels = [onnx.numpy_helper.to_array(item).shape for item in model.graph.initializer if 'kernel' in item.name]
    # Ten of VGG-19, two that reduce, two branches of 5 layers in stage one and of 7 in each of five more.
    assert len(kernels) == 10 + 2 + 2 * 5 + 5 * 2 * 7
    assert [shape[0] for shape in kernels[:12]] == [64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 256, 128]
    assert kernels[-7] == (128, 128 + 9 + 16, 7, 7)
    assert 4.5e7 < sum(np.prod(shape) for shape in kernels) < 5.5e7


def test_it_runs_and_gives_maps_of_an_eighth():
    runtime = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    session = runtime.InferenceSession(belief_map_network(64, 48), providers=['CPUExecutionProvider'])
    image = np.random.default_rng(0).normal(size=(1, 3, 48, 64)).astype(np.float32)
    beliefs, affinities = session.run(['beliefs', 'affinities'], {'image': image})
    assert beliefs.shape == (1, 9, 6, 8)
    assert affinities.shape == (1, 16, 6, 8)
    assert np.isfinite(beliefs).all()
    assert np.abs(beliefs).max() > 1e-6


def test_odd_sides_are_refused():
    with pytest.raises(ValueError, match='multiples of 8, got 100x48'):
        belief_map_network(100, 48)
