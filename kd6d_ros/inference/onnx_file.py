"""Looks into an ONNX file without the onnx package: does the graph take weights from other files?

ONNX Runtime reads such weights from the folder of the model, or, for a model given as bytes, from the current
directory of the process: files that no hash of the bundle covers. No option switches that off in every
version, so the file itself is searched. An ONNX file is a tree of protobuf messages; TREE says which fields of
which message hold messages that may lead to a tensor.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Tuple, Union

TREE: Dict[str, Dict[int, str]] = {
    'ModelProto': {7: 'GraphProto', 20: 'TrainingInfoProto', 25: 'FunctionProto'},
    'TrainingInfoProto': {1: 'GraphProto', 2: 'GraphProto'},
    'GraphProto': {1: 'NodeProto', 5: 'TensorProto', 15: 'SparseTensorProto'},
    'FunctionProto': {7: 'NodeProto', 11: 'AttributeProto'},
    'NodeProto': {5: 'AttributeProto'},
    'AttributeProto': {
        5: 'TensorProto', 10: 'TensorProto', 6: 'GraphProto', 11: 'GraphProto',
        22: 'SparseTensorProto', 23: 'SparseTensorProto',
    },
    'SparseTensorProto': {1: 'TensorProto', 2: 'TensorProto'},
    'TensorProto': {},
}  # fmt: skip
"""Message -> number of a field -> message in that field (onnx.proto, IR version 13)."""

_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def tensor_in_another_file(data: bytes) -> Optional[str]:
    """The name of a tensor that lies in another file; None when there is none.

    Raises:
        ValueError: not an ONNX file, or cut short.
    """
    view = memoryview(data)
    left: List[Tuple[str, memoryview]] = [('ModelProto', view)]
    while left:
        kind, message = left.pop()
        name, external = '', False
        for number, content in fields(message):
            if isinstance(content, int):
                external |= kind == 'TensorProto' and number == _DATA_LOCATION and content != 0
            elif number in TREE[kind]:
                left.append((TREE[kind][number], content))
            elif kind == 'TensorProto' and number == _NAME:
                name = bytes(content[:80]).decode('utf-8', 'replace')
            elif kind == 'TensorProto' and number == _EXTERNAL_DATA:
                external = True
        if external:
            return name or 'without a name'
    return None


def fields(message: memoryview) -> Iterator[Tuple[int, Union[int, memoryview]]]:
    """Number and content of each field of a protobuf message: a number for a varint, else the bytes.

    Raises:
        ValueError: not protobuf as ONNX writes it, or cut short.
    """
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >> 32:
            raise ValueError('not an ONNX file')
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == _BYTES:
            size, place = _varint(message, place)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire == _EIGHT_BYTES else 4
        else:  # groups, which ONNX never had
            raise ValueError('not an ONNX file')
        if size > len(message) - place:
            raise ValueError('not an ONNX file, or cut short')
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> Tuple[int, int]:
    """A number of seven bits per byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError('not an ONNX file, or cut short')
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError('not an ONNX file')
