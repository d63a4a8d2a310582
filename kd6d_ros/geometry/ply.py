"""A small reader for PLY meshes (ASCII and binary), so that a robot needs no mesh library.

Reads vertices with optional normals, 8-bit colours and texture coordinates, and faces; polygons become
triangle fans. Everything is bounded by the size of the file before memory is allocated. Textures, tristrips
and other formats are the workshop's business (``kd6d_ros.data``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

import numpy as np

from kd6d_ros.errors import MeshError
from kd6d_ros.types import Mesh

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray, ImageArray, IntArray

MAX_FILE_BYTES = 512 * 1024 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_FORMATS = {'ascii': '', 'binary_little_endian': '<', 'binary_big_endian': '>'}
_TYPES = {
    **{'char': 'i1', 'uchar': 'u1', 'short': 'i2', 'ushort': 'u2', 'int': 'i4', 'uint': 'u4'},
    **{'float': 'f4', 'double': 'f8', 'int8': 'i1', 'uint8': 'u1', 'int16': 'i2', 'uint16': 'u2'},
    **{'int32': 'i4', 'uint32': 'u4', 'float32': 'f4', 'float64': 'f8'},
}
_FACE_LISTS = ('vertex_indices', 'vertex_index')


@dataclass
class _Property:
    name: str
    dtype: str
    count_dtype: Optional[str] = None


@dataclass
class _Element:
    name: str
    count: int
    properties: List[_Property] = field(default_factory=list)


def read_ply(path: Path | str, scale_to_metres: float = 1.0) -> Mesh:
    """Read a PLY file; coordinates are multiplied by `scale_to_metres` (0.001 for BOP models).

    The mesh may have no faces (a point cloud); ``validate_mesh`` refuses that where faces are needed.

    Raises:
        MeshError: missing or too large file, not PLY, a malformed header (with its line), truncated data,
            no vertices, NaN vertices, or a face that names a vertex which does not exist.
    """
    path = Path(path)
    data = _read_bytes(path)
    form, elements, body = _parse_header(data, path)
    reader = _AsciiBody(data, body, path) if form == 'ascii' else _BinaryBody(data, body, path, form)
    columns: dict[str, AnyArray] = {}
    faces: IntArray = np.zeros((0, 3), dtype=np.int64)
    for element in elements:
        if element.name == 'vertex':
            columns = reader.scalars(element)
        elif element.name == 'face':
            faces = reader.faces(element)
            break
        else:
            reader.scalars(element)
    return _assemble(columns, faces, scale_to_metres, path)


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise MeshError(f'{path}: {size >> 20} MiB, at most {MAX_FILE_BYTES >> 20}: decimate the mesh')
        return path.read_bytes()
    except OSError as error:
        raise MeshError(f'{path}: cannot be read: {error.strerror}') from error


def _parse_header(data: bytes, path: Path) -> Tuple[str, List[_Element], int]:
    """Format name, elements in file order, and where the data starts."""
    if not data.startswith(b'ply'):
        raise MeshError(f'{path}: not a PLY file (it does not start with "ply")')
    end = data.find(b'end_header', 0, _MAX_HEADER_BYTES)
    newline = data.find(b'\n', end)
    if end < 0 or newline < 0:
        raise MeshError(f'{path}: PLY header has no end_header line')
    form, elements = '', []
    for number, line in enumerate(data[:end].decode('ascii', 'replace').splitlines()[1:], start=2):
        words = line.split()
        if not words or words[0] in ('comment', 'obj_info'):
            continue
        try:
            if words[0] == 'format':
                _FORMATS[words[1]]  # an unknown format ends in KeyError
                form = words[1]
            elif words[0] == 'element':
                elements.append(_Element(words[1], _count(words[2])))
            elif words[0] == 'property':
                elements[-1].properties.append(_property(words))
            else:
                raise ValueError(words[0])
        except (KeyError, IndexError, ValueError) as error:
            raise MeshError(f'{path} line {number}: cannot understand PLY header "{line[:80]}"') from error
    if not form:
        raise MeshError(f'{path}: PLY header has no format line')
    for element in elements:
        # Every row takes at least one byte, which bounds all loops and arrays by the size of the file.
        if element.count > len(data) or (element.count and not element.properties):
            raise MeshError(f'{path}: PLY data ends early: {element.count} of "{element.name}" do not fit (truncated?)')
    return form, elements, newline + 1


def _count(word: str) -> int:
    if not word.isdigit():
        raise ValueError(word)
    return int(word)


def _property(words: List[str]) -> _Property:
    if words[1] == 'list':
        count_dtype = _TYPES[words[2]]
        if count_dtype[0] == 'f':
            raise ValueError(words[2])
        return _Property(words[4], _TYPES[words[3]], count_dtype)
    return _Property(words[2], _TYPES[words[1]])


class _AsciiBody:
    """Numbers of an ASCII file, consumed element by element."""

    def __init__(self, data: bytes, start: int, path: Path) -> None:
        self._path = path
        try:
            self._values: FloatArray = np.array(data[start:].split(), dtype=np.float64)
        except ValueError as error:
            raise MeshError(f'{path}: PLY data holds something that is not a number') from error
        self._at = 0

    def _take(self, count: int) -> FloatArray:
        if self._at + count > len(self._values):
            raise MeshError(f'{self._path}: PLY data ends early (truncated file?)')
        self._at += count
        return self._values[self._at - count : self._at]

    def scalars(self, element: _Element) -> dict[str, AnyArray]:
        _refuse_lists(element, self._path)
        width = len(element.properties)
        table = self._take(element.count * width).reshape(element.count, width)
        return {item.name: table[:, column] for column, item in enumerate(element.properties)}

    def faces(self, element: _Element) -> IntArray:
        if [item.name in _FACE_LISTS for item in element.properties] == [True]:
            rest = self._values[self._at : self._at + 4 * element.count]
            if len(rest) == 4 * element.count and (rest[::4] == 3).all():
                return self._take(4 * element.count).reshape(-1, 4)[:, 1:].astype(np.int64)
        triangles: List[List[float]] = []
        for _ in range(element.count):
            for item in element.properties:
                if item.count_dtype is None:
                    self._take(1)
                    continue
                corners = self._take(_length(self._take(1)[0], self._path)).tolist()
                if item.name in _FACE_LISTS:
                    triangles += _fan(corners)
        return np.array(triangles, dtype=np.int64).reshape(-1, 3)


class _BinaryBody:
    """Bytes of a binary file, consumed element by element."""

    def __init__(self, data: bytes, start: int, path: Path, form: str) -> None:
        self._data, self._at, self._path = data, start, path
        self._order = _FORMATS[form]

    def _take(self, dtype: Any, count: int) -> AnyArray:
        kind = np.dtype(dtype)
        if self._at + count * kind.itemsize > len(self._data):
            raise MeshError(f'{self._path}: PLY data ends early (truncated file?)')
        values: AnyArray = np.frombuffer(self._data, kind, count, self._at)
        self._at += count * kind.itemsize
        return values

    def scalars(self, element: _Element) -> dict[str, AnyArray]:
        _refuse_lists(element, self._path)
        names = [f'{number} {item.name}' for number, item in enumerate(element.properties)]
        kinds = [self._order + item.dtype for item in element.properties]
        table = self._take(np.dtype({'names': names, 'formats': kinds}), element.count)
        return {item.name: table[name] for name, item in zip(names, element.properties, strict=True)}

    def faces(self, element: _Element) -> IntArray:
        start = self._at
        fast = self._triangles(element)
        if fast is not None:
            return fast
        self._at = start
        triangles: List[List[float]] = []
        for _ in range(element.count):
            for item in element.properties:
                kind = self._order + item.dtype
                if item.count_dtype is None:
                    self._take(kind, 1)
                    continue
                length = _length(self._take(self._order + item.count_dtype, 1)[0], self._path)
                corners = self._take(kind, length).tolist()
                if item.name in _FACE_LISTS:
                    triangles += _fan(corners)
        return np.array(triangles, dtype=np.int64).reshape(-1, 3)

    def _triangles(self, element: _Element) -> Optional[IntArray]:
        """All faces at once when each is a triangle and carries nothing else, else None."""
        if len(element.properties) != 1 or element.properties[0].name not in _FACE_LISTS:
            return None
        item = element.properties[0]
        row = np.dtype([('n', f'{self._order}{item.count_dtype}'), ('v', f'{self._order}{item.dtype}', 3)])
        if self._at + element.count * row.itemsize > len(self._data):
            return None
        table = self._take(row, element.count)
        return table['v'].astype(np.int64) if (table['n'] == 3).all() else None


def _refuse_lists(element: _Element, path: Path) -> None:
    if any(item.count_dtype for item in element.properties):
        raise MeshError(f'{path}: PLY element "{element.name}" with list properties is not supported')


def _length(value: float, path: Path) -> int:
    if not 0 <= value <= 1024 or value != int(value):
        raise MeshError(f'{path}: a PLY face claims {value:g} corners')
    return int(value)


def _fan(corners: List[float]) -> List[List[float]]:
    return [[corners[0], corners[i], corners[i + 1]] for i in range(1, len(corners) - 1)]


def _assemble(columns: dict[str, AnyArray], faces: IntArray, scale: float, path: Path) -> Mesh:
    vertices = _stack(columns, ('x', 'y', 'z'))
    if vertices is None or len(vertices) == 0:
        raise MeshError(f'{path}: PLY file has no vertices with x, y and z')
    if not np.isfinite(vertices).all():
        row = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
        raise MeshError(f'{path}: vertex {row} has NaN or infinite coordinates')
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        wrong = int(faces.min() if faces.min() < 0 else faces.max())
        raise MeshError(f'{path}: a face names vertex {wrong} of {len(vertices)}')
    normals = _stack(columns, ('nx', 'ny', 'nz'))
    uv = _stack(columns, ('texture_u', 'texture_v'))
    for names in (('s', 't'), ('u', 'v')):
        uv = _stack(columns, names) if uv is None else uv
    return Mesh(vertices * scale, faces, _colours(columns), normals, uv)


def _stack(columns: dict[str, AnyArray], names: Tuple[str, ...]) -> Optional[FloatArray]:
    if any(name not in columns for name in names):
        return None
    return np.stack([columns[name].astype(np.float64) for name in names], axis=1)


def _colours(columns: dict[str, AnyArray]) -> Optional[ImageArray]:
    """8-bit colours; colours stored as fractions 0..1 in floats are scaled."""
    values = _stack(columns, ('red', 'green', 'blue'))
    if values is None:
        return None
    fractions = columns['red'].dtype == np.float32 and values.max(initial=0.0) <= 1.0
    scaled = np.nan_to_num(values * 255.0 if fractions else values)
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)
