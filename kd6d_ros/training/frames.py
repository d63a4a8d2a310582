"""Training frames packed for speed: one JPEG and one instance map per frame, annotations as arrays.

A BOP folder keeps two masks per object and image; reading those for every crop would cost more than the
training step. The pack is made once per dataset, beside the other caches, and is keyed by the
dataset's annotation files.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from kd6d_ros.data.bop import BopDataset
from kd6d_ros.errors import DatasetError
from kd6d_ros.filled_aside import filled_aside
from kd6d_ros.geometry.symmetries import canonical_pose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.types import AnyArray, FloatArray, ImageArray, ObjectModel

PACK_VERSION = 2
BLOBS = ('images', 'labels', 'depth')
DEPTH_UNIT = 1e-4
"""Metres per unit of a packed depth map."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame: image (H, W, 3) RGB, labels (H, W) with annotation index + 1, camera matrix (3, 3),
    and per annotation class index (-1: not learned), visible fraction, visible box (4,), corners in pixels
    (n, 8, 2) and in the camera frame (n, 8, 3) [m], diameter [m], and the pose (n, 3, 3) and (n, 3) [m] that the
    corners have; depth (H, W) uint16 [0.1 mm], 0 where unknown, or None without depth files."""

    image: ImageArray
    labels: ImageArray
    matrix: FloatArray
    class_index: AnyArray
    visible_fraction: FloatArray
    visible_box: FloatArray
    corners_px: FloatArray
    corners_m: FloatArray
    diameter: FloatArray
    rotation: FloatArray
    translation: FloatArray
    depth: AnyArray | None

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        return int(self.image.shape[0])


class FramePack:
    """Read access to a pack; cheap to open in every loader process (memory-mapped)."""

    def __init__(self, folder: Path, objects: Sequence[ObjectModel]) -> None:
        self.folder = folder
        with np.load(folder / 'index.npz', allow_pickle=False) as index:
            self.index = {key: index[key] for key in index.files}
        self.images = np.memmap(folder / 'images.bin', np.uint8, 'r')
        self.labels = np.memmap(folder / 'labels.bin', np.uint8, 'r')
        deep = int(self.index['depth_offset'][-1]) > 0
        self.depth = np.memmap(folder / 'depth.bin', np.uint8, 'r') if deep else None
        self._annotate(objects)

    def __len__(self) -> int:
        return len(self.index['matrix'])

    def _annotate(self, objects: Sequence[ObjectModel]) -> None:
        """Corners and class of every annotation, with the canonical pose for symmetric objects."""
        obj_id = self.index['obj_id']
        count = len(obj_id)
        self.class_index = np.full(count, -1)
        self.corners_m = np.zeros((count, 8, 3))
        self.diameter = np.ones(count)
        self.rotation, self.translation = self.index['rotation'].copy(), self.index['translation'].copy()
        for index, model in enumerate(objects):
            rows = np.flatnonzero(obj_id == model.obj_id)
            self.class_index[rows] = index
            self.diameter[rows] = model.diameter
            rotation, translation = self.index['rotation'][rows], self.index['translation'][rows]
            if model.symmetries:
                rotation, translation = _canonical(rotation, translation, model)
            self.rotation[rows], self.translation[rows] = rotation, translation
            self.corners_m[rows] = model.keypoints @ rotation.transpose(0, 2, 1) + translation[:, None]

    def frame(self, number: int, with_depth: bool = True) -> Frame:
        """Decode frame `number`; without `with_depth` nobody waits for a map that nobody looks at."""
        image = self._decode(self.images, 'image_offset', number, cv2.IMREAD_COLOR)
        labels = self._decode(self.labels, 'label_offset', number, cv2.IMREAD_GRAYSCALE)
        first, last = self.index['annotation_offset'][number : number + 2]
        part = slice(int(first), int(last))
        matrix = self.index['matrix'][number]
        corners = self.corners_m[part]
        depth = np.maximum(corners[..., 2:], 1e-6)
        projected = (corners / depth) @ matrix.T
        return Frame(
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB),  # a reversed view would be copied by every crop
            labels,
            matrix,
            self.class_index[part],
            self.index['visible_fraction'][part],
            self.index['visible_box'][part],
            projected[..., :2],
            corners,
            self.diameter[part],
            self.rotation[part],
            self.translation[part],
            self._depth(number) if with_depth else None,
        )

    def _depth(self, number: int) -> AnyArray | None:
        if self.depth is None or self.index['depth_offset'][number] == self.index['depth_offset'][number + 1]:
            return None
        depth: AnyArray = self._decode(self.depth, 'depth_offset', number, cv2.IMREAD_UNCHANGED)
        return depth

    def _decode(self, blob: AnyArray, offsets: str, number: int, flag: int) -> Any:
        start, stop = self.index[offsets][number : number + 2]
        return cv2.imdecode(np.asarray(blob[int(start) : int(stop)]), flag)


def _canonical(rotation: AnyArray, translation: AnyArray, model: ObjectModel) -> tuple[AnyArray, AnyArray]:
    from kd6d_ros.types import RigidTransform

    poses = [canonical_pose(RigidTransform(r, t), model.symmetries) for r, t in zip(rotation, translation, strict=True)]
    if not poses:
        return rotation, translation
    return np.stack([p.rotation for p in poses]), np.stack([p.translation for p in poses])


def pack_frames(dataset: Path, split: str, cache: Path, workers: int = 2) -> Path:
    """Make (or find) the pack of `dataset`/`split` under `cache`; returns its folder.

    Raises:
        DatasetError: the split has no images or no annotations.
    """
    root = BopDataset.open(dataset)
    scenes = root.split(split)
    folder = cache / f'{dataset.name}_{split}_{_fingerprint(dataset, split)}'
    if (folder / 'index.npz').is_file():
        return folder
    with filled_aside(folder) as aside:
        _fill_pack(aside, dataset, split, list(scenes), workers)
    return folder


def _fill_pack(aside: Path, dataset: Path, split: str, scenes: list[int], workers: int) -> None:
    """Write images.bin, labels.bin and index.npz into `aside`."""
    jobs = [(str(dataset), split, scene) for scene in scenes]
    parts: list[dict[str, AnyArray]] = []
    sizes: dict[str, list[int]] = {key: [0] for key in BLOBS}
    with (
        ProcessPoolExecutor(workers, multiprocessing.get_context('spawn')) as pool,  # forking torch's threads hangs
        ExitStack() as stack,
    ):
        files = {key: stack.enter_context(open(aside / f'{key}.bin', 'wb')) for key in BLOBS}
        for blobs, rows in pool.map(_pack_scene, jobs):
            for key, blob in blobs.items():
                for data in blob:
                    files[key].write(data)
                    sizes[key].append(sizes[key][-1] + len(data))
            parts.append(rows)
    if len(sizes['images']) == 1 or not sum(len(part['obj_id']) for part in parts):
        raise DatasetError(f'{dataset}/{split}: no annotated image; make one with `kd6d synth --out`')
    _write_index(aside, parts, sizes)


def _write_index(aside: Path, parts: list[dict[str, AnyArray]], sizes: dict[str, list[int]]) -> None:
    merged = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    counts = merged.pop('annotation_count')
    merged['annotation_offset'] = np.concatenate([[0], np.cumsum(counts)])
    for key, offsets in sizes.items():
        merged[f'{key.removesuffix("s")}_offset'] = np.array(offsets)
    np.savez(aside / 'index.npz', **merged)  # type: ignore[arg-type]


def _fingerprint(dataset: Path, split: str) -> str:
    digest = hashlib.sha256(str(PACK_VERSION).encode())
    for path in sorted((dataset / split).glob('*/scene_*.json')):
        digest.update(f'{path.parent.name}/{path.name} '.encode())
        digest.update(path.read_bytes())
    for path in sorted((dataset / split).glob('*/[rg]*/*')):  # rgb or gray: new pixels may keep old poses
        state = path.stat()
        digest.update(f'{path.name} {state.st_size} {state.st_mtime_ns} '.encode())
    for path in sorted((dataset / split).glob('*/scene_camera.json')):
        if not any((path.parent / 'depth').glob('*')):
            digest.update(f'{path.parent.name} without depth '.encode())  # which may be added later
    return digest.hexdigest()[:12]


def _pack_scene(job: tuple[str, str, int]) -> tuple[dict[str, list[bytes]], dict[str, AnyArray]]:
    """JPEG bytes, PNG instance and depth maps (of BLOBS) and annotation rows of one scene."""
    cv2.setNumThreads(1)
    dataset, split, scene_id = job
    scene = BopDataset.open(Path(dataset)).scene(split, scene_id)
    blobs: dict[str, list[bytes]] = {key: [] for key in BLOBS}
    rows: dict[str, list[Any]] = {
        key: [] for key in ('matrix', 'scene', 'annotation_count', 'obj_id', 'rotation', 'translation',
                            'visible_fraction', 'visible_box')
    }  # fmt: skip
    for image_id in scene.image_ids:
        image = scene.image(image_id)
        labels = np.zeros(image.shape[:2], np.uint8)
        annotations = scene.annotations(image_id)
        for index, item in enumerate(annotations):
            mask = scene.mask_visible(image_id, index)
            if mask is None:
                raise DatasetError(
                    f'{dataset}/{split}/{scene_id:06d}: image {image_id} has no mask_visib; training needs it'
                )
            labels[mask > 0] = index + 1
            if item.visible_fraction is None:
                raise DatasetError(
                    f'{dataset}/{split}/{scene_id:06d}: no scene_gt_info.json with visib_fract; training needs it'
                )
            box = item.box_visible if item.box_visible is not None else np.zeros(4)
            rows['obj_id'].append(item.obj_id)
            rows['rotation'].append(item.cam_from_obj.rotation)
            rows['translation'].append(item.cam_from_obj.translation)
            rows['visible_fraction'].append(item.visible_fraction)
            rows['visible_box'].append(box)
        rows['annotation_count'].append(len(annotations))
        rows['matrix'].append(scene.camera(image_id).matrix)
        rows['scene'].append(scene_id)
        blobs['images'].append(_jpeg(scene, image_id, image))
        blobs['labels'].append(_png(labels))
        blobs['depth'].append(_depth(scene, image_id))
    return blobs, _as_arrays(rows)


def _png(values: AnyArray) -> bytes:
    return cv2.imencode('.png', values, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _depth(scene: Any, image_id: int) -> bytes:
    """PNG of the depth [0.1 mm], nothing where there is no file; beyond 6.5 m nothing is labelled."""
    depth = scene.depth(image_id)
    if depth is None:
        return b''
    return _png(np.where(depth < 6.5, np.rint(depth / DEPTH_UNIT), 0).astype(np.uint16))


def _jpeg(scene: Any, image_id: int, image: ImageArray) -> bytes:
    """The file's own bytes when it is a JPEG, so that nothing is compressed twice."""
    path = scene.image_path(image_id)
    if path.suffix.lower() in ('.jpg', '.jpeg'):
        data: bytes = path.read_bytes()
        return data
    quality = [cv2.IMWRITE_JPEG_QUALITY, 97]
    return cv2.imencode('.jpg', np.ascontiguousarray(image[..., ::-1]), quality)[1].tobytes()


def _as_arrays(rows: dict[str, list[Any]]) -> dict[str, AnyArray]:
    shapes = {'rotation': (-1, 3, 3), 'translation': (-1, 3), 'visible_box': (-1, 4), 'matrix': (-1, 3, 3)}
    return {
        key: np.array(value, np.int64 if key in ('scene', 'annotation_count', 'obj_id') else np.float64)
        .reshape(shapes.get(key, (-1,)))
        for key, value in rows.items()
    }  # fmt: skip


def describe(folder: Path) -> str:
    """One line for the log: frames and size of a pack."""
    size = sum(p.stat().st_size for p in folder.iterdir())
    with np.load(folder / 'index.npz', allow_pickle=False) as index:
        frames, annotations = len(index['matrix']), len(index['obj_id'])
    return json.dumps({'frames': frames, 'annotations': annotations, 'megabytes': round(size / 1e6)})
