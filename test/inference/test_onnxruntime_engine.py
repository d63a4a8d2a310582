"""The real ONNX Runtime on a tiny graph with the interface of a bundle's network."""

import builtins
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kd6d_ros.errors import BundleError, ConfigError, EngineError
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.engines.network_io import predictions
from kd6d_ros.inference.engines.select import make_engine
from kd6d_ros.inference.surface import surface_cloud

pytest.importorskip('onnxruntime')


@pytest.fixture
def real(write, onnx_file):
    return write(engines={'fp32': onnx_file})


def test_runs_at_crop_and_frame_size_with_static_shapes(real):
    engine = make_engine(real, threads=1)
    engine.warm_up()
    classes = np.ones((2, 3), dtype=bool)
    for height, width in ((128, 128), (480, 640)):
        image = np.full((2, height, width, 3), 128, dtype=np.uint8)
        image[1] = 64
        first, second = engine.run(image, classes)
        assert first.score == pytest.approx([0.5] * 6)
        assert second.score == pytest.approx([0.25] * 6)
        assert first.keypoints.shape == (6, 8, 2)
        assert (first.centre == [width, height]).all()
        assert first.class_index.tolist() == [0, 1, 2, 0, 1, 2]
    shapes = [session.get_inputs()[0].shape for session in engine._sessions.values()]
    assert sorted(shapes) == [[1, 128, 128, 3], [1, 480, 640, 3]]
    assert engine.precision == 'fp32'
    assert 'onnxruntime' in engine.description
    assert '1 threads' in engine.description


def test_masked_classes_score_zero(real):
    classes = np.array([[False, True, False]])
    out = make_engine(real).run(np.full((1, 128, 128, 3), 128, dtype=np.uint8), classes)[0]
    assert out.score == pytest.approx([0, 0.5, 0, 0, 0.5, 0])


def test_wrong_inputs_are_refused(real):
    engine = make_engine(real)
    fine = np.zeros((1, 128, 128, 3), dtype=np.uint8)
    with pytest.raises(EngineError, match=r'multiples of 8, got uint8 \(1, 100, 128, 3\)'):
        engine.run(fine[:, :100], np.ones((1, 3), dtype=bool))
    with pytest.raises(EngineError, match=r'image: expected uint8 .* got float32'):
        engine.run(fine.astype(np.float32), np.ones((1, 3), dtype=bool))
    with pytest.raises(EngineError, match=r'classes: expected bool \(1, 3\), got bool \(1, 2\)'):
        engine.run(fine, np.ones((1, 2), dtype=bool))


def test_a_file_that_is_no_network_is_one_line(write):
    with pytest.raises(EngineError, match=r'model_fp32\.onnx: not an ONNX file') as error:
        make_engine(write())
    assert '\n' not in str(error.value)


def test_another_network_is_refused(write, tmp_path):
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node('Identity', ['x'], ['y'])],
        'g',
        [value('x', TensorProto.FLOAT, [1])],
        [value('y', TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    path = tmp_path / 'other.onnx'
    onnx.save(model, str(path))
    with pytest.raises(EngineError, match=r"not a network of kd6d_ros: inputs \['x'\]"):
        make_engine(write(engines={'fp32': path}))


def test_missing_onnxruntime_names_the_command(real, monkeypatch):
    real_import = builtins.__import__

    def no_runtime(name, *args, **kwargs):
        if name == 'onnxruntime':
            raise ImportError("No module named 'onnxruntime'")
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, 'onnxruntime', raising=False)
    monkeypatch.setattr(builtins, '__import__', no_runtime)
    with pytest.raises(EngineError, match=r'pip install --user .*-c config/constraints-\w+\.txt onnxruntime'):
        make_engine(real)


def test_unknown_engine_precision_and_threads(real):
    with pytest.raises(ConfigError, match=r"engine 'tpu': expected one of auto, onnxruntime"):
        make_engine(real, 'tpu')
    with pytest.raises(BundleError, match=r"no 'int4' engine: it has fp32"):
        make_engine(real, precision='int4')
    with pytest.raises(ConfigError, match=r'threads: expected 1 .. 256, got 0'):
        make_engine(real, threads=0)


def test_numbers_that_overflowed_never_reach_the_solver(real):
    keypoints = np.zeros((1, 2, 8, 2), dtype=np.float32)
    keypoints[0, 1, 3, 1] = np.nan
    arrays = [
        np.array([[0, 1]]),
        np.array([[np.inf, 0.9]], dtype=np.float32),
        np.array([[0, 0]]),
        np.zeros((1, 2, 2), dtype=np.float32),
        keypoints,
    ]
    out = predictions(real, Path('x.onnx'), arrays, (128, 128))
    assert out.score.tolist() == [0, 0]
    assert np.isfinite(out.keypoints).all()


def with_surface(onnx_file, path, stride, value=2.0):
    """The tiny network with one more output: surface (1, 3, 4, H / stride, W / stride), `value` everywhere."""
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(onnx_file))
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1, 3, 4], np.int64), 'surface_head'),
            numpy_helper.from_array(np.array([1, 2], np.int64), 'surface_sides'),
            numpy_helper.from_array(np.int64(stride), 'surface_stride'),
        ]
    )
    fill = numpy_helper.from_array(np.array([value], np.float32))
    model.graph.node.extend(
        [
            helper.make_node('Gather', ['shape', 'surface_sides'], ['surface_pixels']),
            helper.make_node('Div', ['surface_pixels', 'surface_stride'], ['surface_cells']),
            helper.make_node('Concat', ['surface_head', 'surface_cells'], ['surface_shape'], axis=0),
            helper.make_node('ConstantOfShape', ['surface_shape'], ['surface'], value=fill),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info('surface', TensorProto.FLOAT, ['batch', 3, 4, 'h', 'w']))
    onnx.save(model, str(path))
    return path


def test_the_surface_output_is_read_at_both_sizes(write, network, onnx_file, tmp_path):
    path = with_surface(onnx_file, tmp_path / 'seeing.onnx', 8)
    engine = make_engine(write(engines={'fp32': path}, network=replace(network, surface_stride=8)))
    for height, width in ((128, 128), (480, 640)):
        out = engine.run(np.zeros((1, height, width, 3), np.uint8), np.ones((1, 3), dtype=bool))[0]
        assert out.surface.shape == (3, 4, height // 8, width // 8)
        assert (out.surface == 2.0).all()
        assert out.score.shape == (6,)


def test_a_bundle_without_surface_does_not_read_that_output(write, onnx_file, tmp_path):
    engine = make_engine(write(engines={'fp32': with_surface(onnx_file, tmp_path / 'seeing.onnx', 8)}))
    out = engine.run(np.zeros((1, 128, 128, 3), np.uint8), np.ones((1, 3), dtype=bool))[0]
    assert out.surface is None


def test_a_promised_surface_that_the_graph_lacks_is_named(write, network, onnx_file):
    with pytest.raises(EngineError, match=r'has no output surface, which network\.surface_stride .* promises') as error:
        make_engine(write(engines={'fp32': onnx_file}, network=replace(network, surface_stride=8)))
    assert '\n' not in str(error.value)


def test_a_surface_of_another_stride_is_refused(write, network, onnx_file, tmp_path):
    path = with_surface(onnx_file, tmp_path / 'seeing.onnx', 16)
    engine = make_engine(write(engines={'fp32': path}, network=replace(network, surface_stride=8)))
    with pytest.raises(EngineError, match=r'surface of shape \(3, 4, 8, 8\), expected \(3, 4, 16, 16\): export'):
        engine.run(np.zeros((1, 128, 128, 3), np.uint8), np.ones((1, 3), dtype=bool))


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_surface_that_overflowed_never_reaches_the_solver(write, network, onnx_file, objects, value):
    bundle = replace(write(engines={'fp32': onnx_file}), network=replace(network, surface_stride=8))
    surface = np.full((1, 3, 4, 16, 16), 1.0, dtype=np.float32)
    cells = [np.zeros((1, 2), np.int64), np.zeros((1, 2), np.float32), np.zeros((1, 2), np.int64),
             np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 8, 2), np.float32)]  # fmt: skip
    crop, box = Crop(0, 0, 1, 128, 128), np.array([0.0, 0, 128, 128])
    fine = predictions(bundle, Path('x.onnx'), [*cells, surface], (128, 128))
    assert len(surface_cloud(fine, 0, objects[0], crop, box).points) == 256
    surface[0, 1, 2, 5, 7] = value  # of another class: the whole output is doubtful
    out = predictions(bundle, Path('x.onnx'), [*cells, surface], (128, 128))
    assert np.isfinite(out.surface).all()
    for index, model in enumerate(objects):
        assert len(surface_cloud(out, index, model, crop, box).points) == 0
