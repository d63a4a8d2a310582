"""A run's network on real photos with the boxes of a detector, scored as BOP does; nothing is chosen on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd6d_ros.data.bop import BopDataset, read_targets
from kd6d_ros.data.bop_evaluation import collect_targets, load_evaluation_objects, models_folder
from kd6d_ros.data.bop_run import DatasetRun, RunOptions
from kd6d_ros.evaluation.scores import score_targets
from kd6d_ros.training.bundle_record import bundle_of_checkpoint
from kd6d_ros.training.study.measure import open_gates
from kd6d_ros.training.validation import TorchEngine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kd6d_ros.evaluation.records import Estimate
    from kd6d_ros.training.checkpoint import AnyCheckpoint
    from kd6d_ros.training.study.plan import StudySettings
    from kd6d_ros.types import AnyArray

TARGETS = 'test_targets_bop19.json'


class PhotoScores(NamedTuple):
    """Per target of the network's objects: image (n,); hits (T, n) bool of ADD(-S) at 0.1 diameters and mspd (T, n),
    the share of BOP's MSPD thresholds that hold (its mean is AR_MSPD), at each of T least cell scores."""

    image: AnyArray
    hits: AnyArray
    mspd: AnyArray


def measure_photos(checkpoint: AnyCheckpoint, settings: StudySettings, thresholds: Sequence[float]) -> PhotoScores:
    """Look at all targets of ``settings.photos``; a target without a box or a pose is a failure.

    Raises:
        DatasetError: no such dataset or list, or it has none of the network's objects.
    """
    listed = Path(settings.photos) / TARGETS
    known = {model.obj_id for model in checkpoint.objects}
    wanted = [target for target in read_targets(listed) if target.obj_id in known]
    dataset = BopDataset.open(Path(settings.photos))
    folder, infos = models_folder(dataset)
    objects = load_evaluation_objects(folder, infos, sorted({target.obj_id for target in wanted}))
    truth = collect_targets(dataset, settings.photo_split, wanted, listed)
    per_threshold = [
        score_targets(truth, estimates, objects) for estimates in _estimates(checkpoint, settings, thresholds)
    ]
    keys = [(score.scene_id, score.image_id) for score in per_threshold[0]]
    image = np.unique(np.array(keys), axis=0, return_inverse=True)[1].reshape(-1)
    hits = np.array([[score.hit_add for score in scores] for scores in per_threshold])
    mspd = np.array([[np.mean(score.hits_mspd) for score in scores] for scores in per_threshold])
    return PhotoScores(image, hits, mspd)


def _estimates(
    checkpoint: AnyCheckpoint, settings: StudySettings, thresholds: Sequence[float]
) -> Iterator[list[Estimate]]:
    """Those at each of the thresholds."""
    photos, boxes = Path(settings.photos), Path(settings.photo_detections)
    engine = TorchEngine(checkpoint.network, checkpoint.recipe.input.max_cells)
    bundle = bundle_of_checkpoint(checkpoint)
    for threshold in thresholds:
        options = RunOptions(photos, settings.photo_split, detections=boxes, settings=open_gates(threshold))
        yield DatasetRun(bundle, options).run(engine)
