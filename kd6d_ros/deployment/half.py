"""The network in float16: inputs and outputs keep their types, and what turns scores and offsets into cells stays in
float32, as pixel coordinates of a whole frame need more than eleven bits.

onnxruntime.transformers.float16 is not used for it: it casts every tensor between two nodes that it leaves in float32
to float16 and back, so the decoding would lose the very bits that it is to keep.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kd6d_ros.deployment.graph_parts import decoding
from kd6d_ros.deployment.storage import shrink
from kd6d_ros.errors import EngineError

FLOAT_INPUTS = {'Resize': (1, 2), 'InstanceNormalization': (0, 1, 2)}
"""Inputs that the operator wants in float32; a sum of squares over the map of a whole frame may be beyond float16."""
FLOAT_OUTPUTS = ('InstanceNormalization',)


def to_half(prepared: onnx.ModelProto) -> onnx.ModelProto:
    """`prepared` (from ``prepare.prepare``) with a float16 network and float32 decoding.

    Raises:
        EngineError: a weight is beyond float16.
    """
    model = onnx.ModelProto()
    model.CopyFrom(onnx.shape_inference.infer_shapes(prepared))
    _Halver(model.graph).run()
    shrink(model)
    return model


class _Halver:
    """Rewrites a graph in place; a tensor of the network keeps its name and becomes float16, float32 copies of it have
    another one."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        outside = set(decoding(graph))
        self.network = [node for node in graph.node if node.name not in outside]
        self.rest = [node for node in graph.node if node.name in outside]
        self.weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
        known = [*graph.value_info, *graph.output]
        floats = {item.name for item in known if item.type.tensor_type.elem_type == TensorProto.FLOAT}
        self.halves = {name for node in self.network for name in node.output if name in floats}
        self.casts: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        for node in self.network:
            self._halve(node)
        results = {item.name for item in self.graph.output}
        for node in self.rest:
            for place, name in enumerate(node.input):
                if name in self.halves:
                    node.input[place] = self._cast(name, TensorProto.FLOAT)
        if results & self.halves:
            raise EngineError(f'output {sorted(results & self.halves)[0]} has no decoding behind it')

    def _halve(self, node: onnx.NodeProto) -> None:
        stay = FLOAT_INPUTS.get(node.op_type, ())
        for place, name in enumerate(node.input):
            if name in self.weights and place not in stay:
                node.input[place] = self._half_weight(name)
            elif name in self.halves and place in stay:
                node.input[place] = self._cast(name, TensorProto.FLOAT)
        for item in node.attribute:
            if node.op_type == 'Cast' and item.name == 'to' and item.i == TensorProto.FLOAT:
                item.i = TensorProto.FLOAT16
        if node.op_type in FLOAT_OUTPUTS:
            name = node.output[0]
            node.output[0] = f'{name}_single'
            self._add(node.output[0], name, TensorProto.FLOAT16)

    def _half_weight(self, name: str) -> str:
        half = f'{name}_16'
        if (name, TensorProto.FLOAT16) not in self.casts:
            values = numpy_helper.to_array(self.weights[name]).astype(np.float16)
            if not np.isfinite(values).all():
                raise EngineError(f'a weight of {name} is beyond float16: leave fp16 out of --precisions')
            self.graph.initializer.append(numpy_helper.from_array(values, half))
            self.casts[name, TensorProto.FLOAT16] = half
        return half

    def _cast(self, name: str, kind: int) -> str:
        if (name, kind) not in self.casts:
            self.casts[name, kind] = f'{name}_32'
            self._add(name, f'{name}_32', kind)
        return self.casts[name, kind]

    def _add(self, source: str, target: str, kind: int) -> None:
        self.graph.node.append(helper.make_node('Cast', [source], [target], f'{target}_cast', to=kind))
