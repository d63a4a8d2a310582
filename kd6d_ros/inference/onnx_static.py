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

The number of images may stay open, for an optimisation profile. All that depends on it are shapes for Reshape that
begin with it, and there a 0 takes it from the input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, Sequence, Set

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
OPEN = 'batch'
"""Name of the open number of images."""
INTEGERS = ('int32', 'int64')

Evaluate = Callable[[bytes, Sequence[str], Mapping[str, 'AnyArray']], List['AnyArray']]
"""(ONNX file, names of outputs, inputs by name) -> the outputs."""


def static_network(
    data: bytes, shapes: Mapping[str, Sequence[int]], evaluate: Evaluate, any_number: bool = False
) -> bytes:
    """The network of `data` with inputs of `shapes`, uint8 inputs cast first, and its constants worked out.

    Args:
        data: an ONNX file.
        shapes: shape of every input.
        evaluate: runs an ONNX file, e.g. ``evaluate_with_onnxruntime``.
        any_number: the first size of inputs and outputs, the number of images, stays open.

    Raises:
        ValueError: not an ONNX file, cut short, other inputs than `shapes` names, it cannot be run, or it cannot be
            run with any number of images.
    """
    graph = read_graph(data)
    if set(graph.inputs) - set(graph.initializers) != set(shapes):
        raise ValueError(f'its inputs are {sorted(graph.inputs)}, expected {sorted(shapes)}')
    unknown = [name for name in shapes if graph.inputs[name] not in TYPES]
    if unknown:
        raise ValueError(f'its input {unknown[0]} has a type that no network of this package has')
    _cast_first(graph)
    _fold(graph, shapes, evaluate, any_number)
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


def _fold(graph: Graph, shapes: Mapping[str, Sequence[int]], evaluate: Evaluate, any_number: bool) -> None:
    """Replace every value that does not depend on what the inputs hold by a constant."""
    depends: Set[str] = set(shapes)
    kept = []
    for node in graph.nodes:
        reads = any(name in depends for name in node.inputs) and node.kind not in SHAPE_ONLY
        if reads or node.kind in KEPT:
            kept.append(node)
            depends.update(node.outputs)
    made = {name for node in graph.nodes for name in node.outputs}
    wanted = [name for node in kept for name in node.inputs if name in made and name not in depends]
    names = sorted({*wanted, *graph.outputs})
    values = _values(graph, names, _with_number(shapes, 2) if any_number else shapes, evaluate)
    known = {name: value for name, value in values.items() if name not in depends}
    more = _values(graph, names, _with_number(shapes, 3), evaluate) if any_number else {}
    if any_number:
        known = {name: _for_any_number(name, value, more[name], kept) for name, value in known.items()}
    read = {name for node in kept for name in node.inputs} | set(graph.outputs)
    constants = {name: data for name, data in graph.initializers.items() if name in read}
    constants.update({name: tensor(name, value) for name, value in known.items()})
    graph.nodes, graph.initializers = kept, constants
    graph.inputs = {name: graph.inputs[name] for name in shapes}
    every = {**shapes, **{name: values[name].shape for name in graph.outputs}}
    graph.shapes = {name: (OPEN, *shape[1:]) for name, shape in every.items()} if any_number else every
    if any_number:
        _check_open(graph, more, _with_number(shapes, 3), evaluate)


def _with_number(shapes: Mapping[str, Sequence[int]], number: int) -> Dict[str, Sequence[int]]:
    """The shapes for so many images."""
    return {name: (number, *shape[1:]) for name, shape in shapes.items()}


def _values(
    graph: Graph, names: Sequence[str], shapes: Mapping[str, Sequence[int]], evaluate: Evaluate
) -> Dict[str, AnyArray]:
    """What the graph has under `names` for black images of `shapes`."""
    graph.shapes = shapes
    feeds = {name: np.zeros(shape, TYPES[graph.inputs[name]]) for name, shape in shapes.items()}
    extra = [name for name in names if name not in graph.outputs]
    return dict(zip(names, evaluate(graph.encode(extra), names, feeds), strict=True))


def _for_any_number(name: str, two: AnyArray, three: AnyArray, nodes: Sequence[Node]) -> AnyArray:
    """One constant for a value that was `two` for two images and `three` for three.

    Raises:
        ValueError: there is none; only for shapes that Reshape takes there is.
    """
    if np.array_equal(two, three):
        return two
    takers = {(node.kind, place) for node in nodes for place, taken in enumerate(node.inputs) if taken == name}
    begins = two.shape == three.shape and two.ndim == 1 and (two[0], three[0]) == (2, 3)
    if takers != {('Reshape', 1)} or not begins or not np.array_equal(two[1:], three[1:]):
        raise ValueError(f'its value {name} depends on the number of images in a way that cannot stay open')
    return np.concatenate([np.zeros(1, two.dtype), two[1:]])  # 0: as the input of Reshape has it


def _check_open(
    graph: Graph, expected: Mapping[str, AnyArray], shapes: Mapping[str, Sequence[int]], evaluate: Evaluate
) -> None:
    """Raises ValueError unless the graph gives for three images outputs of the shapes that it had before."""
    names = sorted(graph.outputs)
    feeds = {name: np.zeros(shape, TYPES[graph.inputs[name]]) for name, shape in shapes.items()}
    for name, value in zip(names, evaluate(graph.encode(), names, feeds), strict=True):
        if value.shape != expected[name].shape or len(value) != 3:
            raise ValueError(f'its output {name} is not one row for each image')
