"""One scene of a BOP dataset; see ``bop`` for the layout."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np

from kd6d_ros.data import bop_json, image_files
from kd6d_ros.data.bop_lists import MM, rigid
from kd6d_ros.data.bop_records import Annotation
from kd6d_ros.errors import CameraError, DatasetError
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.types import Camera, RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Float32Array, FloatArray, ImageArray

COLOUR_FOLDERS = ('rgb', 'gray')


def shortened(idents: List[int]) -> str:
    """The ids, or the first few of many, for a message."""
    shown = ', '.join(str(item) for item in idents[:8])
    return f'{shown}, ... {idents[-1]} ({len(idents)} in all)' if len(idents) > 8 else shown or 'none'


class BopScene:
    """The images of one scene folder. JSON is parsed at the first question, images at every question."""

    def __init__(self, folder: Path, scene_id: int) -> None:
        self.folder = folder
        self.scene_id = scene_id
        self._listed: Dict[str, Dict[str, Path]] = {}

    @cached_property
    def _cameras(self) -> Dict[int, Any]:
        return self._by_image('scene_camera.json')

    @cached_property
    def _truth(self) -> Optional[Dict[int, Any]]:
        return self._by_image('scene_gt.json') if self.has_annotations else None

    @cached_property
    def _truth_info(self) -> Optional[Dict[int, Any]]:
        name = 'scene_gt_info.json'
        return self._by_image(name) if (self.folder / name).is_file() else None

    def _by_image(self, name: str) -> Dict[int, Any]:
        path = self.folder / name
        return bop_json.keyed_by_id(path, bop_json.read_json(path, dict, f'the {name} of a BOP scene'))

    @property
    def has_annotations(self) -> bool:
        """Whether there are ground-truth poses (held-out test sets have none)."""
        return (self.folder / 'scene_gt.json').is_file()

    @cached_property
    def image_ids(self) -> Tuple[int, ...]:
        """Ids of the images, ascending."""
        return tuple(sorted(self._cameras))

    def camera(self, image_id: int, size: Optional[Tuple[int, int]] = None) -> Camera:
        """Rectified pinhole camera of an image; `size` (width, height) [px] defaults to the file's header.

        Raises:
            DatasetError, CameraError, ImageError: no such image, unusable intrinsics, no image file.
        """
        path, where, record = self._camera_record(image_id)
        values = bop_json.numbers(path, f'{where}.cam_K', bop_json.entry(path, where, record, 'cam_K'), 9)
        width, height = size or image_files.image_size(self.image_path(image_id))
        try:
            return make_camera(np.reshape(values, (3, 3)), width, height)
        except CameraError as error:
            raise CameraError(f'{path} key {where}.cam_K: {error}') from None

    def cam_from_world(self, image_id: int) -> Optional[RigidTransform]:
        """Camera pose in the scene's world frame, when the dataset gives it."""
        path, where, record = self._camera_record(image_id)
        if 'cam_R_w2c' not in record or 'cam_t_w2c' not in record:
            return None
        rotation = bop_json.numbers(path, f'{where}.cam_R_w2c', record['cam_R_w2c'], 9)
        translation = bop_json.numbers(path, f'{where}.cam_t_w2c', record['cam_t_w2c'], 3)
        return rigid(path, f'{where}.cam_R_w2c', np.reshape(rotation, (3, 3)), np.divide(translation, MM))

    def _camera_record(self, image_id: int) -> Tuple[Path, str, Dict[str, Any]]:
        path, where = self.folder / 'scene_camera.json', str(image_id)
        if image_id not in self._cameras:
            raise DatasetError(f'{path}: no image {image_id}; it has {shortened(list(self.image_ids))}')
        record = self._cameras[image_id]
        if not isinstance(record, dict):
            bop_json.fail(path, where, 'expected a mapping', record)
        return path, where, record

    def _file(self, folder: str, stem: str) -> Optional[Path]:
        """File ``folder/stem.*`` of an image kind we read, or None."""
        if folder not in self._listed:
            place = self.folder / folder
            items = sorted(place.iterdir()) if place.is_dir() else []
            files = (item for item in items if item.suffix.lower() in image_files.SUFFIXES)
            self._listed[folder] = {item.stem: item for item in files}
        listed = self._listed[folder]
        return listed.get(stem)

    def _image_file(self, folder: str, image_id: int) -> Optional[Path]:
        return self._file(folder, f'{image_id:06d}') or self._file(folder, str(image_id))

    def image_path(self, image_id: int) -> Path:
        """File of the colour or grey image.

        Raises:
            DatasetError: there is none.
        """
        for folder in COLOUR_FOLDERS:
            path = self._image_file(folder, image_id)
            if path is not None:
                return path
        raise DatasetError(
            f'{self.folder}: image {image_id} has no file; expected rgb/{image_id:06d}.png (or gray/, .jpg, .tif)'
        )

    def image(self, image_id: int) -> ImageArray:
        """Image (H, W, 3) uint8 RGB; grey images are replicated.

        Raises:
            DatasetError, ImageError: no file, or it cannot be decoded.
        """
        return image_files.read_rgb(self.image_path(image_id))

    def depth_path(self, image_id: int) -> Optional[Path]:
        """File of the depth image, or None."""
        return self._image_file('depth', image_id)

    def depth(self, image_id: int) -> Optional[Float32Array]:
        """Depth along the optical axis (H, W) float32 [m], 0 where unknown; None without a depth file."""
        path = self.depth_path(image_id)
        if path is None:
            return None
        source, where, record = self._camera_record(image_id)
        value = bop_json.entry(source, where, record, 'depth_scale')
        return image_files.read_depth(path, bop_json.number(source, f'{where}.depth_scale', value, 1e-9, 1e6))

    def annotations(self, image_id: int) -> List[Annotation]:
        """Ground truth of an image in the order of scene_gt; empty when the dataset has none.

        Raises:
            DatasetError: no such image, or a malformed entry.
        """
        self._camera_record(image_id)
        if self._truth is None:
            return []
        path, where = self.folder / 'scene_gt.json', str(image_id)
        rows = bop_json.records(path, where, self._truth.get(image_id, []))
        infos = self._infos(image_id, len(rows))
        return [
            self._annotation(path, f'{where}[{index}]', index, row, info)
            for index, (row, info) in enumerate(zip(rows, infos, strict=True))
        ]

    def _infos(self, image_id: int, count: int) -> List[Dict[str, Any]]:
        if self._truth_info is None:
            return [{}] * count
        path = self.folder / 'scene_gt_info.json'
        infos = bop_json.records(path, str(image_id), self._truth_info.get(image_id, []))
        if len(infos) != count:
            bop_json.fail(
                path,
                str(image_id),
                f'{len(infos)} entries for the {count} of scene_gt.json; the files do not fit',
            )
        return infos

    def _annotation(self, path: Path, where: str, index: int, row: Dict[str, Any], info: Dict[str, Any]) -> Annotation:
        obj_id = bop_json.whole(path, f'{where}.obj_id', bop_json.entry(path, where, row, 'obj_id'))
        rotation = bop_json.numbers(path, f'{where}.cam_R_m2c', bop_json.entry(path, where, row, 'cam_R_m2c'), 9)
        translation = bop_json.numbers(path, f'{where}.cam_t_m2c', bop_json.entry(path, where, row, 'cam_t_m2c'), 3)
        pose = rigid(path, f'{where}.cam_R_m2c', np.reshape(rotation, (3, 3)), np.divide(translation, MM))
        source = self.folder / 'scene_gt_info.json'
        fraction = info.get('visib_fract')
        if fraction is not None:
            # Renderers disagree by a pixel or two, so real datasets hold values slightly above 1.
            fraction = min(1.0, bop_json.number(source, f'{where}.visib_fract', fraction, 0.0, 1.5))
        return Annotation(
            obj_id,
            pose,
            index,
            box_object=_box(source, where, info, 'bbox_obj'),
            box_visible=_box(source, where, info, 'bbox_visib'),
            visible_fraction=fraction,
            pixels_all=_count(source, where, info, 'px_count_all'),
            pixels_visible=_count(source, where, info, 'px_count_visib'),
        )

    def mask(self, image_id: int, index: int) -> Optional[AnyArray]:
        """Whole silhouette (H, W) bool of annotation `index`, or None without a mask file."""
        return self._mask('mask', image_id, index)

    def mask_visible(self, image_id: int, index: int) -> Optional[AnyArray]:
        """Visible part (H, W) bool of annotation `index`, or None without a mask file."""
        return self._mask('mask_visib', image_id, index)

    def _mask(self, folder: str, image_id: int, index: int) -> Optional[AnyArray]:
        path = self._file(folder, f'{image_id:06d}_{index:06d}')
        return None if path is None else image_files.read_mask(path)


def _box(path: Path, where: str, info: Dict[str, Any], key: str) -> Optional[FloatArray]:
    """x0 y0 x1 y1 from x y w h; None when absent or when BOP says 'nothing there' (all -1)."""
    if info.get(key) is None:
        return None
    x, y, width, height = bop_json.numbers(path, f'{where}.{key}', info[key], 4)
    return None if width < 0 or height < 0 else np.array([x, y, x + width, y + height])


def _count(path: Path, where: str, info: Dict[str, Any], key: str) -> Optional[int]:
    return None if info.get(key) is None else bop_json.whole(path, f'{where}.{key}', info[key])
