"""Smaller files for the same network: weights that stay in float are stored in fewer bits, names are short."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel

from kd6d_ros.deployment.onnx_export import store_half

LARGE = 20_000
"""Weights of a float convolution from which eight bits are worth it; small kernels may need every bit."""


def shrink(model: onnx.ModelProto, weights_in_int8: bool = False) -> None:
    """Store the float weights in half precision, or the large ones in int8 with a scale per output channel, and give
    all tensors and nodes short names; inputs and outputs keep theirs."""
    ordered = ONNXModel(model)
    ordered.clean_initializers()
    ordered.topological_sort()
    if weights_in_int8:
        _store_int8(model.graph)
    store_half(model)
    del model.graph.value_info[:]
    _short_names(model.graph)
    onnx.checker.check_model(model)


def _store_int8(graph: onnx.GraphProto) -> None:
    weights = {node.input[1] for node in graph.node if node.op_type == 'Conv'}
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or tensor.name not in weights or np.prod(tensor.dims) < LARGE:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
        scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f'{name}_int8'))
        graph.initializer.append(numpy_helper.from_array(scale.reshape(-1), f'{name}_scale8'))
        inputs = [f'{name}_int8', f'{name}_scale8']
        graph.node.insert(0, helper.make_node('DequantizeLinear', inputs, [name], f'{name}_back', axis=0))


def _short_names(graph: onnx.GraphProto) -> None:
    fixed = {item.name for item in (*graph.input, *graph.output)} | {''}
    short: dict[str, str] = {}

    def new(name: str) -> str:
        return name if name in fixed else short.setdefault(name, f't{len(short)}')

    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
    for number, node in enumerate(graph.node):
        node.name = f'{node.op_type}_{number}'
        node.doc_string = ''
        for place, name in enumerate(node.input):
            node.input[place] = new(name)
        for place, name in enumerate(node.output):
            node.output[place] = new(name)
