"""BOP result files: one pose per line, ``scene_id,im_id,obj_id,score,R,t,time``.

R is nine numbers row-major, t three numbers in **millimetres**, time the seconds spent on the whole image or
-1. Format: https://bop.felk.cvut.cz/challenges (section "Format of results").
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Collection, Iterator, List, Optional, Sequence

import numpy as np

from kd6d_ros.errors import DatasetError
from kd6d_ros.evaluation.records import Estimate
from kd6d_ros.geometry.transforms import nearest_rotation
from kd6d_ros.types import RigidTransform

HEADER = 'scene_id,im_id,obj_id,score,R,t,time'
MM = 1000.0
MAX_FILE_BYTES = 2048 * 1024 * 1024
_ROTATION_TOLERANCE = 1e-2
"""Files carry few decimals: rotations within this of orthonormal are made exact, others refused."""


def read_results(path: Path | str, known_objects: Optional[Collection[int]] = None) -> List[Estimate]:
    """Estimates of a BOP result file, in file order; translations become metres.

    Args:
        known_objects: object ids the dataset has; None accepts all.

    Raises:
        DatasetError: missing, empty or too large file, or a malformed line (with its number).
    """
    return list(iterate_results(path, known_objects))


def iterate_results(path: Path | str, known_objects: Optional[Collection[int]] = None) -> Iterator[Estimate]:
    """The same, line by line."""
    path, empty = Path(path), True
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DatasetError(f'{path}: {size >> 20} MiB, result files may have {MAX_FILE_BYTES >> 20}')
        with path.open(encoding='utf-8-sig') as lines:
            for number, line in enumerate(lines, start=1):
                empty = empty and not line.strip()
                is_header = number == 1 and line.replace(' ', '').lower().startswith('scene_id,')
                if line.strip() and not is_header:
                    yield _parse_line(line.rstrip('\n'), f'{path} line {number}', known_objects)
    except UnicodeDecodeError as error:
        raise DatasetError(f'{path}: not a text file (expected a BOP result CSV)') from error
    except OSError as error:
        raise DatasetError(f'{path}: cannot be read: {error.strerror}') from error
    if empty:
        raise DatasetError(f'{path}: the file is empty; expected the header "{HEADER}" and one pose per line')


def _parse_line(line: str, where: str, known_objects: Optional[Collection[int]]) -> Estimate:
    cells = line.split(',')
    if len(cells) != 7:
        raise DatasetError(f'{where}: expected 7 values ({HEADER}), got {len(cells)}')
    try:
        scene_id, image_id, obj_id = (int(cell) for cell in cells[:3])
        score, seconds = float(cells[3]), float(cells[6])
        rotation = np.array(cells[4].split(), dtype=np.float64)
        translation = np.array(cells[5].split(), dtype=np.float64)
    except ValueError as error:
        raise DatasetError(f'{where}: {error}') from error
    if rotation.shape != (9,) or translation.shape != (3,):
        raise DatasetError(f'{where}: expected 9 numbers in R and 3 in t, got {rotation.size} and {translation.size}')
    if not np.isfinite([score, seconds, *rotation, *translation]).all():
        raise DatasetError(f'{where}: score, R, t or time is NaN or infinite: leave failed poses out')
    if known_objects is not None and obj_id not in known_objects:
        known = ', '.join(str(known) for known in sorted(known_objects))
        raise DatasetError(f'{where}: unknown object {obj_id}; models_info.json has {known}')
    pose = RigidTransform(_checked_rotation(rotation.reshape(3, 3), where), translation / MM)
    return Estimate(scene_id, image_id, obj_id, score, pose, seconds)


def _checked_rotation(rotation: np.ndarray, where: str) -> np.ndarray:
    misfit = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if misfit > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise DatasetError(f'{where}: R is not a rotation (orthonormal, determinant 1; off by {misfit:.2g})')
    return nearest_rotation(rotation)


def write_results(path: Path | str, estimates: Sequence[Estimate]) -> None:
    """Write estimates as a BOP result file (millimetres), aside first and then renamed.

    Raises:
        DatasetError: the file cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    text = '\n'.join([HEADER, *(_format_line(estimate) for estimate in estimates)]) + '\n'
    try:
        aside.write_text(text, encoding='utf-8')
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise DatasetError(f'{path}: cannot be written: {error.strerror}') from error


def _format_line(estimate: Estimate) -> str:
    rotation = ' '.join(f'{value:.9g}' for value in estimate.cam_from_obj.rotation.reshape(-1))
    translation = ' '.join(f'{value:.9g}' for value in estimate.cam_from_obj.translation * MM)
    ids = f'{estimate.scene_id},{estimate.image_id},{estimate.obj_id}'
    return f'{ids},{estimate.score:.9g},{rotation},{translation},{estimate.seconds:.6g}'
