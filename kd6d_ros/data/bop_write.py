"""Writer of BOP scenes for many workers: same input, same bytes, whatever the order or the interruptions.

How a producer uses it:

    writer = BopSceneWriter(out / 'train' / '000000')          # in every worker
    done = writer.done()                                       # image ids to skip when a run resumes
    writer.write(ImageRecord(image_id, camera, image, depth, instances))   # any worker, any order
    ...
    writer.finalise(range(1000))                               # once, when all images of the scene are there

``write`` writes the pictures and, last of all and aside-then-renamed, ``records/000123.json``: an image counts
as done only with its record, and a half-written one is simply written again (readers see the folder as a
scene only after ``finalise``, so its twenty pictures are spared the renaming). ``finalise``
merges the records, sorted by id, into scene_camera.json, scene_gt.json and scene_gt_info.json and deletes
them. Nothing depends on time, process or order, so N workers and a resumed run give identical files.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Set, Tuple

import cv2
import numpy as np

from kd6d_ros.data import bop_json
from kd6d_ros.data.png_encode import encode_depth, encode_mask
from kd6d_ros.errors import ConfigError, DatasetError, ShapeError
from kd6d_ros.types import Camera, RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Float32Array, FloatArray, ImageArray

SCENE_FILES = {'camera': 'scene_camera.json', 'gt': 'scene_gt.json', 'gt_info': 'scene_gt_info.json'}
PICTURE_FOLDERS = ('rgb', 'depth', 'mask', 'mask_visib')


@dataclass(frozen=True, eq=False)
class InstanceRecord:
    """One object of an image.

    mask, mask_visible: (H, W) bool or uint8 (non-zero = object): the silhouette without and with occlusion.
    box_object (4,) x0 y0 x1 y1 [px] and pixels_all: of the whole silhouette, also where it leaves the image;
    taken from `mask` when None (then visible_fraction ignores what lies outside the image).
    """

    obj_id: int
    cam_from_obj: RigidTransform
    mask: AnyArray
    mask_visible: AnyArray
    box_object: Optional[FloatArray] = None
    pixels_all: Optional[int] = None


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image: id, camera, image (H, W, 3) uint8 RGB, depth (H, W) [m] or None, its objects."""

    image_id: int
    camera: Camera
    image: ImageArray
    depth: Optional[Float32Array] = None
    instances: Tuple[InstanceRecord, ...] = ()
    cam_from_world: Optional[RigidTransform] = None
    extra: Dict[str, Any] = field(default_factory=dict)
    """Further plain values for this image's entry of scene_camera.json (never a key BOP uses)."""


class BopSceneWriter:
    """Writes one scene folder; see the module's text for the order of calls.

    Args:
        folder: ``ROOT/SPLIT/000000``.
        quality: JPEG quality 1 to 100 of the colour image, or None for lossless PNG.
        depth_scale: millimetres per raw unit of the 16-bit depth (0.1 reaches 6.5 m).

    Raises:
        ConfigError: quality or depth_scale out of range.
    """

    def __init__(self, folder: Path, quality: Optional[int] = 95, depth_scale: float = 0.1) -> None:
        if quality is not None and not 1 <= quality <= 100:
            raise ConfigError(f'JPEG quality {quality}: expected 1 to 100, or none for PNG')
        if not 1e-3 <= depth_scale <= 100:
            raise ConfigError(f'depth_scale {depth_scale}: expected 0.001 to 100 mm per unit')
        self.folder = Path(folder)
        self.quality = quality
        self.depth_scale = depth_scale
        self._records = self.folder / 'records'
        for name in (*PICTURE_FOLDERS, 'records'):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def done(self) -> Set[int]:
        """Ids of the images that are complete: with a record, or in the merged scene files."""
        return set(self._record_paths()) | set(self._merged('camera'))

    def _record_paths(self) -> Dict[int, Path]:
        if not self._records.is_dir():
            return {}
        pairs = ((bop_json.as_id(path.stem), path) for path in self._records.glob('*.json'))
        return {ident: path for ident, path in sorted(pairs, key=lambda item: item[1]) if ident is not None}

    def _merged(self, part: str) -> Dict[int, Any]:
        path = self.folder / SCENE_FILES[part]
        if not path.is_file():
            return {}
        return bop_json.keyed_by_id(path, bop_json.read_json(path, dict, 'a scene file written before'))

    def write(self, record: ImageRecord) -> None:
        """Write the pictures of one image, then its record.

        Raises:
            ShapeError: image, depth or a mask is not of the camera's size and kind.
            OSError: the disk is full or read-only.
        """
        stem = f'{record.image_id:06d}'
        _check(record)
        colour = cv2.cvtColor(record.image, cv2.COLOR_RGB2BGR)
        if self.quality is None:
            self._picture('rgb', f'{stem}.png', colour, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        else:
            self._picture('rgb', f'{stem}.jpg', colour, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if record.depth is not None:
            self._put('depth', f'{stem}.png', encode_depth(self._raw_depth(record.depth)))
        truth, info = [], []
        known = None if record.depth is None else cv2.compare(record.depth, 0, cv2.CMP_GT)
        for index, instance in enumerate(record.instances):
            whole, visible = _mask_values(instance.mask), _mask_values(instance.mask_visible)
            for name, mask in (('mask', whole), ('mask_visib', visible)):
                self._put(name, f'{stem}_{index:06d}.png', encode_mask(mask))
            truth.append(_truth(instance))
            info.append(_info(instance, whole, visible, known))
        entry = {'camera': self._camera(record), 'gt': truth, 'gt_info': info}
        write_aside(self._records / f'{stem}.json', (_compact(entry) + '\n').encode())

    def _picture(self, folder: str, name: str, pixels: AnyArray, options: List[int]) -> None:
        fine, data = cv2.imencode(Path(name).suffix, pixels, options)
        if not fine:
            raise DatasetError(f'{self.folder / folder / name}: OpenCV cannot encode {pixels.shape} {pixels.dtype}')
        self._put(folder, name, data)

    def _put(self, folder: str, name: str, data: Any) -> None:
        with (self.folder / folder / name).open('wb') as file:
            file.write(data)

    def _raw_depth(self, depth: AnyArray) -> AnyArray:
        """Depth in raw units; what is not finite or does not fit 16 bits becomes 0 = unknown."""
        raw = np.multiply(depth, np.float32(1000.0 / self.depth_scale), dtype=np.float32)
        raw += np.float32(0.5)
        fits = (raw >= 0) & (raw < 65536)  # false for NaN
        if not fits.all():
            raw = np.where(fits, raw, np.float32(0))
        return raw.astype(np.uint16)

    def _camera(self, record: ImageRecord) -> Dict[str, Any]:
        entry: Dict[str, Any] = {
            'cam_K': _rounded(record.camera.matrix.ravel(), 9),
            'depth_scale': self.depth_scale,
        }
        if record.cam_from_world is not None:
            entry['cam_R_w2c'] = _rounded(record.cam_from_world.rotation.ravel(), 12)
            entry['cam_t_w2c'] = _rounded(record.cam_from_world.translation * 1000.0, 6)
        return {**record.extra, **entry}

    def finalise(self, image_ids: Optional[Iterable[int]] = None) -> int:
        """Merge the records into the scene files, delete the records, return the number of images.

        Images merged earlier stay, so that a finished scene can grow. Calling it twice changes nothing.

        Args:
            image_ids: the ids that must be there; None takes what is there.

        Raises:
            DatasetError: images are missing or a record is damaged; nothing is changed then.
        """
        paths = self._record_paths()
        merged = {part: self._merged(part) for part in SCENE_FILES}
        for ident, path in paths.items():
            record = bop_json.read_json(path, dict, 'the record of one image')
            for part in SCENE_FILES:
                merged[part][ident] = bop_json.entry(path, '', record, part)
        missing = sorted(set(image_ids or ()) - set(merged['camera']))
        if missing:
            raise DatasetError(
                f'{self.folder}: {len(missing)} images are not written yet (first: {missing[0]}); '
                'run it again to resume'
            )
        # scene_camera.json last: a reader takes a folder for a scene once that file is there.
        for part in ('gt_info', 'gt', 'camera'):
            write_aside(self.folder / SCENE_FILES[part], _by_image(merged[part]).encode())
        shutil.rmtree(self._records, ignore_errors=True)
        return len(merged['camera'])


def write_aside(path: Path, data: Any) -> None:
    """Write bytes beside `path`, then rename: the name never shows half a file."""
    aside = path.with_name(f'.{path.name}.part')
    with aside.open('wb') as file:
        file.write(data)
    os.replace(aside, path)


def detection_row(scene_id: int, image_id: int, obj_id: int, box: AnyArray) -> Dict[str, Any]:
    """A row of BOP's detections, sure and free of cost; `box` (4,) x0 y0 x1 y1 [px]."""
    sides = [round(float(value), 3) for value in (*box[:2], *(box[2:] - box[:2]))]
    ids = {'scene_id': scene_id, 'image_id': image_id, 'category_id': obj_id}
    return {**ids, 'score': 1.0, 'bbox': sides, 'time': 0.0}


def write_rows(path: Path, rows: Iterable[Dict[str, Any]]) -> None:
    """A BOP list (targets, detections) with a line for each row, aside and renamed."""
    text = ',\n'.join(json.dumps(row) for row in rows)
    write_aside(path, f'[\n{text}\n]\n'.encode())


def _check(record: ImageRecord) -> None:
    size = (record.camera.height, record.camera.width)
    what = f'image {record.image_id}'
    if record.image.shape != (*size, 3) or record.image.dtype != np.uint8:
        raise ShapeError(f'{what}: expected {(*size, 3)} uint8, got {record.image.shape} {record.image.dtype}')
    if record.depth is not None and record.depth.shape != size:
        raise ShapeError(f'{what}: depth of shape {record.depth.shape}, expected {size}')
    for index, instance in enumerate(record.instances):
        for name in ('mask', 'mask_visible'):
            mask = getattr(instance, name)
            if mask.shape != size or mask.dtype not in (np.bool_, np.uint8):
                raise ShapeError(
                    f'{what} object {index}: {name} is {mask.shape} {mask.dtype}, expected {size} bool or uint8'
                )


def _mask_values(mask: AnyArray) -> AnyArray:
    """0 and 255 as uint8."""
    mask = np.ascontiguousarray(mask)
    if mask.dtype == np.bool_:
        return np.negative(mask.view(np.uint8))  # 1 becomes 255
    return cv2.compare(mask, 0, cv2.CMP_NE)  # type: ignore[no-any-return]


def _truth(instance: InstanceRecord) -> Dict[str, Any]:
    return {
        'cam_R_m2c': _rounded(instance.cam_from_obj.rotation.ravel(), 12),
        'cam_t_m2c': _rounded(instance.cam_from_obj.translation * 1000.0, 6),
        'obj_id': int(instance.obj_id),
    }


def _info(instance: InstanceRecord, whole: AnyArray, visible: AnyArray, known: Optional[AnyArray]) -> Dict[str, Any]:
    """Entry of scene_gt_info, by the definitions of bop_toolkit's calc_gt_info.py; `known`: where depth is."""
    in_image = cv2.countNonZero(whole)
    everything = in_image if instance.pixels_all is None else int(instance.pixels_all)
    seen = cv2.countNonZero(visible)
    box = _xywh_of(whole)
    if instance.box_object is not None:
        x0, y0, x1, y1 = (float(value) for value in instance.box_object)
        box = _rounded(np.array([x0, y0, x1 - x0, y1 - y0]), 3)
    valid = in_image if known is None else cv2.countNonZero(cv2.bitwise_and(whole, known))
    return {
        'bbox_obj': box,
        'bbox_visib': _xywh_of(visible),
        'px_count_all': everything,
        'px_count_valid': valid,
        'px_count_visib': seen,
        'visib_fract': round(seen / everything, 9) if everything else 0.0,
    }


def _xywh_of(mask: AnyArray) -> List[Any]:
    """BOP box of a mask: first column, first row, last - first column, last - first row; all -1 when empty."""
    x, y, width, height = cv2.boundingRect(mask)
    return [-1, -1, -1, -1] if width == 0 else [x, y, width - 1, height - 1]


def _rounded(values: AnyArray, digits: int) -> List[float]:
    # Adding 0 turns -0.0 into 0.0, so that equal poses are equal bytes.
    return [round(float(value), digits) + 0.0 for value in values]


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(', ', ': '), allow_nan=False)


def _by_image(entries: Dict[int, Any]) -> str:
    """One line per image, ascending ids."""
    lines = ',\n'.join(f'  "{ident}": {_compact(entries[ident])}' for ident in sorted(entries))
    return f'{{\n{lines}\n}}\n' if lines else '{}\n'
