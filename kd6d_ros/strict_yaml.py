"""Settings from YAML files into frozen dataclasses, where every mistake is one line with file, setting and cure.

A field's annotation says what is allowed: int, float, bool, str, a tuple of one of these, or another dataclass
(a group of settings). Two rules come with it: a pair of floats is a range [low, high], and a float whose name
ends in ``probability`` or ``fraction`` lies in 0..1. Nothing here imports NumPy or torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import reprlib
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml

from kd6d_ros.errors import ConfigError

T = TypeVar('T')

MAX_BYTES = 1 << 20
_EXPONENT = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+')
"""Numbers such as 1e-3, which YAML 1.1 takes for text."""

_KINDS = {int: 'a whole number', float: 'a number', bool: 'true or false', str: 'text (in quotes)'}
_PLURALS = {int: 'whole numbers', float: 'numbers', bool: 'true or false', str: 'texts (in quotes)'}


def read_mapping(path: Path) -> dict[str, Any]:
    """The settings of a YAML file; an empty file has none.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or holds something else than a mapping.
    """
    try:
        with path.open('rb') as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read ({error.strerror})') from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f'{path}: over the limit of {MAX_BYTES >> 20} MiB for settings; is it the right file?')
    content = parse_yaml(data, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f'{path}: the top level must be a mapping of settings, got {_short(content)}')
    return content


def parse_yaml(text: str | bytes, source: str) -> Any:
    """The plain value that `text` stands for; `source` leads the message of an error.

    Raises:
        ConfigError: not valid YAML.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-13-01
        raise ConfigError(f'{source}: not valid YAML ({" ".join(str(error).split())[:200]})') from None


def parse_setting(text: str, source: str, example: str) -> tuple[str, Any]:
    """Name and plain value of ``NAME=VALUE`` as typed on a command line.

    Args:
        source: leads the message of an error, e.g. the option with the text.
        example: a setting that is right, for that message.

    Raises:
        ConfigError: no name or no equals sign, or a value that is not valid YAML.
    """
    name, sign, value = text.partition('=')
    if not sign or not name:
        raise ConfigError(f'{source}: expected NAME=VALUE, e.g. {example}')
    return name, parse_yaml(value, source)


def from_mapping(cls: type[T], content: Any, source: str, prefix: str = '') -> T:
    """The dataclass `cls` from a mapping; a key that is missing keeps its default.

    Args:
        source: leads each message, e.g. the path of the file.
        prefix: where in the file the mapping stands, e.g. ``scene.``.

    Raises:
        ConfigError: an unknown key (the nearest one is named), a wrong type, length, order or bound.
    """
    if not isinstance(content, dict):
        where = prefix.rstrip('.') or 'the top level'
        raise ConfigError(f'{source}: {where} must be a mapping of settings, got {_short(content)}')
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cast('Any', cls))]
    values = {}
    for key, value in content.items():
        if key not in names:
            raise ConfigError(f"{source}: unknown setting '{prefix}{key}'; {_cure(cls, str(key), prefix)}")
        values[key] = _value(hints[key], value, source, prefix + key)
    try:
        return cls(**values)
    except ConfigError as error:  # a dataclass that checks itself does not know the file
        raise ConfigError(f'{source}: {error}') from None


def _cure(cls: Any, key: str, prefix: str) -> str:
    """What may have been meant by `key`: the same word one group further down, else the nearest word here."""
    hints = get_type_hints(cls)
    groups = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    deeper = [f'{name}.{key}' for name, hint in groups.items() if key in get_type_hints(hint)]
    near = deeper or difflib.get_close_matches(key, hints, 1, 0.4)
    return f"did you mean '{prefix}{near[0]}'?" if near else f'expected one of {", ".join(hints)}'


def _value(hint: Any, value: Any, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_mapping(cast('type[Any]', hint), value, source, name + '.')
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), value, source, name)
    return _single(hint, value, source, name)


def _tuple(kinds: tuple[Any, ...], value: Any, source: str, name: str) -> tuple[Any, ...]:
    any_length = kinds[-1] is Ellipsis
    if not isinstance(value, (list, tuple)) or not (any_length or len(value) == len(kinds)):
        count = '' if any_length else f'{len(kinds)} '
        raise ConfigError(f'{source}: {name} must be a list of {count}{_PLURALS[kinds[0]]}, got {_short(value)}')
    items = tuple(_single(kinds[0], item, source, name) for item in value)
    if kinds == (float, float) and items[0] > items[1]:
        raise ConfigError(f'{source}: {name} = {list(items)}: the low end is above the high end')
    return items


def _single(kind: Any, value: Any, source: str, name: str) -> Any:
    good = _number(kind, value) if kind in (int, float) else value if isinstance(value, kind) else None
    if good is None:
        raise ConfigError(f'{source}: {name} must be {_KINDS[kind]}, got {_short(value)}')
    if kind is float and name.endswith(('probability', 'fraction')) and not 0.0 <= good <= 1.0:
        what = 'probability' if name.endswith('probability') else 'fraction'
        raise ConfigError(f'{source}: {name} = {good}: a {what} lies in 0..1')
    return good


def _number(kind: type[int] | type[float], value: Any) -> int | float | None:
    """`value` as a finite `kind`; None when it is none."""
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        good = math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return kind(value) if good and (kind is float or int(value) == value) else None


def _short(value: Any) -> str:
    """`value` for a message: one line, a few dozen characters."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes out no whole number of many thousand digits
        return 'a number of thousands of digits'
