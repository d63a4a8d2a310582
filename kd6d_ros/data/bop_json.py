"""Reading untrusted BOP JSON: bounded, typed, and every complaint names the file and the key."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Tuple

from kd6d_ros.errors import DatasetError

MAX_JSON_BYTES = 512 * 1024 * 1024
MAX_ID = 10**9


def read_json(path: Path, kind: type, what: str) -> Any:
    """Parse the JSON file `path`, whose top level must be a `kind` (dict or list).

    Args:
        what: what the file is, for the message of a missing one.

    Raises:
        DatasetError: missing, too large, not JSON (line named), or another top level.
    """
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            limit = MAX_JSON_BYTES // 2**20
            raise DatasetError(f'{path}: {size // 2**20} MiB is over the limit of {limit} MiB for {what}')
        value = json.loads(path.read_text(encoding='utf-8'), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise DatasetError(f'{path}: no such file ({what})') from None
    except json.JSONDecodeError as error:
        raise DatasetError(f'{path} line {error.lineno}: not valid JSON ({error.msg})') from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f'{path}: not valid JSON ({error})') from None
    except OSError as error:
        raise DatasetError(f'{path}: cannot be read ({error.strerror})') from None
    if not isinstance(value, kind):
        fail(path, '', f'expected {_word(kind)} at the top level of {what}', value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f'{name} is not a number that a dataset may hold')


def fail(path: Path, key: str, expected: str, value: Any = None) -> NoReturn:
    """Raise the one kind of complaint about a value: file, key, what was expected, what is there."""
    place = f'{path} key {key}' if key else str(path)
    shown = '' if value is None else f', got {_shown(value)}'
    raise DatasetError(f'{place}: {expected}{shown}')


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (bool, int, float, str)) else _word(type(value))
    return text if len(text) <= 60 else f'{text[:57]}...'


def _word(kind: type) -> str:
    return {dict: 'a mapping', list: 'a list', str: 'text', type(None): 'null'}.get(kind, kind.__name__)


def entry(path: Path, where: str, record: Any, key: str) -> Any:
    """``record[key]``, complaining when `record` is no mapping or lacks the key."""
    if not isinstance(record, dict):
        fail(path, where, 'expected a mapping', record)
    if key not in record:
        fail(path, f'{where}.{key}' if where else key, 'is missing')
    return record[key]


def number(path: Path, where: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail(path, where, 'expected a number', value)
    # Compared before the conversion: a whole number of a thousand digits does not fit a float.
    if not (-1e300 < value < 1e300 and low <= value <= high):
        bounds = '' if math.isinf(low) and math.isinf(high) else f' from {low:g} to {high:g}'
        fail(path, where, f'expected a finite number{bounds}', value)
    return float(value)


def whole(path: Path, where: str, value: Any, low: int = 0, high: int = MAX_ID) -> int:
    """A whole number in [low, high]; JSON floats such as 3.0 count."""
    number(path, where, value, low, high)
    if value != int(value):
        fail(path, where, 'expected a whole number', value)
    return int(value)


def numbers(path: Path, where: str, value: Any, count: int) -> Tuple[float, ...]:
    """A flat list of `count` finite numbers."""
    if not isinstance(value, list) or len(value) != count:
        size = f' of {len(value)}' if isinstance(value, list) else ''
        fail(path, where, f'expected a list of {count} numbers', value if not size else f'a list{size}')
    return tuple(number(path, f'{where}[{index}]', item) for index, item in enumerate(value))


def keyed_by_id(path: Path, record: Mapping[str, Any]) -> Dict[int, Any]:
    """The same mapping with whole-number keys (image or object ids)."""
    out: Dict[int, Any] = {}
    for key, value in record.items():
        ident = as_id(key)
        if ident is None:
            fail(path, key, f'expected keys that are whole numbers from 0 to {MAX_ID}')
        if ident in out:
            fail(path, key, 'names an id that is there twice')
        out[ident] = value
    return out


def as_id(text: str) -> Optional[int]:
    """The id that `text` (digits, zero-padded or not) names, or None."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    value = int(text)
    return value if value <= MAX_ID else None


def records(path: Path, where: str, value: Any) -> List[Dict[str, Any]]:
    """A list of mappings."""
    if not isinstance(value, list):
        fail(path, where, 'expected a list', value)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            fail(path, f'{where}[{index}]', 'expected a mapping', item)
    return value
