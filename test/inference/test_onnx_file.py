"""Weights outside an ONNX file are found wherever the format allows a tensor, and never read from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.errors import BundleError, EngineError
from kd6d_ros.inference.bundle import write_bundle
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine
from kd6d_ros.inference.onnx_file import TREE, tensor_in_another_file

onnx = pytest.importorskip('onnx', reason='makes the test files')


def outside(name='w'):
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[4096])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key='location', value='weights.bin')
    return tensor


def model_with(place):
    """A model whose only tensor outside the file stands at `place`."""
    model = onnx.ModelProto(ir_version=8)
    node = model.graph.node.add(op_type='If')
    attribute = node.attribute.add(name='then_branch')
    {
        'initializer': model.graph.initializer,
        'constant': node.attribute.add().tensors,
        'subgraph': attribute.g.initializer,
        'subgraphs': attribute.graphs.add().initializer,
        'training': model.training_info.add().initialization.initializer,
        'function': model.functions.add().node.add().attribute.add().tensors,
    }.get(place, []).append(outside())
    if place == 'sparse':
        model.graph.sparse_initializer.add().values.CopyFrom(outside())
    if place == 'value of a node':
        node.attribute.add().t.CopyFrom(outside())
    return model


PLACES = (
    'initializer', 'constant', 'subgraph', 'subgraphs', 'training', 'function', 'sparse', 'value of a node',
)  # fmt: skip


@pytest.mark.parametrize('place', PLACES)
def test_weights_outside_are_found_wherever_they_stand(place):
    assert tensor_in_another_file(model_with(place).SerializeToString()) == 'w'


def test_a_network_in_one_file_passes(onnx_file):
    assert tensor_in_another_file(onnx_file.read_bytes()) is None
    assert tensor_in_another_file(model_with('nowhere').SerializeToString()) is None


def test_the_tree_is_all_that_the_installed_onnx_knows():
    """Every field of every message from which a tensor can be reached, and no other."""

    def messages(descriptor):
        return {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}

    def reaches(descriptor, seen=frozenset()):
        if descriptor.name == 'TensorProto':
            return True
        seen = seen | {descriptor.name}
        return any(reaches(child, seen) for child in messages(descriptor).values() if child.name not in seen)

    tree, left = {}, [onnx.ModelProto.DESCRIPTOR]
    while left:
        descriptor = left.pop()
        found = {number: child for number, child in messages(descriptor).items() if reaches(child)}
        tree[descriptor.name] = {number: child.name for number, child in found.items()}
        left += [child for child in found.values() if child.name not in tree]
    assert tree == TREE


def found(data):
    """The tensor in another file, None, or the message of the error."""
    try:
        return tensor_in_another_file(data)
    except ValueError as error:
        return str(error)


@settings(deadline=None)
@given(st.binary(max_size=64), st.integers(0, 2000))
def test_damaged_bytes_are_an_error_or_nothing(noise, place):
    data = model_with('nowhere').SerializeToString()
    place %= len(data)
    for damaged in (noise, data[:place], data[:place] + noise + data[place:]):
        answer = found(damaged)
        assert answer is None or 'not an ONNX file' in answer or tensor_in_another_file(damaged)


@pytest.fixture
def split(onnx_file, tmp_path, monkeypatch):
    """A network that lacks one tensor; the current directory holds the file that the network names."""
    model = onnx.load(onnx_file)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(4096, np.float32), 'more_weights'))
    model.graph.node.append(onnx.helper.make_node('Identity', ['more_weights'], ['more']))
    model.graph.output.append(onnx.helper.make_tensor_value_info('more', onnx.TensorProto.FLOAT, [4096]))
    path = tmp_path / 'split.onnx'
    onnx.save(model, path, save_as_external_data=True, location='weights.bin', size_threshold=1024)
    monkeypatch.chdir(tmp_path)
    return path


def test_onnxruntime_would_read_from_the_current_directory_and_we_do_not(split, bundle):
    runtime = pytest.importorskip('onnxruntime')
    runtime.InferenceSession(split.read_bytes(), providers=['CPUExecutionProvider'])  # why this is checked at all
    with pytest.raises(EngineError, match=r'split\.onnx: its weights \(more_weights\) lie in another file'):
        OnnxRuntimeEngine(bundle, split, 'fp32')


def test_a_bundle_with_weights_outside_is_not_written(split, bundle, tmp_path):
    with pytest.raises(
        BundleError, match=r'its weights \(more_weights\) lie in another file.* save the network as one'
    ):
        write_bundle(
            tmp_path / 'b', name='b', objects=bundle.objects, network=bundle.network, decode=bundle.decode,
            engines={'fp32': split}, licence='CC0-1.0', origin='test',
        )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ['split.onnx', 'weights.bin']
