"""Poses that the estimator publishes on a data set with ground truth, with their errors and what they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Callable, Dict, List, Optional

import numpy as np

from kd6d_ros.data.bop import BopDataset, read_detections
from kd6d_ros.data.detector_boxes import jitter_box
from kd6d_ros.errors import DatasetError
from kd6d_ros.evaluation.nearest import NearestVertex
from kd6d_ros.evaluation.pose_errors import add, adi, pose_difference
from kd6d_ros.geometry.symmetries import nearest_equivalent
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import Detection

if TYPE_CHECKING:
    from kd6d_ros.data.bop import Annotation, BopScene, DetectionTable
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.inference.evidence import Evidence
    from kd6d_ros.types import AnyArray, FloatArray, PoseEstimate, RigidTransform

BOX_SEED = 11
LEAST_VISIBLE = 0.1
"""Without detections, objects at least this visible get the box of their visible part, jittered as a detector's."""


@dataclass(frozen=True, eq=False)
class PoseSample:
    """One published pose. error (6,): estimate minus the nearest symmetric truth, see ``inference.covariance``;
    covariance (6, 6) where the bundle has one; add: ADD(-S) over the diameter."""

    name: str
    pose: RigidTransform
    evidence: Evidence
    covariance: Optional[FloatArray]
    error: FloatArray
    visible: float
    add: float


def collect_samples(
    bundle: Bundle,
    engine: Engine,
    dataset: Path,
    split: str,
    detections: Optional[Path] = None,
    settings: Optional[EstimatorSettings] = None,
    limit: Optional[int] = None,
    progress: Optional[Callable[[int, int, float], None]] = None,
) -> List[PoseSample]:
    """Every published pose in the images of a split, each image on its own.

    detections: boxes by image; None takes the visible parts' boxes, jittered. limit: only the first images.

    Raises:
        DatasetError: no such data set or split, or it shows no object of the bundle.
    """
    opened = BopDataset.open(dataset)
    scenes = opened.split(split)
    table = read_detections(detections) if detections else None
    chosen = settings or EstimatorSettings(track=False, find=False)
    estimator = PoseEstimator(bundle, engine, chosen, keep_evidence=True)
    truths = _Truths(bundle)
    rng = np.random.default_rng(BOX_SEED)
    images = [(scene, image) for scene in scenes for image in opened.scene(split, scene).image_ids][:limit]
    out: List[PoseSample] = []
    start = perf_counter()
    for number, (scene_id, image_id) in enumerate(images, 1):
        scene = opened.scene(split, scene_id)
        annotations = [item for item in scene.annotations(image_id) if item.obj_id in bundle.by_obj_id()]
        out += _of_image(estimator, truths, scene, image_id, annotations, _boxes(bundle, table, scene_id, image_id,
                                                                                 annotations, rng))  # fmt: skip
        if progress is not None:
            progress(number, len(images), perf_counter() - start)
    if not out:
        raise DatasetError(f'{dataset}: nothing was published on its {len(images)} images: nothing to measure')
    return out


def _boxes(
    bundle: Bundle,
    table: Optional[DetectionTable],
    scene_id: int,
    image_id: int,
    annotations: List[Annotation],
    rng: np.random.Generator,
) -> List[Detection]:
    known = bundle.by_obj_id()
    if table is not None:
        found = table.get((scene_id, image_id), [])
        return [Detection(known[item.obj_id].name, item.score, item.box) for item in found if item.obj_id in known]
    return [
        Detection(known[item.obj_id].name, 1.0, jitter_box(item.box_visible, rng))
        for item in annotations
        if item.box_visible is not None and (item.visible_fraction or 0.0) >= LEAST_VISIBLE
    ]


def _of_image(
    estimator: PoseEstimator,
    truths: _Truths,
    scene: BopScene,
    image_id: int,
    annotations: List[Annotation],
    boxes: List[Detection],
) -> List[PoseSample]:
    if not boxes:
        return []
    estimator.reset()
    poses = estimator.estimate(scene.image(image_id), scene.camera(image_id), 0.0, boxes)
    found = [
        truths.sample(pose, evidence, annotations)
        for pose, evidence in zip(poses, estimator.report.evidence, strict=True)
    ]
    return [item for item in found if item is not None]


class _Truths:
    """Errors against the nearest annotated instance of the same object."""

    def __init__(self, bundle: Bundle) -> None:
        from kd6d_ros.inference.bundle import load_mesh

        self._bundle = bundle
        self._vertices: Dict[str, AnyArray] = {}
        for model in bundle.objects:
            mesh = load_mesh(bundle, model.name) if model.name in bundle.meshes else None
            self._vertices[model.name] = model.keypoints if mesh is None else mesh.vertices
        self._nearest = {name: NearestVertex(vertices) for name, vertices in self._vertices.items()}

    def sample(self, pose: PoseEstimate, evidence: Evidence, annotations: List[Annotation]) -> Optional[PoseSample]:
        model = self._bundle.object(pose.object_name)
        own = [item for item in annotations if item.obj_id == model.obj_id]
        if not own:
            return None  # nothing to compare with: the object is not in the image, or not annotated
        place = pose.cam_from_obj.translation
        truth = min(own, key=lambda item: float(np.linalg.norm(item.cam_from_obj.translation - place)))
        true = truth.cam_from_obj
        near = nearest_equivalent(true, pose.cam_from_obj, model.symmetries) if model.symmetries else true
        error = pose_difference(pose.cam_from_obj, near)
        vertices = self._vertices[model.name]
        distance = (
            adi(pose.cam_from_obj, true, self._nearest[model.name]) if model.symmetries
            else add(pose.cam_from_obj, true, vertices)
        )  # fmt: skip
        return PoseSample(
            model.name, pose.cam_from_obj, evidence, pose.covariance, error,
            float(truth.visible_fraction if truth.visible_fraction is not None else 1.0), distance / model.diameter,
        )  # fmt: skip
