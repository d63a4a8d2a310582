"""From poses to hits: which ground-truth instances an estimate finds, by BOP's localisation rules.

Per target (object in an image) the `count` best-scored estimates compete for the `count` most visible
instances. For every threshold the estimates, best score first, each take the free instance with the lowest
error strictly below the threshold. An instance nobody takes is a failure; so is a missing estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.errors import DatasetError
from kd6d_ros.evaluation import pose_errors
from kd6d_ros.evaluation.nearest import NearestVertex
from kd6d_ros.evaluation.records import (
    Estimate,
    EvaluationObject,
    EvaluationTarget,
    GroundTruth,
)
from kd6d_ros.evaluation.result_table import ResultTable
from kd6d_ros.evaluation.symmetric_vertices import SymmetricVertices
from kd6d_ros.evaluation.visible_surface import VSD_TAUS
from kd6d_ros.geometry.symmetries import nearest_equivalent, symmetry_transforms

if TYPE_CHECKING:
    from kd6d_ros.evaluation.visible_surface import VisibleSurface
    from kd6d_ros.types import AnyArray, FloatArray

MSSD_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 11))
"""Fractions of the object diameter."""
MSPD_THRESHOLDS = tuple(5.0 * step for step in range(1, 11))
"""Pixels of an image 640 wide; errors are scaled by 640 / width."""
VSD_THRESHOLDS = MSSD_THRESHOLDS
"""Of the error itself, for each of VSD_TAUS."""
ADD_THRESHOLD = 0.1
"""Fraction of the object diameter."""
AUC_LIMIT_M = 0.1
"""The area under the curve of recall over ADD(-S) is taken from 0 to here (Xiang et al., PoseCNN, RSS 2018)."""


@dataclass(frozen=True, eq=False)
class InstanceScore:
    """One ground-truth instance that had to be found.

    hits_mssd, hits_mspd (10,) bool per threshold; hit_add of ADD (ADI for symmetric objects) below 0.1
    diameter. mssd and add as fractions of the diameter, mspd [px of an image 640 wide], rotation [rad] and
    translation [m] up to symmetry: those of the estimate nearest by MSSD, infinite without one. auc_add: this
    instance's part of the area under the recall curve of ADD(-S), 1 - error / AUC_LIMIT_M or 0. hit_add_s, auc_add_s:
    the same of ADI whatever the object; None where it was not computed. hits_vsd (10, 10) bool by tolerance and
    threshold; None where VSD was not computed.
    """

    scene_id: int
    image_id: int
    obj_id: int
    visible_fraction: float | None
    estimated: bool
    hits_mssd: AnyArray
    hits_mspd: AnyArray
    hit_add: bool
    mssd: float
    mspd: float
    add: float
    rotation: float
    translation: float
    auc_add: float = 0.0
    hit_add_s: Optional[bool] = None
    auc_add_s: Optional[float] = None
    hits_vsd: Optional[AnyArray] = None


@dataclass(frozen=True)
class ScoreOptions:
    """What is computed besides MSSD, MSPD and ADD(-S). surface: VSD; add_s: ADI of objects without symmetry too."""

    surface: Optional[VisibleSurface] = None
    add_s: bool = False


MSSD, MSPD, ADD, ADI, VSD = 0, 1, 2, 3, slice(4, None)
"""Columns of a scorer's errors."""


class _Scorer:
    """One object with what its errors need, prepared once."""

    def __init__(self, model: EvaluationObject, options: ScoreOptions) -> None:
        self.model, self._options = model, options
        self._surfaces = SymmetricVertices(model.vertices, symmetry_transforms(model.symmetries))
        self._nearest = NearestVertex(model.vertices)
        self.add_s = bool(model.symmetries) or options.add_s
        self.columns = VSD.start + (len(VSD_TAUS) if options.surface is not None else 0)

    def errors(self, estimate: Estimate, truth: GroundTruth, target: EvaluationTarget) -> FloatArray:
        """(columns,): MSSD / diameter, MSPD * 640 / width, ADD(-S) / diameter, ADI / diameter or NaN, VSD by tau."""
        pose, wanted = estimate.cam_from_obj, truth.cam_from_obj
        model, surface = self.model, self._options.surface
        out = np.full(self.columns, np.nan)
        out[MSSD] = self._surfaces.mssd(pose, wanted) / model.diameter
        out[MSPD] = self._surfaces.mspd(pose, wanted, target.camera) * 640.0 / target.camera.width
        if self.add_s:
            out[ADI] = pose_errors.adi(pose, wanted, self._nearest) / model.diameter
        out[ADD] = out[ADI] if model.symmetries else pose_errors.add(pose, wanted, model.vertices) / model.diameter
        if surface is not None:
            image = (target.scene_id, target.image_id)
            out[VSD] = surface.errors(image, target.camera, model.obj_id, model.diameter, pose, wanted)
        return out


def score_targets(
    targets: Iterable[EvaluationTarget],
    estimates: Iterable[Estimate],
    objects: Mapping[int, EvaluationObject],
) -> List[InstanceScore]:
    """Scores of all targets; see ``iterate_scores``."""
    return list(iterate_scores(targets, ResultTable(estimates), objects))


def iterate_scores(
    targets: Iterable[EvaluationTarget],
    table: ResultTable,
    objects: Mapping[int, EvaluationObject],
    options: Optional[ScoreOptions] = None,
) -> Iterator[InstanceScore]:
    """Score target after target, which need not all be in memory; estimates for none of them are ignored, as in BOP.

    Raises:
        DatasetError: a target whose object is unknown, that is listed twice, or that asks for more
            instances than are annotated.
    """
    scorers: Dict[int, _Scorer] = {}
    seen = set()
    for target in targets:
        key = (target.scene_id, target.image_id, target.obj_id)
        if key in seen:
            raise DatasetError(f'target {_name(target)} is listed twice')
        seen.add(key)
        if target.obj_id not in objects:
            raise DatasetError(f'target {_name(target)}: the object is not among the models')
        if len(target.truths) < target.count:
            raise DatasetError(
                f'target {_name(target)} asks for {target.count} instances, the ground truth has {len(target.truths)}'
            )
        if target.obj_id not in scorers:
            scorers[target.obj_id] = _Scorer(objects[target.obj_id], options or ScoreOptions())
        yield from _score_target(target, table.of(key, target.count), scorers[target.obj_id])


def _name(target: EvaluationTarget) -> str:
    return f'(scene {target.scene_id}, image {target.image_id}, object {target.obj_id})'


def _score_target(target: EvaluationTarget, kept: Sequence[Estimate], scorer: _Scorer) -> Iterator[InstanceScore]:
    by_visibility = sorted(
        target.truths, key=lambda truth: -1.0 if truth.visible_fraction is None else -truth.visible_fraction
    )
    truths = by_visibility[: target.count]
    errors = np.full((len(kept), len(truths), scorer.columns), np.inf)
    for row, estimate in enumerate(kept):
        for column, truth in enumerate(truths):
            errors[row, column] = scorer.errors(estimate, truth, target)
    hits = _Hits(errors, scorer)
    # Which instance an estimate was meant for is unknown: the least visible count as missing.
    missing = len(truths) - len(kept)
    for column, truth in enumerate(truths):
        yield InstanceScore(
            target.scene_id,
            target.image_id,
            target.obj_id,
            truth.visible_fraction,
            column < len(truths) - missing,
            hits.mssd[:, column],
            hits.mspd[:, column],
            bool(hits.add[column]),
            *_nearest_errors(errors[:, column], truth, kept, scorer),
            float(hits.auc_add[column]),
            None if hits.add_s is None else bool(hits.add_s[column]),
            None if hits.auc_add_s is None else float(hits.auc_add_s[column]),
            None if hits.vsd is None else hits.vsd[:, :, column],
        )


class _Hits:
    """Which of the instances (G,) of a target are found, by error and threshold."""

    def __init__(self, errors: FloatArray, scorer: _Scorer) -> None:
        diameter = scorer.model.diameter
        self.mssd = np.array([match_greedily(errors[..., MSSD], limit) for limit in MSSD_THRESHOLDS])
        self.mspd = np.array([match_greedily(errors[..., MSPD], limit) for limit in MSPD_THRESHOLDS])
        self.add = match_greedily(errors[..., ADD], ADD_THRESHOLD)
        self.auc_add = _area(errors[..., ADD], diameter)
        self.add_s: Optional[AnyArray] = None
        self.auc_add_s: Optional[FloatArray] = None
        self.vsd: Optional[AnyArray] = None
        if scorer.add_s:
            self.add_s = match_greedily(errors[..., ADI], ADD_THRESHOLD)
            self.auc_add_s = _area(errors[..., ADI], diameter)
        by_tau = np.moveaxis(errors[..., VSD], -1, 0)
        if len(by_tau):
            self.vsd = np.array([[match_greedily(plane, limit) for limit in VSD_THRESHOLDS] for plane in by_tau])


def _area(errors: FloatArray, diameter: float) -> FloatArray:
    """1 - error / AUC_LIMIT_M of each instance (G,), matched below that limit; 0 where nothing is.

    The mean of it over instances is the area under the curve of recall against the threshold, exactly.
    """
    taken: FloatArray = greedy_errors(errors * diameter, AUC_LIMIT_M)
    return np.where(np.isfinite(taken), 1.0 - taken / AUC_LIMIT_M, 0.0)


def _nearest_errors(
    errors: FloatArray, truth: GroundTruth, estimates: Sequence[Estimate], scorer: _Scorer
) -> Tuple[float, float, float, float, float]:
    """Errors (MSSD, MSPD, ADD, rotation, translation) of the estimate nearest by MSSD."""
    if len(estimates) == 0:
        return (float('inf'),) * 5
    best = int(np.argmin(errors[:, MSSD]))
    pose = estimates[best].cam_from_obj
    wanted = nearest_equivalent(truth.cam_from_obj, pose, scorer.model.symmetries)
    surface, pixels, average = (float(errors[best, column]) for column in (MSSD, MSPD, ADD))
    rotation = pose_errors.rotation_error(pose, wanted)
    return surface, pixels, average, rotation, pose_errors.translation_error(pose, wanted)


def match_greedily(errors: FloatArray, threshold: float) -> AnyArray:
    """Which instances are found (G,) bool, given errors (E, G) with estimates ordered by score."""
    return np.isfinite(greedy_errors(errors, threshold))


def greedy_errors(errors: FloatArray, threshold: float) -> FloatArray:
    """The error (G,) of the estimate that took each instance; infinite where none did."""
    taken = np.full(errors.shape[1], np.inf)
    for row in errors:
        candidates = np.where(np.isinf(taken) & (row < threshold), row, np.inf)
        if len(candidates) and np.isfinite(candidates.min()):
            column = int(np.argmin(candidates))
            taken[column] = candidates[column]
    return taken
