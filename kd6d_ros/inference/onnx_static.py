"""A network of a bundle with one fixed input size, in the form that TensorRT's ONNX parser takes.

Four things stand in the way of the file as it is:

- TensorRT takes uint8 for network inputs and outputs only. 'TensorRT does not support UINT8 types for intermediate
  tensors' (onnx-tensorrt, ModelImporter.cpp, 8.6 to 10.1) is what a transposed uint8 image gets, so the image is
  cast first.
- Clip of whole numbers (the index of a cell), which TensorRT has for floating point only (docs/operators.md of
  onnx-tensorrt, 8.6 and 10.1): Max and Min take its place.
- Weights are stored as float16 and cast to float32. The parser would make layers of that and hand the convolution
  a kernel that is no constant any more.
- Shape arithmetic for symbolic sizes: about 200 small nodes, in operators that TensorRT limits here and there.

The last two are constants once the input size is fixed. ONNX Runtime works them out in one run; what does
not depend on pixels is replaced by its value. Q and DQ nodes stay, since TensorRT reads precisions off them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, List, Mapping, Sequence, Set

import numpy as np

from kd6d_ros.inference.onnx_edit import (
    CODES,
    TYPES,
    Graph,
    Node,
    cast_node,
    plain_node,
    read_graph,
    tensor,
    tensor_type,
)

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray

FORM = 1
"""Changes whenever the same file would become another graph; part of an engine's key."""

KEPT = ('QuantizeLinear', 'DequantizeLinear')
SHAPE_ONLY = ('Shape', 'Size')
INTEGERS = ('int32', 'int64')

Evaluate = Callable[[bytes, Sequence[str], Mapping[str, 'AnyArray']], List['AnyArray']]
"""(ONNX file, names of outputs, inputs by name) -> the outputs."""


def static_network(data: bytes, shapes: Mapping[str, Sequence[int]], evaluate: Evaluate) -> bytes:
    """The network of `data` with inputs of `shapes`, uint8 inputs cast first, and its constants worked out.

    Args:
        data: an ONNX file.
        shapes: shape of every input.
        evaluate: runs an ONNX file, e.g. ``evaluate_with_onnxruntime``.

    Raises:
        ValueError: not an ONNX file, cut short, other inputs than `shapes` names, or it cannot be run.
    """
    graph = read_graph(data)
    if set(graph.inputs) - set(graph.initializers) != set(shapes):
        raise ValueError(f'its inputs are {sorted(graph.inputs)}, expected {sorted(shapes)}')
    unknown = [name for name in shapes if graph.inputs[name] not in TYPES]
    if unknown:
        raise ValueError(f'its input {unknown[0]} has a type that no network of this package has')
    graph.shapes = shapes
    _cast_first(graph)
    _fold(graph, evaluate)
    graph.nodes = [part for node in graph.nodes for part in _without_integer_clip(graph, node)]
    return graph.encode()


def evaluate_with_onnxruntime(data: bytes, outputs: Sequence[str], feeds: Mapping[str, AnyArray]) -> List[AnyArray]:
    """``Evaluate`` on the CPU.

    Raises:
        ValueError: ONNX Runtime refuses the network.
        ImportError: ONNX Runtime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Optimised graphs may lack the values that are asked for; one run needs no speed.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry('session.load_model_format', 'ONNX')
    try:
        session = onnxruntime.InferenceSession(data, options, providers=['CPUExecutionProvider'])
        arrays: List[AnyArray] = session.run(list(outputs), dict(feeds))
    except Exception as error:
        raise ValueError(f'ONNX Runtime refuses it: {" ".join(str(error).split())[:300]}') from error
    return arrays


def _cast_first(graph: Graph) -> None:
    """Put a Cast to float32 between a uint8 input and whatever else reads it."""
    for name, code in graph.inputs.items():
        readers = [node for node in graph.nodes if name in node.inputs and node.kind not in ('Cast', *SHAPE_ONLY)]
        if code != CODES['uint8'] or not readers:
            continue
        target = f'{name}_as_float32'
        graph.nodes = [node.with_input(name, target) if node in readers else node for node in graph.nodes]
        graph.nodes.insert(0, cast_node(name, target, CODES['float32']))


def _without_integer_clip(graph: Graph, node: Node) -> List[Node]:
    """The node, or Max and Min for a Clip whose limits are whole numbers."""
    limits = [(kind, name) for kind, name in zip(('Max', 'Min'), node.inputs[1:], strict=False) if name]
    known = [tensor_type(graph.initializers[name]) for _, name in limits if name in graph.initializers]
    if node.kind != 'Clip' or not known or TYPES.get(known[0]) not in INTEGERS:
        return [node]
    names = [
        node.inputs[0],
        *(f'{node.outputs[0]}_limit_{number}' for number in range(1, len(limits))),
        node.outputs[0],
    ]
    return [plain_node(kind, [names[number], limit], names[number + 1]) for number, (kind, limit) in enumerate(limits)]


def _fold(graph: Graph, evaluate: Evaluate) -> None:
    """Replace every value that does not depend on what the inputs hold by a constant."""
    depends: Set[str] = set(graph.shapes)
    kept = []
    for node in graph.nodes:
        reads = any(name in depends for name in node.inputs) and node.kind not in SHAPE_ONLY
        if reads or node.kind in KEPT:
            kept.append(node)
            depends.update(node.outputs)
    made = {name for node in graph.nodes for name in node.outputs}
    wanted = [name for node in kept for name in node.inputs if name in made and name not in depends]
    names = sorted({*wanted, *graph.outputs})
    feeds = {name: np.zeros(shape, TYPES[graph.inputs[name]]) for name, shape in graph.shapes.items()}
    extra = [name for name in names if name not in graph.outputs]
    values = dict(zip(names, evaluate(graph.encode(extra), names, feeds), strict=True))
    read = {name for node in kept for name in node.inputs} | set(graph.outputs)
    constants = {name: data for name, data in graph.initializers.items() if name in read}
    constants.update({name: tensor(name, value) for name, value in values.items() if name not in depends})
    graph.nodes, graph.initializers = kept, constants
    graph.inputs = {name: graph.inputs[name] for name in feeds}
    graph.shapes = {**graph.shapes, **{name: values[name].shape for name in graph.outputs}}
