"""A network of the size of DOPE, with random weights, as a peer of the speed bench. Nobody can find an object with it.

Shape as published: Tremblay et al., "Deep Object Pose Estimation for Semantic Robotic Grasping of Household Objects",
CoRL 2018: the first ten convolutions of VGG-19, two that reduce to 128 channels, then six stages that each give nine
belief maps and sixteen affinity maps; a stage sees the features and the maps of the one before.
"""

from __future__ import annotations

from typing import List

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512)
"""Channels of the convolutions; 0 is a pooling."""
REDUCED = (256, 128)
STAGES, BELIEFS, AFFINITIES = 6, 9, 16
FEATURES = 128


class _Graph:
    """Nodes and weights under construction."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: List[onnx.NodeProto] = []
        self.weights: List[onnx.TensorProto] = []

    def convolution(self, data: str, inputs: int, outputs: int, size: int, relu: bool = True) -> str:
        """Convolution with padding and bias, then ReLU; He initialisation keeps values away from denormal ones."""
        name = f'conv{len(self.nodes)}'
        scale = np.sqrt(2.0 / (inputs * size * size))
        kernel = self.rng.normal(0.0, scale, (outputs, inputs, size, size)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(kernel, f'{name}_kernel'))
        self.weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f'{name}_bias'))
        names = [data, f'{name}_kernel', f'{name}_bias']
        self.nodes.append(helper.make_node('Conv', names, [name], kernel_shape=[size] * 2, pads=[size // 2] * 4))
        if not relu:
            return name
        self.nodes.append(helper.make_node('Relu', [name], [f'{name}_relu']))
        return f'{name}_relu'

    def add(self, kind: str, inputs: List[str], **attributes: object) -> str:
        name = f'{kind.lower()}{len(self.nodes)}'
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def branch(self, data: str, inputs: int, first: bool, maps: int) -> str:
        """One stage's way to its maps: three small kernels in the first stage, five large ones in the others."""
        sizes, wide = ((3, 3, 3), 512) if first else ((7,) * 5, 128)
        for size in sizes:
            data, inputs = self.convolution(data, inputs, FEATURES, size), FEATURES
        return self.convolution(self.convolution(data, inputs, wide, 1), wide, maps, 1, relu=False)


def belief_map_network(width: int = 640, height: int = 480, seed: int = 0) -> bytes:
    """An ONNX file: 'image' (1, 3, H, W) float32 to 'beliefs' (1, 9, H/8, W/8) and 'affinities' (1, 16, H/8, W/8).

    Raises:
        ValueError: sides that are no multiples of 8.
    """
    if width % 8 or height % 8:
        raise ValueError(f'belief maps: sides must be multiples of 8, got {width}x{height}')
    graph = _Graph(seed)
    data, channels = 'image', 3
    for outputs in VGG:
        if outputs:
            data, channels = graph.convolution(data, channels, outputs, 3), outputs
        else:
            data = graph.add('MaxPool', [data], kernel_shape=[2, 2], strides=[2, 2])
    for outputs in REDUCED:
        data, channels = graph.convolution(data, channels, outputs, 3), outputs
    features, seen = data, data
    for stage in range(STAGES):
        inputs = FEATURES if stage == 0 else FEATURES + BELIEFS + AFFINITIES
        beliefs = graph.branch(seen, inputs, stage == 0, BELIEFS)
        affinities = graph.branch(seen, inputs, stage == 0, AFFINITIES)
        seen = graph.add('Concat', [features, beliefs, affinities], axis=1)
    graph.nodes.pop()
    graph.nodes.append(helper.make_node('Identity', [beliefs], ['beliefs']))
    graph.nodes.append(helper.make_node('Identity', [affinities], ['affinities']))
    shape = [1, BELIEFS, height // 8, width // 8]
    outputs_info = [
        helper.make_tensor_value_info('beliefs', TensorProto.FLOAT, shape),
        helper.make_tensor_value_info('affinities', TensorProto.FLOAT, [1, AFFINITIES, *shape[2:]]),
    ]
    image = helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, height, width])
    whole = helper.make_graph(graph.nodes, 'belief_maps', [image], outputs_info, graph.weights)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    data_bytes: bytes = model.SerializeToString()
    return data_bytes
