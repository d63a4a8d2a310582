"""Pictures of wrong poses, a sheet for each cause: the true pose in white, the estimate in the object's colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Sequence

import cv2
import numpy as np

from kd6d_ros.data.photo_pictures import write_jpeg
from kd6d_ros.evaluation.error_sources import CAUSES, NO_BOX, RIGHT
from kd6d_ros.geometry.draw import PALETTE, draw_pose
from kd6d_ros.inference import gates
from kd6d_ros.inference.crop import Crop

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.data.bop import BopDataset
    from kd6d_ros.data.error_analysis import Analysed
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import ImageArray

SIDE = 240
"""Of one picture [px]."""

PADDING = 1.7
COLUMNS = 4
WHITE = (255, 255, 255)


def write_sheets(
    folder: Path, dataset: BopDataset, split: str, bundle: Bundle, items: Sequence[Analysed], most: int
) -> Dict[str, Path]:
    """Write `<cause>.jpg` with at most `most` targets of each cause, spread over the images; by cause.

    Raises:
        DatasetError, ImageError: an image cannot be read, or a sheet not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = {}
    for cause in CAUSES:
        own = [item for item in items if item.errors.cause == cause]
        if cause in (RIGHT, NO_BOX) or not own or most < 1:
            continue
        chosen = [own[int(place)] for place in np.linspace(0, len(own) - 1, min(most, len(own)))]
        path = folder / f'{cause.replace(" ", "_")}.jpg'
        write_jpeg(path, _sheet([_picture(dataset, split, bundle, item) for item in chosen]))
        out[cause] = path
    return out


def _picture(dataset: BopDataset, split: str, bundle: Bundle, item: Analysed) -> ImageArray:
    errors = item.errors
    scene = dataset.scene(split, errors.scene_id)
    camera = scene.camera(errors.image_id)
    image = scene.image(errors.image_id).copy()
    draw_pose(image, camera, item.model, item.truth, WHITE, thickness=1, axes=False)
    if item.estimate is not None:
        colour = PALETTE[bundle.index(errors.name) % len(PALETTE)]
        draw_pose(image, camera, item.model, item.estimate, colour, thickness=1, axes=False)
    box = gates.projected_box(item.model, item.truth, camera)
    if box is None:
        box = np.array([0.0, 0.0, camera.width, camera.height])
    picture = np.ascontiguousarray(Crop.around_box(box, PADDING, SIDE).extract(image))
    label = f'{errors.name} {errors.scene_id}/{errors.image_id}'
    cv2.putText(picture, label, (4, SIDE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, label, (4, SIDE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, WHITE, 1, cv2.LINE_AA)
    return picture


def _sheet(pictures: List[ImageArray]) -> ImageArray:
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    out = np.full((rows * SIDE, columns * SIDE, 3), 24, np.uint8)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        out[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = picture
    return out
