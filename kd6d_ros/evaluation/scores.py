"""From poses to hits: which ground-truth instances an estimate finds, by BOP's localisation rules.

Per target (object in an image) the `count` best-scored estimates compete for the `count` most visible
instances. For every threshold the estimates, best score first, each take the free instance with the lowest
error strictly below the threshold. An instance nobody takes is a failure; so is a missing estimate.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Mapping, Sequence, Tuple

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
from kd6d_ros.geometry.symmetries import nearest_equivalent, symmetry_transforms

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray

MSSD_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 11))
"""Fractions of the object diameter."""
MSPD_THRESHOLDS = tuple(5.0 * step for step in range(1, 11))
"""Pixels of an image 640 wide; errors are scaled by 640 / width."""
ADD_THRESHOLD = 0.1
"""Fraction of the object diameter."""


@dataclass(frozen=True, eq=False)
class InstanceScore:
    """One ground-truth instance that had to be found.

    hits_mssd, hits_mspd (10,) bool per threshold; hit_add of ADD (ADI for symmetric objects) below 0.1
    diameter. mssd and add as fractions of the diameter, mspd [px of an image 640 wide], rotation [rad] and
    translation [m] up to symmetry: those of the estimate nearest by MSSD, infinite without one.
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


class _Scorer:
    """One object with what its errors need, prepared once."""

    def __init__(self, model: EvaluationObject) -> None:
        self.model = model
        self.symmetries = symmetry_transforms(model.symmetries)
        self.nearest = NearestVertex(model.vertices)

    def errors(self, estimate: Estimate, truth: GroundTruth, target: EvaluationTarget) -> FloatArray:
        """MSSD / diameter, MSPD * 640 / width, ADD(-S) / diameter."""
        pose, wanted = estimate.cam_from_obj, truth.cam_from_obj
        model = self.model
        surface = pose_errors.mssd(pose, wanted, model.vertices, self.symmetries)
        pixels = pose_errors.mspd(pose, wanted, target.camera, model.vertices, self.symmetries)
        if model.symmetries:
            average = pose_errors.adi(pose, wanted, self.nearest)
        else:
            average = pose_errors.add(pose, wanted, model.vertices)
        scale = 640.0 / target.camera.width
        return np.array([surface / model.diameter, pixels * scale, average / model.diameter])


def score_targets(
    targets: Sequence[EvaluationTarget],
    estimates: Sequence[Estimate],
    objects: Mapping[int, EvaluationObject],
) -> List[InstanceScore]:
    """Score every target; estimates for other images or objects are ignored, as in BOP.

    Raises:
        DatasetError: a target whose object is unknown, that is listed twice, or that asks for more
            instances than are annotated.
    """
    scorers: Dict[int, _Scorer] = {}
    grouped = group_estimates(estimates)
    scores: List[InstanceScore] = []
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
            scorers[target.obj_id] = _Scorer(objects[target.obj_id])
        scores += _score_target(target, grouped.get(key, []), scorers[target.obj_id])
    return scores


def group_estimates(estimates: Sequence[Estimate]) -> Dict[Tuple[int, int, int], List[Estimate]]:
    """Estimates by (scene, image, object), best score first; equal scores keep their order."""
    groups: Dict[Tuple[int, int, int], List[Estimate]] = defaultdict(list)
    for estimate in estimates:
        groups[estimate.scene_id, estimate.image_id, estimate.obj_id].append(estimate)
    return {key: sorted(group, key=lambda estimate: estimate.score, reverse=True) for key, group in groups.items()}


def _name(target: EvaluationTarget) -> str:
    return f'(scene {target.scene_id}, image {target.image_id}, object {target.obj_id})'


def _score_target(target: EvaluationTarget, estimates: Sequence[Estimate], scorer: _Scorer) -> List[InstanceScore]:
    by_visibility = sorted(
        target.truths, key=lambda truth: -1.0 if truth.visible_fraction is None else -truth.visible_fraction
    )
    truths, kept = by_visibility[: target.count], estimates[: target.count]
    errors = np.full((len(kept), len(truths), 3), np.inf)
    for row, estimate in enumerate(kept):
        for column, truth in enumerate(truths):
            errors[row, column] = scorer.errors(estimate, truth, target)
    mssd_hits = [match_greedily(errors[..., 0], threshold) for threshold in MSSD_THRESHOLDS]
    mspd_hits = [match_greedily(errors[..., 1], threshold) for threshold in MSPD_THRESHOLDS]
    add_hits = match_greedily(errors[..., 2], ADD_THRESHOLD)
    missing = len(truths) - len(kept)
    return [
        _instance(
            target,
            truth,
            # Which instance an estimate was meant for is unknown: the least visible count as missing.
            column < len(truths) - missing,
            np.array([hits[column] for hits in mssd_hits]),
            np.array([hits[column] for hits in mspd_hits]),
            bool(add_hits[column]),
            _nearest_errors(errors[:, column], truth, kept, scorer),
        )
        for column, truth in enumerate(truths)
    ]


def _instance(
    target: EvaluationTarget,
    truth: GroundTruth,
    estimated: bool,
    hits_mssd: AnyArray,
    hits_mspd: AnyArray,
    hit_add: bool,
    errors: Tuple[float, float, float, float, float],
) -> InstanceScore:
    return InstanceScore(
        target.scene_id,
        target.image_id,
        target.obj_id,
        truth.visible_fraction,
        estimated,
        hits_mssd,
        hits_mspd,
        hit_add,
        *errors,
    )


def _nearest_errors(
    errors: FloatArray, truth: GroundTruth, estimates: Sequence[Estimate], scorer: _Scorer
) -> Tuple[float, float, float, float, float]:
    """Errors (MSSD, MSPD, ADD, rotation, translation) of the estimate nearest by MSSD."""
    if len(estimates) == 0:
        return (float('inf'),) * 5
    best = int(np.argmin(errors[:, 0]))
    pose = estimates[best].cam_from_obj
    wanted = nearest_equivalent(truth.cam_from_obj, pose, scorer.model.symmetries)
    surface, pixels, average = (float(value) for value in errors[best])
    rotation = pose_errors.rotation_error(pose, wanted)
    return surface, pixels, average, rotation, pose_errors.translation_error(pose, wanted)


def match_greedily(errors: FloatArray, threshold: float) -> AnyArray:
    """Which instances are found (G,) bool, given errors (E, G) with estimates ordered by score."""
    free = np.ones(errors.shape[1], dtype=bool)
    for row in errors:
        candidates = np.where(free & (row < threshold), row, np.inf)
        if len(candidates) and np.isfinite(candidates.min()):
            free[int(np.argmin(candidates))] = False
    return ~free
