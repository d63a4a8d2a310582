"""A run's network on real photos with the boxes of a detector, scored as BOP does; nothing is chosen on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd6d_ros.data.bop import BopDataset, read_targets
from kd6d_ros.data.bop_evaluation import collect_targets, load_evaluation_objects, models_folder
from kd6d_ros.data.bop_run import DatasetRun, RunOptions
from kd6d_ros.evaluation.scores import score_targets
from kd6d_ros.training.study.measure import open_gates
from kd6d_ros.training.validation import TorchEngine, bundle_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.training.checkpoint import Checkpoint
    from kd6d_ros.training.study.plan import StudySettings
    from kd6d_ros.types import AnyArray

TARGETS = 'test_targets_bop19.json'


class PhotoScores(NamedTuple):
    """Per target of the network's objects: image (n,); hits (T, n) bool of ADD(-S) at 0.1 diameters and mspd (T, n),
    the share of BOP's MSPD thresholds that hold (its mean is AR_MSPD), at each of T least cell scores."""

    image: AnyArray
    hits: AnyArray
    mspd: AnyArray


def measure_photos(checkpoint: Checkpoint, settings: StudySettings, thresholds: Sequence[float]) -> PhotoScores:
    """Look at all targets of ``settings.photos``; a target without a box or a pose is a failure.

    Raises:
        DatasetError: no such dataset or list, or it has none of the network's objects.
    """
    bundle = bundle_of(checkpoint.recipe, checkpoint.objects)
    engine = TorchEngine(checkpoint.network, checkpoint.recipe.input.max_cells)
    listed = Path(settings.photos) / TARGETS
    wanted = [target for target in read_targets(listed) if target.obj_id in bundle.by_obj_id()]
    dataset = BopDataset.open(Path(settings.photos))
    folder, infos = models_folder(dataset)
    objects = load_evaluation_objects(folder, infos, sorted({target.obj_id for target in wanted}))
    truth = collect_targets(dataset, settings.photo_split, wanted, listed)
    per_threshold = []
    for threshold in thresholds:
        options = RunOptions(
            Path(settings.photos), settings.photo_split, detections=Path(settings.photo_detections),
            settings=open_gates(threshold),
        )  # fmt: skip
        estimates = DatasetRun(bundle, options).run(engine)
        per_threshold.append(score_targets(truth, estimates, objects))
    keys = [(score.scene_id, score.image_id) for score in per_threshold[0]]
    image = np.unique(np.array(keys), axis=0, return_inverse=True)[1].reshape(-1)
    hits = np.array([[score.hit_add for score in scores] for scores in per_threshold])
    mspd = np.array([[np.mean(score.hits_mspd) for score in scores] for scores in per_threshold])
    return PhotoScores(image, hits, mspd)
