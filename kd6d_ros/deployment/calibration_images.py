"""The network's inputs that a quantisation is calibrated on: crops and whole frames, cut as the estimator cuts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.errors import BagError, ConfigError, DatasetError
from kd6d_ros.geometry.cameras import project
from kd6d_ros.inference.crop import Crop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kd6d_ros.benchmark.records import TruthObject
    from kd6d_ros.deployment.rendered_views import Place, RenderedViews
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import AnyArray, Camera, ImageArray

SEED = 1
FRAME_EVERY = 4
"""One of so many images is also used as a whole frame, where the network searches frames at all."""
CROPS_PER_IMAGE = 3
LEAST_IMAGES = 8
BAG_FILES = ('.mcap', '.db3')


def is_bag(path: Path) -> bool:
    """A bag folder or a file of one."""
    return path.suffix in BAG_FILES or (path / 'metadata.yaml').is_file()


def check_source(path: Path) -> None:
    """Raises:
    ConfigError: no such folder or bag, or an empty folder.
    """
    if not path.exists():
        raise ConfigError(f'--calibration {path}: no such folder or bag')
    if path.is_dir() and not any(path.iterdir()):
        raise ConfigError(f'--calibration {path}: the folder is empty; give rendered images (kd6d synth) or a bag')


def from_renders(views: RenderedViews, places: Sequence[Place], bundle: Bundle, count: int) -> list[ImageArray]:
    """`count` inputs (H, W, 3) uint8 RGB, or fewer when the set is small.

    Raises:
        DatasetError: no image shows an object, or too few do.
    """
    inputs: list[ImageArray] = []
    for number, view in enumerate(views.views(places, SEED)):
        boxes = [item.box for item in view.boxes[:CROPS_PER_IMAGE]]
        inputs += _inputs(view.image, view.camera, boxes, bundle, number)
        if len(inputs) >= count:
            break
    if len(inputs) < LEAST_IMAGES:
        raise DatasetError(
            f'--calibration {views.dataset.root}: gives {len(inputs)} inputs, at least {LEAST_IMAGES} are needed'
        )
    return inputs[:count]


def from_bag(path: Path, bundle: Bundle, count: int) -> list[ImageArray]:
    """The same from a bag: crops around the objects where it has ground truth, whole frames where not.

    Raises:
        BagError: no bag, or too few usable images. MissingDependencyError: rosbags is not installed.
    """
    from kd6d_ros.benchmark.bag_frames import read_frames
    from kd6d_ros.benchmark.bag_source import BagSource, find_topics, read_ground_truth

    with BagSource(path) as source:
        topics = find_topics(source)
        truth = read_ground_truth(source, topics.truth) if topics.truth else {}
        every = max(source.topics()[topics.image].count // count, 1)
        inputs: list[ImageArray] = []
        for number, frame in enumerate(read_frames(source, topics)):
            if number % every == 0 and len(inputs) < count:
                boxes = list(_true_boxes(truth.get(frame.stamp_ns, ()), frame.camera, bundle))
                inputs += _inputs(frame.image, frame.camera, boxes, bundle, number // every)
    if len(inputs) < LEAST_IMAGES:
        raise BagError(f'--calibration {path}: gives {len(inputs)} inputs, at least {LEAST_IMAGES} are needed')
    return inputs[:count]


def _true_boxes(truth: Sequence[TruthObject], camera: Camera, bundle: Bundle) -> Iterator[AnyArray]:
    """Boxes of the corners of the bundle's objects that are in view."""
    for item in truth:
        if item.object_name in bundle.names and item.visible_fraction > 0:
            corners = item.cam_from_obj.apply(bundle.object(item.object_name).keypoints)
            if corners[:, 2].min() > 0:
                pixels = project(camera, corners)
                yield np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def _inputs(
    image: ImageArray, camera: Camera, boxes: Sequence[AnyArray], bundle: Bundle, turn: int
) -> Iterator[ImageArray]:
    """Crops around `boxes`; the whole frame in its turn, or where there is no box."""
    network = bundle.network
    for box in boxes:
        yield Crop.around_box(box, network.crop_padding, network.crop_size).extract(image)
    if not boxes or (network.frame_size and turn % FRAME_EVERY == 0):
        whole = network.frame_size or (network.crop_size, network.crop_size)
        yield Crop.letterbox((camera.width, camera.height), whole).extract(image)
