"""Where the errors of a bundle on a data set with ground truth come from: the boxes, the network or the pose's parts.

The estimator runs over the targets as ``kd6d estimate`` does (the given boxes, or its own search), then with the true
boxes of the visible parts and of the whole objects; so what better boxes would bring is measured, not guessed. In crops
around the whole objects the network's corners and mask are compared with the true ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from kd6d_ros.data.bop_evaluation import load_evaluation_objects, models_folder
from kd6d_ros.data.bop_records import BopDetection
from kd6d_ros.data.bop_run import DatasetRun
from kd6d_ros.evaluation.error_sources import NO_BOX, NO_POSE, TargetErrors, find_cause
from kd6d_ros.evaluation.nearest import NearestVertex
from kd6d_ros.evaluation.pose_errors import add, adi
from kd6d_ros.evaluation.scores import ADD_THRESHOLD
from kd6d_ros.geometry.cameras import project
from kd6d_ros.geometry.symmetries import nearest_equivalent
from kd6d_ros.inference import gates
from kd6d_ros.inference.decode import box_iou
from kd6d_ros.inference.evidence import Predictions
from kd6d_ros.inference.measure import Frame, Measurer, Request

if TYPE_CHECKING:
    from kd6d_ros.data.bop import Annotation, BopScene, DetectionTable
    from kd6d_ros.data.bop_run import Progress, RunOptions
    from kd6d_ros.evaluation.records import Estimate
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.inference.gates import Candidate
    from kd6d_ros.inference.outline_view import MaskMap
    from kd6d_ros.types import AnyArray, Camera, FloatArray, ObjectModel, RigidTransform

GIVEN, SEARCHED, VISIBLE, WHOLE = 'given', 'searched', 'true, visible part', 'true, whole object'

Key = Tuple[int, int, int]
"""Scene, image and object."""


@dataclass(frozen=True, eq=False)
class Analysed:
    """One target with the pose that the estimator gave for it, if any, and the true one."""

    errors: TargetErrors
    model: ObjectModel
    estimate: Optional[RigidTransform]
    truth: RigidTransform


class ErrorAnalysis:
    """Reads and checks the lists at once; ``run`` then goes over the images, once for each kind of box.

    Raises:
        DatasetError, ConfigError: as ``DatasetRun``; or the data set has no meshes to score by.
    """

    def __init__(self, bundle: Bundle, options: RunOptions) -> None:
        self._bundle, self._options = bundle, options
        self._given = DatasetRun(bundle, options)
        self.dataset = self._given.dataset
        folder, infos = models_folder(self.dataset)
        wanted = sorted({obj_id for counts in self._given.targets.values() for obj_id in counts})
        meshes = load_evaluation_objects(folder, infos, wanted)
        self._vertices = {obj_id: item.vertices for obj_id, item in meshes.items()}
        self._nearest = {obj_id: NearestVertex(item) for obj_id, item in self._vertices.items()}

    def run(self, engine: Engine, progress: Optional[Callable[[str], Progress]] = None) -> List[Analysed]:
        """Every target, in the order of the images. `progress`: gives the report of a pass, by its name."""
        say = progress or (lambda what: lambda done, total, seconds: None)
        kind = GIVEN if self._options.detections else SEARCHED
        passes = {kind: _by_key(self._given.run(engine, say(kind)))}
        for name in (VISIBLE, WHOLE):
            passes[name] = _by_key(self._given.run(engine, say(name), self._true_boxes(name)))
        settings = self._options.settings.resolved(self._bundle.decode)
        decode = replace(self._bundle.decode, score_threshold=settings.score_threshold)
        measurer = Measurer(self._bundle, engine, settings, decode)
        out = []
        for scene, image_id in self._scenes():
            look = _Look(self._bundle, measurer, scene, image_id)
            for key, annotation in self._of_image(scene, image_id):
                out.append(self._analysed(key, annotation, kind, passes, scene.camera(image_id), look))
        return out

    def _scenes(self) -> Iterator[Tuple[BopScene, int]]:
        for scene_id, image_id in self._given.targets:
            yield self.dataset.scene(self._options.split, scene_id), image_id

    def _of_image(self, scene: BopScene, image_id: int) -> List[Tuple[Key, Annotation]]:
        """The instances that were to be found: of each object the most visible ones, as many as its target asks for."""
        out = []
        for obj_id, count in self._given.targets[scene.scene_id, image_id].items():
            own = [item for item in scene.annotations(image_id) if item.obj_id == obj_id]
            own.sort(key=lambda item: -1.0 if item.visible_fraction is None else -item.visible_fraction)
            out += [((scene.scene_id, image_id, obj_id), item) for item in own[:count]]
        return out

    def _true_boxes(self, kind: str) -> DetectionTable:
        table: DetectionTable = {}
        for scene, image_id in self._scenes():
            for key, item in self._of_image(scene, image_id):
                box = self._box(item, scene.camera(image_id), kind)
                if box is not None:
                    table.setdefault(key[:2], []).append(BopDetection(key[2], 1.0, box))
        return table

    def _box(self, item: Annotation, camera: Camera, kind: str) -> Optional[FloatArray]:
        if kind == VISIBLE and item.box_visible is not None:
            return item.box_visible
        return gates.projected_box(self._bundle.by_obj_id()[item.obj_id], item.cam_from_obj, camera)

    def _analysed(
        self,
        key: Key,
        item: Annotation,
        kind: str,
        passes: Dict[str, Dict[Key, List[RigidTransform]]],
        camera: Camera,
        look: _Look,
    ) -> Analysed:
        model = self._bundle.by_obj_id()[key[2]]
        poses = {name: self._nearest_pose(found.get(key, []), item) for name, found in passes.items()}
        overlap = self._overlap(key, item, camera)
        given = poses[kind]
        if given is None:
            cause, with_part = (NO_BOX if kind == GIVEN and overlap is None else NO_POSE), dict[str, bool]()
        else:
            truth = nearest_equivalent(item.cam_from_obj, given, model.symmetries)
            cause, with_part = find_cause(given, truth, lambda pose: self._right(pose, item))
        boxes = {name: pose is not None and self._right(pose, item) for name, pose in poses.items()}
        box = self._box(item, camera, WHOLE)
        size = 0.0 if box is None else float(max(box[2] - box[0], box[3] - box[1]))
        seen = _Seen() if box is None else look.of(model, item, box)
        errors = TargetErrors(
            *key, model.name, item.visible_fraction, size, float(np.linalg.norm(item.cam_from_obj.translation)),
            overlap, cause, with_part, boxes, seen.corners, seen.pose_corners, seen.mask_iou,
        )  # fmt: skip
        return Analysed(errors, model, given, item.cam_from_obj)

    def _right(self, pose: RigidTransform, item: Annotation) -> bool:
        model = self._bundle.by_obj_id()[item.obj_id]
        if model.symmetries:
            error = adi(pose, item.cam_from_obj, self._nearest[item.obj_id])
        else:
            error = add(pose, item.cam_from_obj, self._vertices[item.obj_id])
        return error < ADD_THRESHOLD * model.diameter

    def _nearest_pose(self, poses: List[RigidTransform], item: Annotation) -> Optional[RigidTransform]:
        place = item.cam_from_obj.translation
        return min(poses, key=lambda pose: float(np.linalg.norm(pose.translation - place)), default=None)

    def _overlap(self, key: Key, item: Annotation, camera: Camera) -> Optional[float]:
        """IoU of the nearest given box of the object with that of the visible part."""
        true = self._box(item, camera, VISIBLE)
        least = self._options.min_detection_score
        own = [
            row.box
            for row in (self._given.detections or {}).get(key[:2], [])
            if row.obj_id == key[2] and row.score >= least
        ]
        return max((box_iou(box, true) for box in own), default=None) if true is not None else None


def _by_key(estimates: List[Estimate]) -> Dict[Key, List[RigidTransform]]:
    out: Dict[Key, List[RigidTransform]] = {}
    for item in estimates:
        out.setdefault((item.scene_id, item.image_id, item.obj_id), []).append(item.cam_from_obj)
    return out


@dataclass(frozen=True)
class _Seen:
    """Of one object in a crop around its true box: see ``TargetErrors``."""

    corners: Optional[float] = None
    pose_corners: Optional[float] = None
    mask_iou: Optional[float] = None


class _Look:
    """Asks the network about true boxes in one image, which is read when the first object is asked for."""

    def __init__(self, bundle: Bundle, measurer: Measurer, scene: BopScene, image_id: int) -> None:
        self._bundle, self._measurer, self._scene, self._image_id = bundle, measurer, scene, image_id
        self._frame: Optional[Frame] = None

    def of(self, model: ObjectModel, item: Annotation, box: FloatArray) -> _Seen:
        if self._frame is None:
            self._frame = Frame(self._scene.image(self._image_id), self._scene.camera(self._image_id))
        request = Request(self._bundle.index(model.name), box, 'detections')
        (found,) = self._measurer.crops(self._frame, [request])
        if found is None or found.predictions is None:
            return _Seen()
        size = float(max(box[2] - box[0], box[3] - box[1], 1.0))
        corners, of_pose = self._corner_errors(found, item, self._frame.camera)
        visible = self._scene.mask_visible(self._image_id, item.index)
        mask = found.predictions.mask
        overlap = None if mask is None or visible is None else mask_overlap(mask, visible)
        return _Seen(None if corners is None else corners / size, of_pose / size, overlap)

    def _corner_errors(self, found: Candidate, item: Annotation, camera: Camera) -> Tuple[Optional[float], float]:
        """[px]: mean of the cells' corners by their scores (None for a dense network), mean of the pose's corners."""
        truth = nearest_equivalent(item.cam_from_obj, found.cam_from_obj, found.model.symmetries)
        true = project(camera, truth.apply(found.model.keypoints))
        by_pose = project(camera, found.cam_from_obj.apply(found.model.keypoints))
        of_pose = float(np.linalg.norm(by_pose - true, axis=1).mean())
        if not isinstance(found.predictions, Predictions):
            return None, of_pose
        apart = np.linalg.norm(found.predictions.pixels - true, axis=2).mean(axis=1)
        return float(np.average(apart, weights=found.predictions.scores)), of_pose


def mask_overlap(mask: MaskMap, visible: AnyArray) -> float:
    """IoU of a network's mask with the visible part (H, W) bool, by the cells of the mask inside the image."""
    height, width = mask.logits.shape
    cells = (np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + 0.5) * (
        mask.crop.width / width
    ) - 0.5
    at = np.rint(mask.crop.to_image(cells.reshape(-1, 2).astype(np.float64))).astype(int)
    inside = ((at >= 0) & (at < np.array(visible.shape[::-1]))).all(axis=1)
    said = np.asarray(mask.logits).reshape(-1)[inside] > 0
    true = visible[at[inside, 1], at[inside, 0]]
    union = np.count_nonzero(said | true)
    return float(np.count_nonzero(said & true) / union) if union else 0.0
