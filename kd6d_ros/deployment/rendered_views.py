"""Images of a BOP folder with boxes as a detector gives them: some to calibrate on, others to measure on.

A set that was rendered for training is split as training splits it, so that what is measured on was neither trained
nor calibrated on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd6d_ros.data.bop import BopDataset
from kd6d_ros.data.bop_evaluation import check_sizes
from kd6d_ros.data.detector_boxes import jitter_box
from kd6d_ros.errors import ConfigError, DatasetError
from kd6d_ros.geometry.cameras import project
from kd6d_ros.training.held_out import held_out
from kd6d_ros.types import Detection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kd6d_ros.data.bop import Annotation
    from kd6d_ros.types import AnyArray, Camera, ImageArray, ObjectModel

LEAST_VISIBLE = 0.15
"""Objects less visible than this are nobody's task: the same bound as in validation."""


class Place(NamedTuple):
    """Where an image of a dataset is."""

    split: str
    scene_id: int
    image_id: int


class View(NamedTuple):
    """One image (H, W, 3) uint8 RGB with its camera; a box and the ground truth of the most visible instance of each
    object, and all annotations of the image."""

    place: Place
    image: ImageArray
    camera: Camera
    boxes: list[Detection]
    annotations: list[Annotation]


class RenderedViews:
    """The views of a BOP folder that show at least one of `objects`.

    Raises:
        DatasetError: no BOP folder. ConfigError: its objects are other ones of the same ids.
    """

    def __init__(self, root: Path, objects: Sequence[ObjectModel], validation_fraction: float) -> None:
        self.dataset = BopDataset.open(root)
        self.objects, self._fraction = objects, validation_fraction
        check_sizes(self.dataset, objects, 'the checkpoint')

    def to_calibrate(self) -> list[Place]:
        """Images that training may have seen: all but the held-out ones of a training split, else the whole split."""
        return self._places(('train', 'test'), 0)

    def to_evaluate(self) -> list[Place]:
        """Images that training has not seen: a test split, else the held-out ones of a training split."""
        return self._places(('test', 'val', 'train'), 1)

    def _places(self, order: Sequence[str], side: int) -> list[Place]:
        splits = self.dataset.splits
        chosen = next((name for start in order for name in splits if name.startswith(start)), splits[0])
        places = [
            Place(chosen, scene_id, image_id)
            for scene_id in self.dataset.split(chosen)
            for image_id in self.dataset.scene(chosen, scene_id).image_ids
        ]
        if not chosen.startswith('train'):
            return places
        scenes = np.array([place.scene_id for place in places])
        return [places[index] for index in held_out(scenes, self._fraction, str(self.dataset.root))[side]]

    def views(self, places: Sequence[Place], seed: int) -> Iterator[View]:
        """The views at `places` in random order; the same seed gives the same views and boxes.

        Raises:
            DatasetError: none of them shows an object of the checkpoint, or a file is damaged.
        """
        rng = np.random.default_rng(seed)
        found = False
        for index in rng.permutation(len(places)):
            place = places[int(index)]
            scene = self.dataset.scene(place.split, place.scene_id)
            annotations = scene.annotations(place.image_id)
            best = most_visible(annotations, self.objects)
            if not best:
                continue
            found = True
            camera = scene.camera(place.image_id)
            boxes = [Detection(model.name, 1.0, jitter_box(_box(item, model, camera), rng)) for model, item in best]
            yield View(place, scene.image(place.image_id), camera, boxes, annotations)
        if not found:
            idents = ', '.join(str(model.obj_id) for model in self.objects)
            raise DatasetError(
                f'{self.dataset.root}: shows none of the objects of the checkpoint (ids {idents}) at least '
                f'{100 * LEAST_VISIBLE:.0f} % visible; give renders of these objects'
            )


def most_visible(
    annotations: Sequence[Annotation], objects: Sequence[ObjectModel]
) -> list[tuple[ObjectModel, Annotation]]:
    """The most visible instance of each object in an image, where that is enough; unknown counts as visible."""
    out = []
    for model in objects:
        own = [item for item in annotations if item.obj_id == model.obj_id and _visible(item) >= LEAST_VISIBLE]
        if own:
            out.append((model, max(own, key=_visible)))
    return out


def _visible(item: Annotation) -> float:
    return 1.0 if item.visible_fraction is None else item.visible_fraction


def _box(item: Annotation, model: ObjectModel, camera: Camera) -> AnyArray:
    if item.box_visible is not None:
        return item.box_visible
    corners = project(camera, item.cam_from_obj.apply(model.keypoints))
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def check_disjoint(
    calibration: RenderedViews, used: Sequence[Place], evaluation: RenderedViews, judges: Sequence[Place]
) -> None:
    """Raises:
    ConfigError: an image would be calibrated on and measured on.
    """
    same_folder = calibration.dataset.root.resolve() == evaluation.dataset.root.resolve()
    if same_folder and set(used) & set(judges):
        raise ConfigError(
            f'--evaluate {evaluation.dataset.root}: has the images of --calibration, so the figures would be too kind; '
            'give another set, or one rendered for training (its last scenes are held out)'
        )
