"""How much accuracy a precision costs: the estimator of the robot on the same views, once per precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data.bop_evaluation import load_evaluation_objects, models_folder
from kd6d_ros.evaluation.records import Estimate, EvaluationTarget, GroundTruth
from kd6d_ros.evaluation.scores import score_targets
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kd6d_ros.deployment.rendered_views import Place, RenderedViews, View
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.types import AnyArray, LocalPredictions

SEED = 7
REFERENCE = 'fp32'


@dataclass(frozen=True, eq=False)
class Accuracy:
    """What one precision does on the views: hits (T,) bool, ADD(-S) below 0.1 diameters, of each object looked at;
    posed (T,) bool, whether a pose passed the gates; keypoint_error_px: mean distance [network px] of its keypoints
    from those of FP32, over the cells that FP32 would use, None without such cells."""

    hits: AnyArray
    posed: AnyArray
    keypoint_error_px: float | None

    @property
    def recall(self) -> float:
        return float(self.hits.mean())


@dataclass(frozen=True)
class Drop:
    """Recall lost against FP32 on the same objects [percentage points], with a 95 % interval."""

    points: float
    low: float
    high: float


def paired_drop(reference: AnyArray, other: AnyArray) -> Drop:
    """Difference of two recalls, paired by object; hits (T,) bool. The interval is that of the mean of the differences
    (normal approximation), which is much narrower than that of each recall."""
    gaps = 100.0 * (reference.astype(np.float64) - other.astype(np.float64))
    half = 1.96 * float(gaps.std()) / np.sqrt(len(gaps))
    return Drop(float(gaps.mean()), float(gaps.mean() - half), float(gaps.mean() + half))


class _Listener:
    """An engine that keeps its first answer since ``forget``, which is to the same crops for every precision."""

    side_by_side = 1

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.precision, self.description = engine.name, engine.precision, engine.description
        self.first: list[LocalPredictions] = []

    def run(self, image: AnyArray, classes: AnyArray) -> list[LocalPredictions]:
        cells = self._engine.run(image, classes)
        self.first = self.first or cells
        return cells

    def forget(self) -> None:
        self.first = []


class _Candidate:
    """One precision on its way through the views."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.listener = _Listener(engine)
        self._estimator = PoseEstimator(bundle, self.listener, EstimatorSettings(track=False, find=False))
        self.estimates: list[Estimate] = []
        self.distances: list[float] = []

    def look(self, view: View, ids: Mapping[str, int]) -> None:
        self.listener.forget()
        self._estimator.reset()
        for pose in self._estimator.estimate(view.image, view.camera, 0.0, view.boxes):
            place = (view.place.scene_id, view.place.image_id)
            self.estimates.append(Estimate(*place, ids[pose.object_name], pose.score, pose.cam_from_obj))


def measure_accuracy(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    source: RenderedViews,
    places: Sequence[Place],
    count: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Accuracy]:
    """Run every engine on views of `places` until `count` objects have been looked at.

    Args:
        engines: by precision; 'fp32' must be among them, the others are compared with it.

    Raises:
        DatasetError: no view shows an object, or the dataset has no meshes to score by.
    """
    ids = {model.name: model.obj_id for model in bundle.objects}
    meshes = load_evaluation_objects(*models_folder(source.dataset), sorted(ids.values()))
    candidates = {name: _Candidate(bundle, engine) for name, engine in engines.items()}
    targets: list[EvaluationTarget] = []
    for view in source.views(places, SEED):
        for candidate in candidates.values():
            candidate.look(view, ids)
        _compare_cells(bundle, candidates)
        targets += _targets(view, ids)
        if progress is not None:
            progress(min(len(targets), count), count)
        if len(targets) >= count:
            break
    return {name: _accuracy(candidate, targets, meshes) for name, candidate in candidates.items()}


def _targets(view: View, ids: Mapping[str, int]) -> list[EvaluationTarget]:
    out = []
    for box in view.boxes:
        own = [item for item in view.annotations if item.obj_id == ids[box.object_name]]
        truths = tuple(GroundTruth(item.cam_from_obj, item.visible_fraction) for item in own)
        place = (view.place.scene_id, view.place.image_id)
        out.append(EvaluationTarget(*place, ids[box.object_name], 1, view.camera, truths))
    return out


def _compare_cells(bundle: Bundle, candidates: Mapping[str, _Candidate]) -> None:
    wanted = candidates[REFERENCE].listener.first
    for name, candidate in candidates.items():
        if name != REFERENCE:
            for ours, theirs in zip(wanted, candidate.listener.first, strict=True):
                candidate.distances += _distances(bundle, ours, theirs)


def _distances(bundle: Bundle, wanted: LocalPredictions, got: LocalPredictions) -> list[float]:
    """Mean distance [network px] of the eight keypoints for each cell that FP32 would use and that both have."""
    theirs = {_cell(got, row): row for row in range(len(got.score)) if got.score[row] > 0}
    out = []
    for row in range(min(bundle.decode.cells_per_object, len(wanted.score))):
        other = theirs.get(_cell(wanted, row))
        if wanted.score[row] >= bundle.decode.score_threshold and other is not None:
            gap = wanted.keypoints[row] - got.keypoints[other]
            out.append(float(np.linalg.norm(gap, axis=-1).mean()))
    return out


def _cell(cells: LocalPredictions, row: int) -> tuple[int, int, float, float]:
    x, y = (float(value) for value in cells.centre[row])
    return int(cells.class_index[row]), int(cells.level[row]), round(x, 1), round(y, 1)


def _accuracy(candidate: _Candidate, targets: Sequence[EvaluationTarget], meshes: Mapping[int, object]) -> Accuracy:
    scores = score_targets(targets, candidate.estimates, meshes)  # type: ignore[arg-type]
    hits, posed = (np.array([getattr(score, name) for score in scores]) for name in ('hit_add', 'estimated'))
    return Accuracy(hits, posed, float(np.mean(candidate.distances)) if candidate.distances else None)
