"""The manifest's fields, one function per part: from YAML to records (``manifest_record`` writes them)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np

from kd6d_ros.errors import BundleError, ShapeError
from kd6d_ros.inference.bundle_records import (
    KINDS,
    MANIFEST,
    SCHEMA,
    Bundle,
    Measured,
)
from kd6d_ros.inference.covariance import PRECISIONS, read_model
from kd6d_ros.inference.network_schema import read_decode, read_network
from kd6d_ros.types import ContinuousSymmetry, ObjectModel, RigidTransform, Symmetries

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.manifest_fields import Field

NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]{0,63}')
PRECISION = re.compile(r'[a-z][a-z0-9_-]{0,31}')
RELATIVE = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,3}')
SHA256 = re.compile(r'[0-9a-f]{64}')

DIAMETERS = (0.005, 10.0)
"""Sane diameters [m]; anything else is most likely in another unit."""

REQUIRED = ('schema', 'name', 'kind', 'objects', 'network', 'decode', 'engines', 'licence', 'origin', 'files')
OPTIONAL = ('training', 'expected', 'measured', 'covariance', 'meshes', 'codes')


def read_bundle(root: Field, folder: Path, with_covariance: bool = True) -> Bundle:
    """The bundle that a manifest describes, with its covariance or without; files are not looked at.

    Raises:
        BundleError: names the line and the field.
    """
    _check_schema(root)
    fields = root.mapping(REQUIRED, OPTIONAL)
    kind = fields['kind'].text(32)
    if kind not in KINDS:
        fields['kind'].fail(f'unknown kind {kind!r}: this version of kd6d_ros knows {", ".join(KINDS)}')
    objects = _objects(fields['objects'])
    names = [item.name for item in objects]
    files_of = {what: _files_of_objects(fields[what], names) if what in fields else {} for what in ('meshes', 'codes')}
    _check_codes(root, kind, fields.get('codes'), files_of['codes'], names)
    engines = _files_by(fields['engines'], PRECISION, 'precision')
    if not engines:
        fields['engines'].fail('expected at least one engine')
    covariance = _covariance(fields['covariance'], names) if with_covariance and 'covariance' in fields else None
    expected = fields['expected'].open_mapping() if 'expected' in fields else {}
    return Bundle(
        name=_match(fields['name'], NAME, 'a name'),
        objects=objects,
        network=read_network(fields['network'], kind),
        decode=read_decode(fields['decode'], kind),
        folder=folder,
        kind=kind,
        schema=fields['schema'].whole(1, SCHEMA),
        engines=engines,
        licence=fields['licence'].text(),
        origin=fields['origin'].text(),
        training=_free(fields['training']) if 'training' in fields else {},
        expected={key: value.number() for key, value in expected.items()},
        measured=_measured(fields['measured'], engines) if 'measured' in fields else {},
        covariance=covariance,
        meshes=files_of['meshes'],
        codes=files_of['codes'],
        files=_hashes(fields['files']),
    )


def _files_of_objects(field: Field, names: List[str]) -> Dict[str, str]:
    out = _files_by(field, NAME, 'object name')
    for name in out:
        if name not in names:
            field.fail(f'{name!r} is not an object of this bundle')
    return out


def _check_codes(root: Field, kind: str, field: Optional[Field], codes: Dict[str, str], names: List[str]) -> None:
    """A dense bundle has the codes of every object, another one has none."""
    lacking = [name for name in names if name not in codes]
    if kind == 'dense' and lacking:
        (field or root).fail(f'no surface codes of {lacking[0]!r}, which kind: dense needs; export the bundle again')
    if kind != 'dense' and codes and field is not None:
        field.fail(f'surface codes belong to kind: dense, this bundle is of kind: {kind}')


def _covariance(field: Field, names: List[str]) -> Optional[Dict[str, Any]]:
    if field.is_null:
        return None
    record = _free(field)
    own = record.get(PRECISIONS) or {}
    if not isinstance(own, dict) or not all(isinstance(item, dict) for item in own.values()):
        field.fail(f'{PRECISIONS} must map names of precisions to records')
    for precision, item in [('', record), *own.items()]:
        try:
            model = read_model(item, precision)
        except BundleError as error:
            field.fail(str(error))
        for name in [*model.objects, *model.views]:
            if name not in names:
                field.fail(f'{name!r} is not an object of this bundle')
    return record


def _check_schema(root: Field) -> None:
    fields = root.open_mapping()
    if 'schema' not in fields:
        root.fail("the field 'schema' is missing: is this a bundle of kd6d_ros?")
    version = fields['schema'].whole(1, 10**6)
    if version > SCHEMA:
        fields['schema'].fail(
            f'the bundle has schema {version}, this kd6d_ros reads up to {SCHEMA}: update kd6d_ros, '
            'or export the bundle with this version'
        )


def _match(field: Field, pattern: re.Pattern[str], what: str) -> str:
    value = field.text(200)
    if not pattern.fullmatch(value):
        field.fail(f'{value!r} is not {what} that matches {pattern.pattern}')
    return value


def _objects(field: Field) -> Tuple[ObjectModel, ...]:
    objects: List[ObjectModel] = []
    for item in field.items(1, 1000):
        model = _object(item)
        if model.name in [other.name for other in objects]:
            item.fail(f'the name {model.name!r} is given twice')
        if model.obj_id in [other.obj_id for other in objects]:
            item.fail(f'obj_id {model.obj_id} is given twice')
        objects.append(model)
    return tuple(objects)


def _object(field: Field) -> ObjectModel:
    fields = field.mapping(('name', 'obj_id', 'diameter_m', 'keypoints_m'), ('display_name', 'symmetries'))
    name = _match(fields['name'], NAME, 'an object name that ROS allows, one')
    diameter = fields['diameter_m'].number()
    if not DIAMETERS[0] <= diameter <= DIAMETERS[1]:
        unit = '; are these millimetres?' if DIAMETERS[0] <= diameter / 1000 <= DIAMETERS[1] else ''
        fields['diameter_m'].fail(f'expected {DIAMETERS[0]:g} .. {DIAMETERS[1]:g} metres, got {diameter:g}{unit}')
    keypoints = fields['keypoints_m'].numbers((8, 3), -1e4, 1e4)
    diagonal = float(np.linalg.norm(keypoints.max(axis=0) - keypoints.min(axis=0)))
    if not 0.9 * diameter <= diagonal <= 1.9 * diameter:
        fields['keypoints_m'].fail(
            f'the corners span {diagonal:.4g} m, which does not fit a diameter of {diameter:.4g} m: '
            'both must be in metres'
        )
    symmetries = _symmetries(fields['symmetries']) if 'symmetries' in fields else Symmetries()
    display = fields['display_name'].text(200) if 'display_name' in fields else name
    return ObjectModel(name, fields['obj_id'].whole(0, 10**9), diameter, keypoints, symmetries, display)


def _symmetries(field: Field) -> Symmetries:
    if field.is_null:
        return Symmetries()
    fields = field.mapping((), ('discrete', 'continuous'))
    discrete = []
    for item in fields['discrete'].items(0, 1000) if 'discrete' in fields else ():
        matrix = item.numbers((16,), -1e4, 1e4).reshape(4, 4)
        if not np.allclose(matrix[3], [0, 0, 0, 1]):
            item.fail('the last row of a 4x4 transform is 0 0 0 1')
        try:
            discrete.append(RigidTransform.from_matrix(matrix))
        except ShapeError as error:
            item.fail(str(error))
    continuous = []
    for item in fields['continuous'].items(0, 100) if 'continuous' in fields else ():
        parts = item.mapping(('axis', 'offset_m'))
        axis = parts['axis'].numbers((3,))
        length = float(np.linalg.norm(axis))
        if length < 1e-6:
            parts['axis'].fail('the axis has no length')
        continuous.append(ContinuousSymmetry(axis / length, parts['offset_m'].numbers((3,), -1e4, 1e4)))
    return Symmetries(tuple(discrete), tuple(continuous))


def _files_by(field: Field, pattern: re.Pattern[str], what: str) -> Dict[str, str]:
    """Mapping of names to relative files."""
    if field.is_null:
        return {}
    out = {}
    for key, value in field.open_mapping().items():
        if not pattern.fullmatch(key):
            value.fail(f'{key!r} is not a {what} that matches {pattern.pattern}')
        out[key] = _relative(value, value.text(300))
    return out


def _relative(field: Field, path: str) -> str:
    if not RELATIVE.fullmatch(path) or '..' in path.split('/') or path == MANIFEST:
        field.fail(f'{path!r} is not a file inside the bundle folder')
    return path


def _measured(field: Field, engines: Dict[str, str]) -> Dict[str, Measured]:
    out = {}
    for key, value in field.open_mapping().items():
        if key not in engines:
            value.fail(f'{key!r} is not a precision of this bundle ({", ".join(sorted(engines))})')
        numbers = value.mapping((), ('latency_ms', 'objects', 'recall', 'drop_points', 'keypoint_error_px'))
        given = {name: item for name, item in numbers.items() if not item.is_null}
        limits = {'latency_ms': (0.0, 1e6), 'recall': (0.0, 1.0), 'drop_points': (-100.0, 100.0)}
        read = {name: item.number(*limits.get(name, (0.0, 1e6))) for name, item in given.items() if name != 'objects'}
        out[key] = Measured(**read, objects=given['objects'].whole(1, 10**9) if 'objects' in given else None)
    return out


def _hashes(field: Field) -> Dict[str, str]:
    out = {}
    for key, value in field.open_mapping().items():
        _relative(value, key)
        out[key] = _match(value, SHA256, 'a sha256')
    if len(out) > 10_000:
        field.fail(f'expected at most 10000 files, got {len(out)}')
    return out


def _free(field: Field) -> Dict[str, Any]:
    if field.is_null:
        return {}
    return {key: value.plain() for key, value in field.open_mapping().items()}
