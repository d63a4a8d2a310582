"""Typed access to a YAML manifest in which every complaint names the file, the line and the field."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Dict, List, NoReturn, Sequence, Tuple

import numpy as np
import yaml

from kd6d_ros.errors import BundleError

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray

MAX_MANIFEST_BYTES = 1 << 20
MAX_DEPTH = 12


class _Loader(yaml.SafeLoader):
    """Refuses aliases, which let a short file grow without bound, and deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem='aliases (*name) are not allowed', problem_mark=mark)
        if self.depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f'nested more than {MAX_DEPTH} deep', problem_mark=mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class Field:
    """One value of the manifest, at `path` (for example 'objects[0].diameter_m') in the file `source`."""

    def __init__(self, node: Any, path: str, source: str) -> None:
        self._node, self._path, self._source = node, path, source

    @property
    def is_null(self) -> bool:
        return bool(self._node.tag == 'tag:yaml.org,2002:null')

    def fail(self, message: str) -> NoReturn:
        """Raise a BundleError that names this field."""
        where = f'{self._source} line {self._node.start_mark.line + 1}'
        raise BundleError(f'{where}: {self._path}: {message}' if self._path else f'{where}: {message}')

    def mapping(self, required: Sequence[str], optional: Sequence[str] = ()) -> Dict[str, Field]:
        """Fields by name; missing, doubled and unknown names are errors."""
        fields = self.open_mapping()
        known = [*required, *optional]
        for name, field in fields.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                field.fail('unknown field' + (f'; did you mean {near[0]!r}?' if near else ''))
        for name in required:
            if name not in fields:
                self.fail(f'the field {name!r} is missing')
        return fields

    def open_mapping(self) -> Dict[str, Field]:
        """Fields of a mapping with any text keys."""
        if not isinstance(self._node, yaml.MappingNode):
            self.fail(f'expected a mapping of names to values, got {self._kind()}')
        fields: Dict[str, Field] = {}
        for key, value in self._node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fail('names must be plain text')
            field = Field(value, f'{self._path}.{key.value}' if self._path else key.value, self._source)
            if key.value in fields:
                field.fail('given twice')
            fields[key.value] = field
        return fields

    def items(self, low: int, high: int) -> List[Field]:
        """Fields of a sequence of `low` to `high` items."""
        if not isinstance(self._node, yaml.SequenceNode):
            self.fail(f'expected a list, got {self._kind()}')
        count = len(self._node.value)
        if not low <= count <= high:
            wanted = str(low) if low == high else f'{low} to {high}'
            self.fail(f'expected {wanted} items, got {count}')
        return [Field(node, f'{self._path}[{i}]', self._source) for i, node in enumerate(self._node.value)]

    def text(self, high: int = 4000) -> str:
        value = self._scalar()
        if not isinstance(value, str):
            self.fail(f'expected text, got {self._kind()}')
        if len(value) > high:
            self.fail(f'expected at most {high} characters, got {len(value)}')
        return value

    def whole(self, low: int, high: int) -> int:
        value = self._scalar()
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(f'expected a whole number, got {self._kind()}')
        if not low <= value <= high:
            self.fail(f'expected {low} .. {high}, got {value}')
        return value

    def number(self, low: float = -1e9, high: float = 1e9) -> float:
        value = self._scalar()
        if isinstance(value, str) and self._node.style is None:
            # YAML 1.1 reads 1e-3 as text.
            try:
                value = float(value)
            except ValueError:
                self.fail(f'expected a number, got {self._kind()}')
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(f'expected a number, got {self._kind()}')
        if not np.isfinite(value):
            self.fail(f'expected a finite number, got {value}')
        if not low <= value <= high:
            self.fail(f'expected {low:g} .. {high:g}, got {value:g}')
        return float(value)

    def numbers(self, shape: Tuple[int, ...], low: float = -1e6, high: float = 1e6) -> FloatArray:
        """Array of one or two dimensions, written as a list or a list of lists."""
        if len(shape) == 1:
            return np.array([item.number(low, high) for item in self.items(shape[0], shape[0])])
        rows = self.items(shape[0], shape[0])
        return np.stack([row.numbers(shape[1:], low, high) for row in rows])

    def plain(self) -> Any:
        """The value as dictionaries, lists and scalars."""
        if isinstance(self._node, yaml.MappingNode):
            return {name: field.plain() for name, field in self.open_mapping().items()}
        if isinstance(self._node, yaml.SequenceNode):
            return [field.plain() for field in self.items(0, 100_000)]
        return self._scalar()

    def _scalar(self) -> Any:
        if not isinstance(self._node, yaml.ScalarNode):
            self.fail(f'expected one value, got {self._kind()}')
        try:
            return _construct(self._node)
        except (yaml.YAMLError, ValueError) as error:
            self.fail(f'not understood: {" ".join(str(error).split())}')

    def _kind(self) -> str:
        if isinstance(self._node, yaml.ScalarNode):
            return f'{self._node.value!r}'[:60]
        return 'a list' if isinstance(self._node, yaml.SequenceNode) else 'a mapping'


def _construct(node: Any) -> Any:
    """Python value of a scalar node by the safe rules."""
    return yaml.constructor.SafeConstructor().construct_object(node)  # type: ignore[no-untyped-call]


def parse_manifest(data: bytes, source: str) -> Field:
    """The root of a YAML manifest.

    Raises:
        BundleError: too large, not UTF-8, not YAML, aliases, nested too deep, or empty.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f'{source}: {len(data)} bytes, a manifest has at most {MAX_MANIFEST_BYTES}')
    try:
        loader = _Loader(data.decode('utf-8'))
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        raise BundleError(f'{source}: not UTF-8 text (byte {error.start})') from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f' line {mark.line + 1}' if mark else ''
        raise BundleError(f'{source}{where}: not valid YAML: {error.problem}') from error
    except yaml.YAMLError as error:
        raise BundleError(f'{source}: not valid YAML: {" ".join(str(error).split())}') from error
    if node is None:
        raise BundleError(f'{source}: empty file, expected a bundle manifest')
    return Field(node, '', source)
