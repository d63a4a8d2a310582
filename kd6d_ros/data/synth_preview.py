"""A contact sheet of a synth set: colour images with boxes of the visible masks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np

from kd6d_ros.data.bop_write import write_aside
from kd6d_ros.data.synth import IMAGES_PER_SCENE, scene_folder
from kd6d_ros.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.data.synth import SynthJob
    from kd6d_ros.types import ImageArray

TILE_WIDTH = 480
COLUMNS = 4


def write_preview(job: SynthJob, images: int) -> Path:
    """Write OUT/preview.png of the first `images` images; returns its path."""
    height = round(TILE_WIDTH * job.camera.height / job.camera.width)
    tiles = [cv2.resize(_annotated(job, index), (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
             for index in range(images)]  # fmt: skip
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % min(COLUMNS, len(tiles)))
    columns = min(COLUMNS, len(tiles))
    sheet = np.vstack([np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)])
    path = job.out / 'preview.png'
    write_aside(path, cv2.imencode('.png', sheet)[1])
    return path


def _annotated(job: SynthJob, index: int) -> ImageArray:
    folder = scene_folder(job.out, index // IMAGES_PER_SCENE)
    number = index % IMAGES_PER_SCENE
    path = folder / 'rgb' / f'{number:06d}.jpg'
    image = cv2.imread(str(path))
    if image is None:
        raise DatasetError(f'{path}: cannot be read for the preview')
    names = {model.obj_id: model.name for model in job.models}
    truth = json.loads((folder / 'scene_gt.json').read_text())[str(number)]
    info = json.loads((folder / 'scene_gt_info.json').read_text())[str(number)]
    for entry, seen in zip(truth, info, strict=True):
        x, y, w, h = (int(v) for v in seen['bbox_visib'])
        if w > 0:
            cv2.rectangle(image, (x, y), (x + w, y + h), (0, 255, 0), 1)
            text = f'{names.get(entry["obj_id"], entry["obj_id"])} {seen["visib_fract"]:.2f}'
            cv2.putText(image, text, (x, y - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 255, 0), 1, cv2.LINE_AA)
    return np.asarray(image, np.uint8)
