"""How commands hand results to people and programs: the `--json [FILE]` option and aligned tables."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from kd6d_ros.errors import ConfigError

ENGINES = 'auto, onnxruntime, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt or tensorrt-weak'
"""For help texts, which must not import NumPy; a test holds it to ``inference.engines.select.ENGINES``."""


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--json [FILE]``; ``arguments.json`` is None (absent), '-' (standard output) or a file name."""
    parser.add_argument(
        '--json',
        nargs='?',
        const='-',
        metavar='FILE',
        help='write the result as one JSON object to FILE, else to standard output (then without the table)',
    )


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--engine``, ``--precision`` and ``--threads``, for ``inference.engines.select.make_engine``."""
    parser.add_argument('--engine', default='auto', help=f'inference engine: {ENGINES} (default: %(default)s)')
    parser.add_argument('--precision', default='fp32', help="one of the bundle's, or auto (default: %(default)s)")
    parser.add_argument('--threads', type=int, metavar='N', help='CPU threads of the network')


def wants_table(arguments: argparse.Namespace) -> bool:
    """Whether the table for people goes to standard output (not while JSON goes there)."""
    return getattr(arguments, 'json', None) != '-'


def check_folder(name: str, path: Path) -> None:
    """Refuse a file where a command will make or fill a folder; `name` leads the message, e.g. ``--out runs``.

    Raises:
        ConfigError: `path` is a file.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f'{name}: is a file; expected a folder')


def check_new_folder(option: str, path: Path) -> None:
    """Refuse a folder with something in it, so that no result is lost.

    Raises:
        ConfigError: `path` is a file or a folder that is not empty.
    """
    check_folder(f'{option} {path}', path)
    if path.is_dir() and any(path.iterdir()):
        raise ConfigError(f'{option} {path}: is there already; give a new folder, so that no result is lost')


def check_json_target(target: Optional[str]) -> None:
    """Refuse what ``--json`` cannot write to; called before the work, whose result would be lost.

    Raises:
        ConfigError: the target is a folder, or lies in a folder that does not exist.
    """
    if target is None or target == '-':
        return
    path = Path(target)
    if path.is_dir():
        raise ConfigError(f'--json {target}: is a folder; name a file, or put --json last to print')
    if not path.parent.is_dir():
        raise ConfigError(f'--json {target}: the folder {path.parent} does not exist; create it first')


def write_json(record: Mapping[str, Any], target: Optional[str]) -> None:
    """Write `record` where ``--json`` said: nowhere (None), standard output ('-') or a file (aside, renamed).

    NumPy values become numbers and lists, paths become text, NaN and infinity become null.

    Raises:
        ConfigError: the target is a folder, lies in a folder that does not exist, or cannot be written.
    """
    if target is None:
        return
    text = json.dumps(_plain(record), indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    if target == '-':
        sys.stdout.write(text)
        return
    check_json_target(target)
    path = Path(target)
    aside = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        aside.write_text(text, encoding='utf-8')
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ConfigError(f'--json {target}: {error.strerror}') from error


def format_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns: first column left, the others right; floats with four significant digits."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        '  '.join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, '  '.join('-' * width for width in widths))
    return '\n'.join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """`value` in terms of what JSON knows; NumPy is recognised by its `tolist`, without importing it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
