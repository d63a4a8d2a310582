"""``objects.yaml``: names, unit and symmetries of the meshes in a models folder.

unit: mm                      # of the meshes and offsets: m or mm; a BOP folder is mm and needs no unit
objects:
  1: {name: ape, display_name: Ape}                      # a BOP folder: object id -> name
  2:                                                     # a plain folder: also the mesh
    name: cracker_box
    mesh: 003_cracker_box/textured.obj
    symmetries_continuous: [{axis: [0, 0, 1], offset: [0, 0, 0]}]     # as in models_info.json
    symmetries_discrete: [[1, 0, 0, 0,  0, 1, 0, 0,  0, 0, 1, 0,  0, 0, 0, 1]]
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import yaml

from kd6d_ros.data.bop_json import MAX_ID
from kd6d_ros.data.bop_lists import read_symmetries
from kd6d_ros.errors import ConfigError, DatasetError, ShapeError
from kd6d_ros.types import ObjectModel, Symmetries

FILE_NAME = 'objects.yaml'
NAME_RULE = re.compile(r'[A-Za-z][A-Za-z0-9_]*')
MAX_YAML_BYTES = 4 * 1024 * 1024
UNITS_PER_METRE = {'m': 1.0, 'mm': 1000.0}
_KEYS = ('name', 'display_name', 'mesh', 'symmetries_discrete', 'symmetries_continuous')


@dataclass(frozen=True, eq=False)
class ObjectEntry:
    """One object of the file; symmetries are None when the file says nothing about them."""

    name: str
    display_name: str = ''
    mesh: Optional[str] = None
    symmetries: Optional[Symmetries] = None


@dataclass(frozen=True, eq=False)
class ObjectsFile:
    """The whole file; `unit` is None when it names none."""

    path: Path
    unit: Optional[str] = None
    objects: Dict[int, ObjectEntry] = field(default_factory=dict)


def check_name(name: Any, where: str) -> str:
    """The name, if ROS allows it in topic and frame names.

    Raises:
        ConfigError: it does not; says the rule and the cure.
    """
    if not isinstance(name, str) or not NAME_RULE.fullmatch(name) or len(name) > 64:
        raise ConfigError(
            f'{where}: {name!r} cannot be the name of an object (a letter, then letters, digits and _, '
            f'at most 64); give it another name in {FILE_NAME}'
        )
    return name


def read_objects_yaml(path: Path) -> ObjectsFile:
    """Read and check the file.

    Raises:
        ConfigError: missing, not YAML (line named), unknown key, wrong type, a name twice.
    """
    record = _load(Path(path))
    _only(path, record, ('unit', 'objects'), '')
    unit = record.get('unit')
    if unit is not None and unit not in UNITS_PER_METRE:
        raise ConfigError(f'{path} key unit: expected m or mm, got {unit!r}')
    rows = record.get('objects')
    if not isinstance(rows, dict) or not rows:
        raise ConfigError(f'{path} key objects: expected a mapping of object ids to names')
    objects: Dict[int, ObjectEntry] = {}
    names: Dict[str, int] = {}
    for ident, row in rows.items():
        if isinstance(ident, bool) or not isinstance(ident, int) or not 0 <= ident <= MAX_ID:
            raise ConfigError(f'{path} key objects: {ident!r} is not an object id (a whole number from 0)')
        entry = _entry(Path(path), f'objects.{ident}', row, UNITS_PER_METRE[unit or 'mm'])
        if entry.name in names:
            raise ConfigError(f'{path}: objects {names[entry.name]} and {ident} are both called {entry.name!r}')
        names[entry.name] = ident
        objects[ident] = entry
    return ObjectsFile(Path(path), unit, objects)


def _load(path: Path) -> Dict[str, Any]:
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ConfigError(f'{path}: over the limit of {MAX_YAML_BYTES // 2**20} MiB')
        record = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read ({error.strerror})') from None
    except yaml.MarkedYAMLError as error:
        line = '' if error.problem_mark is None else f' line {error.problem_mark.line + 1}'
        raise ConfigError(f'{path}{line}: not valid YAML ({error.problem or error.context})') from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f'{path}: not valid YAML ({" ".join(str(error).split())})') from None
    if not isinstance(record, dict):
        raise ConfigError(f'{path}: expected a mapping with the key objects')
    return record


def _only(path: Path, record: Dict[Any, Any], known: Sequence[str], where: str) -> None:
    unknown = [key for key in record if key not in known]
    if unknown:
        place = f' key {where}' if where else ''
        raise ConfigError(f'{path}{place}: unknown key {unknown[0]!r}; known are {", ".join(known)}')


def _entry(path: Path, where: str, row: Any, per_metre: float) -> ObjectEntry:
    if isinstance(row, str):
        row = {'name': row}
    if not isinstance(row, dict) or 'name' not in row:
        raise ConfigError(f'{path} key {where}: expected a name, or a mapping with the key name')
    _only(path, row, _KEYS, where)
    for key in ('display_name', 'mesh'):
        if key in row and not isinstance(row[key], str):
            raise ConfigError(f'{path} key {where}.{key}: expected text, got {row[key]!r}')
    symmetries = None
    if 'symmetries_discrete' in row or 'symmetries_continuous' in row:
        try:
            symmetries = read_symmetries(path, where, row, per_metre)
        except (DatasetError, ShapeError) as error:
            raise ConfigError(str(error)) from None
    name = check_name(row['name'], f'{path} key {where}.name')
    return ObjectEntry(name, row.get('display_name', ''), row.get('mesh'), symmetries)


def write_objects_yaml(folder: Path, models: Sequence[ObjectModel]) -> Path:
    """Write the names of `models` beside a models_info.json, so that a copy of the folder keeps them."""
    rows = {int(model.obj_id): _named(model) for model in models}
    path = Path(folder) / FILE_NAME
    aside = path.with_name(f'.{path.name}.part')
    aside.write_text(yaml.safe_dump({'objects': rows}, sort_keys=True), encoding='utf-8')
    os.replace(aside, path)
    return path


def _named(model: ObjectModel) -> Dict[str, str]:
    row = {'name': model.name}
    if model.display_name:
        row['display_name'] = model.display_name
    return row
