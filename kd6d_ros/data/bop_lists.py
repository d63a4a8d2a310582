"""BOP files beside the scenes: targets, detections and models_info.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from kd6d_ros.data import bop_json
from kd6d_ros.data.bop_records import BopDetection, ModelInfo, Target
from kd6d_ros.errors import DatasetError, ShapeError
from kd6d_ros.types import ContinuousSymmetry, RigidTransform, Symmetries

MM = 1000.0
MAX_DIAMETER_MM = 100_000.0

DetectionTable = Dict[Tuple[int, int], List[BopDetection]]


def read_targets(path: Path) -> List[Target]:
    """Targets of a BOP list such as test_targets_bop19.json, in the order of the file.

    Raises:
        DatasetError: not such a list; names the file and the entry.
    """
    path = Path(path)
    rows = bop_json.records(path, '', bop_json.read_json(path, list, 'a BOP target list'))
    targets = []
    for index, row in enumerate(rows):
        where = f'[{index}]'
        scene, image, obj = (_id(path, where, row, key) for key in ('scene_id', 'im_id', 'obj_id'))
        # The detection targets of the 2024 challenge have no counts: each row is then one instance.
        count = bop_json.whole(path, f'{where}.inst_count', row.get('inst_count', 1), 1, 10_000)
        targets.append(Target(scene, image, obj, count))
    return targets


def _id(path: Path, where: str, row: Dict[str, Any], key: str) -> int:
    return bop_json.whole(path, f'{where}.{key}', bop_json.entry(path, where, row, key))


def read_detections(path: Path) -> DetectionTable:
    """Detections by (scene id, image id), best score first within an image.

    Reads the BOP list (scene_id, image_id, category_id, score, bbox x y w h, time) and the older mapping
    ``{'scene/image': [{obj_id, score, bbox_est}]}``. Boxes become x0 y0 x1 y1.

    Raises:
        DatasetError: neither of the two, or a value out of range; names the file and the entry.
    """
    path = Path(path)
    value = bop_json.read_json(path, object, 'a list of detections')
    table: DetectionTable = {}
    if isinstance(value, list):
        for index, row in enumerate(bop_json.records(path, '', value)):
            where = f'[{index}]'
            key = (_id(path, where, row, 'scene_id'), _id(path, where, row, 'image_id'))
            found = _detection(path, where, row, 'category_id', 'bbox')
            table.setdefault(key, []).append(found)
    elif isinstance(value, dict):
        for name, rows in value.items():
            scene, _, image = name.partition('/')
            ids = (bop_json.as_id(scene), bop_json.as_id(image))
            if ids[0] is None or ids[1] is None:
                bop_json.fail(path, name, "expected keys such as '2/17' (scene/image)")
            table[ids[0], ids[1]] = [
                _detection(path, f'{name}[{index}]', row, 'obj_id', 'bbox_est')
                for index, row in enumerate(bop_json.records(path, name, rows))
            ]
    else:
        bop_json.fail(path, '', 'expected a list or a mapping of detections', value)
    for rows in table.values():
        rows.sort(key=lambda item: -item.score)  # stable: ties keep the order of the file
    return table


def _detection(path: Path, where: str, row: Dict[str, Any], id_key: str, box_key: str) -> BopDetection:
    obj_id = _id(path, where, row, id_key)
    score = bop_json.number(path, f'{where}.score', bop_json.entry(path, where, row, 'score'), 0.0, 1.0 + 1e-6)
    x, y, width, height = bop_json.numbers(path, f'{where}.{box_key}', bop_json.entry(path, where, row, box_key), 4)
    if width <= 0 or height <= 0:
        bop_json.fail(path, f'{where}.{box_key}', f'box is empty (width {width:g}, height {height:g} px)')
    seconds: Optional[float] = None
    if row.get('time') is not None:
        seconds = bop_json.number(path, f'{where}.time', row['time'])
    box = np.array([x, y, x + width, y + height])
    return BopDetection(obj_id, min(score, 1.0), box, seconds)


def read_models_info(path: Path) -> Dict[int, ModelInfo]:
    """Diameter, box and symmetries by object id; `path` is models_info.json or the folder that holds it.

    Raises:
        DatasetError: missing or malformed; names the file and the key.
    """
    path = Path(path)
    if path.is_dir():
        path = path / 'models_info.json'
    value = bop_json.read_json(path, dict, 'the models_info.json of a BOP models folder')
    return {ident: _model(path, ident, record) for ident, record in bop_json.keyed_by_id(path, value).items()}


def _model(path: Path, ident: int, record: Any) -> ModelInfo:
    where = str(ident)
    diameter = bop_json.number(path, f'{where}.diameter', bop_json.entry(path, where, record, 'diameter'))
    if not 0 < diameter <= MAX_DIAMETER_MM:
        bop_json.fail(path, f'{where}.diameter', 'expected millimetres in (0, 100000]', diameter)
    low, size = (
        [bop_json.number(path, f'{where}.{key}{axis}', bop_json.entry(path, where, record, f'{key}{axis}'))
         for axis in 'xyz']
        for key in ('min_', 'size_')
    )  # fmt: skip
    box = np.array([low, np.add(low, size)]) / MM
    try:
        symmetries = read_symmetries(path, where, record, MM)
    except ShapeError as error:
        raise DatasetError(f'{path} key {where}: {error}') from None
    return ModelInfo(diameter / MM, box, symmetries)


def read_symmetries(path: Path, where: str, record: Dict[str, Any], per_metre: float) -> Symmetries:
    """BOP symmetries of a mapping with ``symmetries_discrete`` (16 numbers each) and ``symmetries_continuous``.

    Args:
        per_metre: how many of the file's length units make a metre (1000 for millimetres).

    Raises:
        DatasetError, ShapeError: a malformed entry.
    """
    discrete = []
    for index, item in enumerate(_list(path, where, record, 'symmetries_discrete')):
        place = f'{where}.symmetries_discrete[{index}]'
        matrix = np.reshape(bop_json.numbers(path, place, item, 16), (4, 4))
        discrete.append(rigid(path, place, matrix[:3, :3], matrix[:3, 3] / per_metre))
    continuous = []
    for index, item in enumerate(_list(path, where, record, 'symmetries_continuous')):
        place = f'{where}.symmetries_continuous[{index}]'
        axis = np.array(bop_json.numbers(path, f'{place}.axis', bop_json.entry(path, place, item, 'axis'), 3))
        offset = np.array(bop_json.numbers(path, f'{place}.offset', item.get('offset', [0, 0, 0]), 3))
        length = float(np.linalg.norm(axis))
        if length < 1e-6:
            bop_json.fail(path, f'{place}.axis', 'the axis has no length')
        continuous.append(ContinuousSymmetry(axis / length, offset / per_metre))
    return Symmetries(tuple(discrete), tuple(continuous))


def _list(path: Path, where: str, record: Dict[str, Any], key: str) -> List[Any]:
    value = record.get(key, [])
    if not isinstance(value, list) or len(value) > 1000:
        bop_json.fail(path, f'{where}.{key}', 'expected a list of at most 1000 entries', value)
    return value


def rigid(path: Path, where: str, rotation: Any, translation: Any) -> RigidTransform:
    """RigidTransform from rounded file values: a rotation within 2e-2 of orthonormal is made exact.

    Raises:
        DatasetError: not a rotation.
    """
    rotation = np.asarray(rotation, dtype=np.float64)
    deviation = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if deviation > 2e-2 or np.linalg.det(rotation) < 0:
        bop_json.fail(path, where, 'not a rotation matrix (rows must be orthonormal, determinant 1)')
    if deviation > 1e-9:
        left, _, right = np.linalg.svd(rotation)
        rotation = left @ right
    return RigidTransform(rotation, translation)
