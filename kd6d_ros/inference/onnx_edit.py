"""Reads and writes the parts of an ONNX file that ``onnx_static`` changes, without the onnx package.

The robot side has no onnx package (it asks for a newer NumPy and protobuf than Ubuntu 22.04 ships). Messages that
stay as they are, nodes above all, are copied byte by byte. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from kd6d_ros.inference.onnx_file import fields

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray

Content = Union[int, bytes]
Shape = Sequence[Union[int, str]]
"""Sizes of a tensor; a name stands for a size that is open."""

TYPES: Dict[int, str] = {
    1: 'float32', 2: 'uint8', 3: 'int8', 4: 'uint16', 5: 'int16', 6: 'int32', 7: 'int64', 9: 'bool',
    10: 'float16', 11: 'float64', 12: 'uint32', 13: 'uint64',
}  # fmt: skip
"""TensorProto.DataType -> NumPy."""
CODES = {name: code for code, name in TYPES.items()}

_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO, _SPARSE = 1, 5, 11, 12, 13, 15
_GRAPH, _SUBGRAPHS = 7, (6, 11)


def message(parts: Sequence[Tuple[int, Content]]) -> bytes:
    """A protobuf message of (field number, content): a number becomes a varint, bytes are length-delimited."""
    out = bytearray()
    for number, content in parts:
        if isinstance(content, int):
            out += _varint(number << 3) + _varint(content)
        else:
            out += _varint(number << 3 | 2) + _varint(len(content)) + content
    return bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _parts(data: Union[bytes, memoryview]) -> List[Tuple[int, Content]]:
    return [(number, x if isinstance(x, int) else bytes(x)) for number, x in fields(memoryview(data))]


def _texts(parts: Sequence[Tuple[int, Content]], wanted: int) -> List[str]:
    return [content.decode('utf-8') for number, content in parts if number == wanted and isinstance(content, bytes)]


@dataclass(frozen=True)
class Node:
    """One NodeProto; `data` is its bytes."""

    kind: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    data: bytes

    def with_input(self, old: str, new: str) -> Node:
        """The same node that reads `new` where it read `old`."""
        parts = [
            (number, new.encode() if number == 1 and content == old.encode() else content)
            for number, content in _parts(self.data)
        ]
        return read_node(message(parts))


def read_node(data: bytes) -> Node:
    """
    Raises:
        ValueError: damaged, or it holds a graph of its own (If, Loop, Scan).
    """
    parts = _parts(data)
    kind = ''.join(_texts(parts, 4))
    for number, content in parts:
        if number == 5 and isinstance(content, bytes) and any(n in _SUBGRAPHS for n, _ in fields(memoryview(content))):
            raise ValueError(f'its node {kind} holds a graph of its own')
    return Node(kind, tuple(_texts(parts, 1)), tuple(_texts(parts, 2)), data)


def cast_node(source: str, target: str, type_code: int) -> Node:
    """Cast of `source` to an ONNX data type."""
    attribute = message([(1, b'to'), (3, type_code), (20, 2)])  # name, i, type INT
    return plain_node('Cast', [source], target, [(5, attribute)])


def plain_node(kind: str, inputs: Sequence[str], output: str, more: Sequence[Tuple[int, Content]] = ()) -> Node:
    """A node with one output, which also names it; `more`: further fields."""
    parts: List[Tuple[int, Content]] = [(1, name.encode()) for name in inputs]
    return read_node(message([*parts, (2, output.encode()), (3, output.encode()), (4, kind.encode()), *more]))


def tensor(name: str, array: AnyArray) -> bytes:
    """A TensorProto with raw data.

    Raises:
        ValueError: a type that ONNX or TensorRT does not have.
    """
    if array.dtype.name not in CODES:
        raise ValueError(f'its constant {name} has the type {array.dtype}')
    dims: List[Tuple[int, Content]] = [(1, int(size)) for size in array.shape]
    # ONNX is little-endian, as every machine that ONNX Runtime and TensorRT run on.
    return message(
        [*dims, (2, CODES[array.dtype.name]), (8, name.encode()), (9, np.ascontiguousarray(array).tobytes())]
    )


def tensor_type(data: bytes) -> int:
    """TensorProto.DataType of a tensor; 0 where it does not say."""
    return next((content for number, content in _parts(data) if number == 2 and isinstance(content, int)), 0)


def value_info(name: str, type_code: Optional[int] = None, shape: Optional[Shape] = None) -> bytes:
    """A ValueInfoProto; without a type, whoever reads it infers it."""
    parts: List[Tuple[int, Content]] = [(1, name.encode())]
    if type_code is not None:
        tensor_type: List[Tuple[int, Content]] = [(1, type_code)]
        if shape is not None:
            tensor_type.append((2, message([(1, message([_dimension(size)])) for size in shape])))
        parts.append((2, message([(1, message(tensor_type))])))
    return message(parts)


def _dimension(size: Union[int, str]) -> Tuple[int, Content]:
    """The field of a TensorShapeProto.Dimension: a number, or the name of an open one."""
    return (2, size.encode()) if isinstance(size, str) else (1, int(size))


def _element_type(info: bytes) -> int:
    """TensorProto.DataType in a ValueInfoProto; 0 where it does not say."""
    data: bytes = info
    for number in (2, 1):  # type, tensor_type
        data = next((x for n, x in _parts(data) if n == number and isinstance(x, bytes)), b'')
    return next((x for n, x in _parts(data) if n == 1 and isinstance(x, int)), 0)


@dataclass
class Graph:
    """An ONNX model, taken apart. `inputs` and `outputs` map names to data types, `initializers` names to tensors;
    `head` and `rest` are all other fields of model and graph."""

    nodes: List[Node]
    initializers: Dict[str, bytes]
    inputs: Dict[str, int]
    outputs: Dict[str, int]
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """Shapes of inputs and outputs; others are written without one."""
    head: List[Tuple[int, Content]] = field(default_factory=list)
    rest: List[Tuple[int, Content]] = field(default_factory=list)

    def encode(self, extra_outputs: Sequence[str] = ()) -> bytes:
        """The model as an ONNX file. Shapes of intermediate values are left to the reader."""
        inputs = [value_info(name, code, self.shapes.get(name)) for name, code in self.inputs.items()]
        outputs = [value_info(name, code, self.shapes.get(name)) for name, code in self.outputs.items()]
        outputs += [value_info(name) for name in extra_outputs]
        graph: List[Tuple[int, Content]] = [(_NODE, node.data) for node in self.nodes]
        graph += self.rest
        graph += [(_INITIALIZER, data) for data in self.initializers.values()]
        graph += [(_INPUT, data) for data in inputs] + [(_OUTPUT, data) for data in outputs]
        return message([*self.head, (_GRAPH, message(graph))])


def read_graph(data: bytes) -> Graph:
    """
    Raises:
        ValueError: not an ONNX file, cut short, or with parts that no network of this package has.
    """
    model = _parts(data)
    graphs = [content for number, content in model if number == _GRAPH and isinstance(content, bytes)]
    if len(graphs) != 1:
        raise ValueError('not an ONNX file')
    out = Graph([], {}, {}, {}, head=[part for part in model if part[0] != _GRAPH])
    for number, content in _parts(graphs[0]):
        if number == _SPARSE:
            raise ValueError('it has sparse weights')
        if not isinstance(content, bytes) or number not in (_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO):
            out.rest.append((number, content))
        elif number == _NODE:
            out.nodes.append(read_node(content))
        elif number == _INITIALIZER:
            out.initializers[''.join(_texts(_parts(content), 8))] = content
        elif number != _VALUE_INFO:
            target = out.inputs if number == _INPUT else out.outputs
            target[''.join(_texts(_parts(content), 1))] = _element_type(content)
    return out
