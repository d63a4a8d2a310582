"""Channels of one range before group normalisation, so that eight bits for all of them are enough for each.

A convolution before a group normalisation has channels of very different ranges, because the normalisation takes them
away again. Quantised with one scale, the small ones drown. Each channel is therefore divided by its range in the
convolution's weights and multiplied by it after the convolution, in float: the network computes the same, and the
multiplication is next to nothing.

Reference: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, who
equalise between two convolutions.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kd6d_ros.types import AnyArray, ImageArray

LEAST_RANGE = 1e-3
"""Of a channel, as a share of the largest one's: a dead channel must not be divided by zero."""


def equalise(model: onnx.ModelProto, images: Sequence[ImageArray], classes: int) -> list[str]:
    """Equalise the channels of every convolution before a group normalisation, in place; returns their names.

    Args:
        images: (H, W, 3) uint8 RGB, to find the ranges on.
        classes: number of objects of the network.
    """
    graph = model.graph
    by_weight: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in before_group_norm(graph):
        by_weight[node.input[1]].append(node)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    by_weight = {name: nodes for name, nodes in by_weight.items() if name in tensors and _alone(graph, name, nodes)}
    found = [node for nodes in by_weight.values() for node in nodes]
    ranges = channel_ranges(model, [node.output[0] for node in found], images, classes)
    for weight, nodes in by_weight.items():  # levels share their weights, so also their ranges
        largest = np.max([ranges[node.output[0]] for node in nodes], axis=0)
        scale = np.maximum(largest, LEAST_RANGE * max(float(largest.max()), 1e-12)).astype(np.float32)
        values = numpy_helper.to_array(tensors[weight]) / scale.reshape(-1, 1, 1, 1)
        tensors[weight].CopyFrom(numpy_helper.from_array(values, weight))
        bias = numpy_helper.to_array(tensors[nodes[0].input[2]]) / scale
        graph.initializer.append(numpy_helper.from_array(bias, f'{weight}_bias'))  # others may read the old one
        graph.initializer.append(numpy_helper.from_array(scale.reshape(1, -1, 1, 1), f'{weight}_range'))
        for node in nodes:
            node.input[2] = f'{weight}_bias'
            _multiply(graph, node, f'{weight}_range')
    return [node.name for node in found]


def before_group_norm(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Convolutions with a bias whose output goes through a Reshape into an InstanceNormalization."""
    maker = {name: node for node in graph.node for name in node.output}
    out = []
    for norm in graph.node:
        reshape = maker.get(norm.input[0]) if norm.op_type == 'InstanceNormalization' else None
        conv = maker.get(reshape.input[0]) if reshape is not None and reshape.op_type == 'Reshape' else None
        if conv is not None and conv.op_type == 'Conv' and len(conv.input) == 3:
            out.append(conv)
    return out


def _alone(graph: onnx.GraphProto, weight: str, nodes: Sequence[onnx.NodeProto]) -> bool:
    """Whether nobody else reads the weights, all have one bias, and only a normalisation reads the values."""
    names = {node.name for node in nodes}
    if len({node.input[2] for node in nodes}) > 1:
        return False
    values = {node.output[0] for node in nodes}
    for node in graph.node:
        if node.name not in names and weight in node.input:
            return False
        if values & set(node.input) and node.op_type not in ('Reshape', 'Shape'):
            return False
    return True


def channel_ranges(
    model: onnx.ModelProto, tensors: Iterable[str], images: Sequence[ImageArray], classes: int
) -> dict[str, AnyArray]:
    """Largest magnitude (C,) of each channel of each of `tensors` (N, C, H, W) over `images`."""
    names = list(tensors)
    if not names:
        return {}
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    wider.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(wider.SerializeToString(), options, providers=['CPUExecutionProvider'])
    every = np.ones((1, classes), dtype=bool)
    ranges: dict[str, AnyArray] = {}
    for image in images:
        for name, values in zip(names, session.run(names, {'image': image[None], 'classes': every}), strict=True):
            largest = np.abs(values).max(axis=(0, 2, 3))
            ranges[name] = np.maximum(ranges.get(name, largest), largest)
    return ranges


def _multiply(graph: onnx.GraphProto, conv: onnx.NodeProto, factor: str) -> None:
    """Multiply what the normalisation reads; a Shape may keep the convolution's own output."""
    name = f'{conv.output[0]}_whole'
    for place, node in enumerate(graph.node):
        if node.op_type == 'Reshape' and node.input[0] == conv.output[0]:
            node.input[0] = name
            graph.node.insert(place, helper.make_node('Mul', [conv.output[0], factor], [name], f'{conv.name}_range'))
            return
