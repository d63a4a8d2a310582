"""The tiny network of the engine tests: how it was made. It is kept as a file, so that the engine is tested
where the onnx package is not installed. Run this file as a script to write it again."""

import sys
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).with_name('tiny_network.onnx')


def tiny_network(max_cells=6, classes=3):
    """An ONNX graph with the interface of a bundle's network.

    Row i of the output says: class i % C, score from the image's mean through a float16 weight, keypoints
    equal to (width, height) of the image: so a test sees which size ran, and that masks are obeyed.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    index = np.arange(max_cells, dtype=np.int64)[None] % classes
    nodes = [
        helper.make_node('Cast', ['image'], ['pixels'], to=TensorProto.FLOAT),
        helper.make_node('Cast', ['weight16'], ['weight'], to=TensorProto.FLOAT),
        helper.make_node('ReduceMean', ['pixels', 'space'], ['mean'], keepdims=0),
        helper.make_node('Mul', ['mean', 'weight'], ['level0']),
        helper.make_node('Unsqueeze', ['level0', 'one'], ['column']),
        helper.make_node('Cast', ['classes'], ['allowed'], to=TensorProto.FLOAT),
        helper.make_node('Gather', ['allowed', 'index'], ['picked'], axis=1),
        helper.make_node('Squeeze', ['picked', 'one'], ['mask']),
        helper.make_node('Mul', ['column', 'mask'], ['score']),
        helper.make_node('Identity', ['index'], ['class_index']),
        helper.make_node('Mul', ['index', 'zero'], ['level']),
        helper.make_node('Shape', ['image'], ['shape']),
        helper.make_node('Gather', ['shape', 'sides'], ['size']),
        helper.make_node('Cast', ['size'], ['size_float'], to=TensorProto.FLOAT),
        helper.make_node('Expand', ['size_float', 'centre_shape'], ['centre']),
        helper.make_node('Expand', ['size_float', 'keypoint_shape'], ['keypoints']),
    ]
    weights = [
        constant('weight16', np.float16(1 / 256)),
        constant('space', np.array([1, 2, 3], dtype=np.int64)),
        constant('one', np.array([1], dtype=np.int64)),
        constant('zero', np.array([0], dtype=np.int64)),
        constant('index', index),
        constant('sides', np.array([2, 1], dtype=np.int64)),
        constant('centre_shape', np.array([1, max_cells, 2], dtype=np.int64)),
        constant('keypoint_shape', np.array([1, max_cells, 8, 2], dtype=np.int64)),
    ]
    inputs = [
        helper.make_tensor_value_info('image', TensorProto.UINT8, ['batch', 'height', 'width', 3]),
        helper.make_tensor_value_info('classes', TensorProto.BOOL, ['batch', classes]),
    ]
    outputs = [
        helper.make_tensor_value_info('class_index', TensorProto.INT64, [1, max_cells]),
        helper.make_tensor_value_info('score', TensorProto.FLOAT, ['batch', max_cells]),
        helper.make_tensor_value_info('level', TensorProto.INT64, [1, max_cells]),
        helper.make_tensor_value_info('centre', TensorProto.FLOAT, [1, max_cells, 2]),
        helper.make_tensor_value_info('keypoints', TensorProto.FLOAT, [1, max_cells, 8, 2]),
    ]
    graph = helper.make_graph(nodes, 'tiny', inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_the_file_is_what_this_makes():
    onnx = pytest.importorskip('onnx')
    made, kept = onnx.load_from_string(tiny_network()), onnx.load(str(FILE))
    assert made.graph == kept.graph
    assert kept.graph.initializer[0].data_type == onnx.TensorProto.FLOAT16


if __name__ == '__main__':
    FILE.write_bytes(tiny_network())
    sys.stdout.write(f'{FILE}\n')
