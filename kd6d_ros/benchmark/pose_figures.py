"""Accuracy of published poses beyond right and wrong: errors, recalls, jitter at rest, covariance coverage.

Recalls count objects that have to be found (MIN_VISIBLE of `scoring`): one without a pose is a miss. Errors are over
the poses of those objects, up to symmetry. A figure that the run cannot give has its reason in `why` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.benchmark.scoring import MIN_VISIBLE, ObjectOutcome
from kd6d_ros.evaluation.coverage import LEVELS, PARTS, PoseErrors, coverage
from kd6d_ros.evaluation.pose_errors import pose_difference, reprojection
from kd6d_ros.evaluation.scores import AUC_LIMIT_M
from kd6d_ros.geometry.symmetries import nearest_equivalent
from kd6d_ros.geometry.transforms import rotation_angle, transform_distance, vector_from_rotation

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Camera, ObjectModel, RigidTransform

CENTIMETRES, DEGREES = 5.0, 5.0
PIXELS = 5.0
"""2D projection: mean distance of projected vertices."""
REST_FRAMES = 10
REST_M, REST_RAD = 0.0005, 0.003
"""An object rests while its true pose stays this near to that of the first of at least REST_FRAMES images in a row."""
LEAST_POSES = 20
"""Fewer poses say nothing about coverage."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What the figures need besides the outcomes: models and vertices (V, 3) [m] by name, cameras by stamp [ns]."""

    models: Mapping[str, ObjectModel]
    vertices: Mapping[str, AnyArray]
    cameras: Mapping[int, Camera]


def pose_figures(outcomes: Sequence[ObjectOutcome], scene: Scene) -> Dict[str, Any]:
    """Plain values: recalls and areas in 0..1, errors [m, rad, px], and `why` with the reasons for what is None."""
    targets = [item for item in outcomes if item.truth.visible_fraction >= MIN_VISIBLE]
    why: Dict[str, str] = {}
    record: Dict[str, Any] = {'why': why}
    found = [(item, _true_pose(item, scene)) for item in targets if item.pose is not None]
    names = ('add_auc', 'recall_5cm_5deg', 'recall_projection_5px')
    if not targets:
        why.update(dict.fromkeys(names, 'no image in which an object has to be found'))
        record.update(dict.fromkeys(names))
    else:
        gaps = [transform_distance(item.pose.cam_from_obj, true) for item, true in found if item.pose is not None]
        pixels = [_projection(item, true, scene) for item, true in found]
        areas = [max(0.0, 1.0 - item.error_m / AUC_LIMIT_M) for item, _ in found if item.error_m is not None]
        near = [100 * gap <= CENTIMETRES and np.degrees(turn) <= DEGREES for gap, turn in gaps]
        record['add_auc'] = sum(areas) / len(targets)
        record['recall_5cm_5deg'] = sum(near) / len(targets)
        record['recall_projection_5px'] = sum(value < PIXELS for value in pixels) / len(targets)
        record.update(_errors(gaps, pixels))
    if not found:
        why['translation_m'] = why['rotation_rad'] = why['projection_px'] = 'no pose of a visible object'
        record.update(translation_m=None, rotation_rad=None, projection_px=None)
    record['jitter'], reason = jitter(outcomes, scene)
    if reason:
        why['jitter'] = reason
    record['coverage'], reason = covariance_coverage(found)
    if reason:
        why['coverage'] = reason
    return record


def _true_pose(item: ObjectOutcome, scene: Scene) -> RigidTransform:
    """The true pose, of its equivalents the one nearest to the published pose."""
    assert item.pose is not None
    symmetries = scene.models[item.truth.object_name].symmetries
    return nearest_equivalent(item.truth.cam_from_obj, item.pose.cam_from_obj, symmetries)


def _projection(item: ObjectOutcome, true: RigidTransform, scene: Scene) -> float:
    assert item.pose is not None
    camera = scene.cameras[item.stamp_ns]
    return reprojection(item.pose.cam_from_obj, true, camera, scene.vertices[item.truth.object_name])


def _errors(gaps: Sequence[Tuple[float, float]], pixels: Sequence[float]) -> Dict[str, Any]:
    """Median and 95th percentile of each error."""
    columns = {'translation_m': [gap for gap, _ in gaps], 'rotation_rad': [turn for _, turn in gaps]}
    columns['projection_px'] = list(pixels)
    return {
        name: {'p50': float(np.quantile(values, 0.5)), 'p95': float(np.quantile(values, 0.95))}
        for name, values in columns.items()
        if values
    }


def jitter(outcomes: Sequence[ObjectOutcome], scene: Scene) -> Tuple[Optional[Dict[str, float]], str]:
    """How far poses scatter about their mean while the true pose stays: RMS [m, rad] over all rests, or why not."""
    squared: List[Tuple[float, float]] = []
    for segment in _rests(outcomes):
        poses = [item.pose.cam_from_obj for item in segment if item.pose is not None]
        if len(poses) < REST_FRAMES // 2:
            continue
        symmetries = scene.models[segment[0].truth.object_name].symmetries
        poses = [nearest_equivalent(pose, poses[0], symmetries) for pose in poses]
        places = np.array([pose.translation for pose in poses])
        turns = np.array([vector_from_rotation(pose.rotation @ poses[0].rotation.T) for pose in poses])
        freedom = len(poses) - 1
        squared += [
            (float((gap**2).sum()) * len(poses) / freedom, float((turn**2).sum()) * len(poses) / freedom)
            for gap, turn in zip(places - places.mean(axis=0), turns - turns.mean(axis=0), strict=True)
        ]
    if not squared:
        return None, f'no object stays where it is, with a pose, for {REST_FRAMES} images'
    translation, rotation = np.sqrt(np.mean(squared, axis=0))
    return {'translation_m': float(translation), 'rotation_rad': float(rotation), 'poses': float(len(squared))}, ''


def _rests(outcomes: Sequence[ObjectOutcome]) -> List[List[ObjectOutcome]]:
    """Runs of images, per object, in which the true pose stays; two instances of one object are not told apart."""
    by_name: Dict[str, List[ObjectOutcome]] = {}
    for item in sorted(outcomes, key=lambda item: item.stamp_ns):
        by_name.setdefault(item.truth.object_name, []).append(item)
    runs: List[List[ObjectOutcome]] = []
    for items in by_name.values():
        run: List[ObjectOutcome] = []
        for item in items:
            if run and not _stays(run[0], item):
                runs.append(run)
                run = []
            run.append(item)
        runs.append(run)
    return [run for run in runs if len(run) >= REST_FRAMES]


def _stays(first: ObjectOutcome, item: ObjectOutcome) -> bool:
    a, b = first.truth.cam_from_obj, item.truth.cam_from_obj
    moved = float(np.linalg.norm(a.translation - b.translation))
    return moved <= REST_M and rotation_angle(a.rotation, b.rotation) <= REST_RAD


def covariance_coverage(
    found: Sequence[Tuple[ObjectOutcome, RigidTransform]],
) -> Tuple[Optional[Dict[str, List[float]]], str]:
    """Share of poses within the 50, 90 and 95 % regions of their covariances, by part of the pose; or why not."""
    rows = [(item, item.pose, true) for item, true in found if item.pose is not None]
    given = [(item, pose, true, pose.covariance) for item, pose, true in rows if pose.covariance is not None]
    if len(given) < LEAST_POSES:
        missing = 'the bundle has no covariance' if rows and not given else f'fewer than {LEAST_POSES} poses with one'
        return None, missing
    errors = np.array([pose_difference(pose.cam_from_obj, true) for _, pose, true, _ in given])
    covariances = np.array([covariance for *_, covariance in given])
    visible = np.array([item.truth.visible_fraction for item, *_ in given])
    names = tuple(item.truth.object_name for item, *_ in given)
    poses = PoseErrors(errors, covariances, names, visible, np.zeros(len(given)))
    record: Dict[str, List[float]] = {'levels': list(LEVELS)}
    for part in PARTS:
        record[part] = list(coverage(poses, part))
    return record, ''
