"""A pose estimator over the targets of a BOP dataset, every image on its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from kd6d_ros.data.bop import BopDataset, BopScene, Target, read_detections, read_targets
from kd6d_ros.data.bop_evaluation import check_sizes
from kd6d_ros.data.run_overlays import RunOverlays
from kd6d_ros.data.run_tally import RunTally
from kd6d_ros.errors import ConfigError, DatasetError
from kd6d_ros.evaluation.records import Estimate
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.object_meshes import object_meshes
from kd6d_ros.inference.outlines import PURPOSE, Outlines
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import Detection

if TYPE_CHECKING:
    from kd6d_ros.data.bop import DetectionTable
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.types import PoseEstimate

Progress = Callable[[int, int, float], None]
"""Called after each image with the images done, the images in all, and the seconds since the start."""


@dataclass(frozen=True)
class RunOptions:
    """What to run on. targets None: BOP_DIR/test_targets_bop19.json; detections None: search the images.

    settings: those of the estimator; track, find and max_instances are the run's own. limit: only the first images
    of the target list; overlays: folder for `overlay_count` pictures, spread over the images, with the estimates in
    colour and the ground truth in white.
    """

    dataset: Path
    split: str = 'test'
    targets: Optional[Path] = None
    detections: Optional[Path] = None
    min_detection_score: float = 0.0
    settings: EstimatorSettings = field(default_factory=EstimatorSettings)
    limit: Optional[int] = None
    overlays: Optional[Path] = None
    overlay_count: int = 12


class DatasetRun:
    """Reads and checks the lists at once; ``run`` then goes over the images.

    Targets of objects that the bundle does not know are counted and skipped. Of the detections, all boxes of
    the target objects with at least `min_detection_score` reach the estimator, which measures the best-scored
    ones; of the poses of one object the best-scored are kept, as many as its target asks for.

    Raises:
        DatasetError: no such dataset, split, scene or image, or a malformed list.
        ConfigError: the bundle was trained on other objects than the dataset's of the same ids; or it cannot
            search a whole image and there are no detections.
    """

    def __init__(self, bundle: Bundle, options: RunOptions) -> None:
        self.bundle, self.options = bundle, options
        self.dataset = BopDataset.open(options.dataset)
        path = options.targets or Path(options.dataset) / 'test_targets_bop19.json'
        listed = read_targets(path)
        self.targets, self._foreign = self._by_image(path, listed)
        """Instances to find, by object, of each (scene, image)."""
        check_sizes(self.dataset, bundle.objects, f'bundle {bundle.name!r}')
        self.detections = read_detections(options.detections) if options.detections else None
        if self.detections is None and bundle.network.frame_size is None:
            raise ConfigError(f'bundle {bundle.name!r} cannot search a whole image; give boxes with --detections')
        for scene_id, image_id in self.targets:
            self.dataset.scene(options.split, scene_id).image_path(image_id)
        self._outlines = self._make_outlines()
        self._tally = RunTally()
        self._found = 0
        self._boxes = 0
        self._missing = 0
        self._absent = 0
        self._phantoms = 0

    def _by_image(self, path: Path, listed: List[Target]) -> Tuple[Dict[Tuple[int, int], Dict[int, int]], int]:
        """{(scene, image): {object id: instances}} of the bundle's objects, and how many targets are not."""
        known = self.bundle.by_obj_id()
        images: Dict[Tuple[int, int], Dict[int, int]] = {}
        foreign = 0
        for target in listed:
            counts = images.setdefault((target.scene_id, target.image_id), {})
            if target.obj_id in known:
                counts[target.obj_id] = counts.get(target.obj_id, 0) + target.count
            else:
                foreign += target.count
        if not any(images.values()):
            ids = ', '.join(str(ident) for ident in sorted(known))
            raise DatasetError(f'{path}: has no target of bundle {self.bundle.name!r} (object ids {ids})')
        return dict(list(images.items())[: self.options.limit]), foreign

    def _make_outlines(self) -> Optional[Outlines]:
        """With the dataset's meshes where it has any, else with those of the bundle."""
        if not self.options.settings.fit_outline:
            return None
        folder, names = self.dataset.root / 'models', self.bundle.names
        meshes = object_meshes(self.bundle, names, PURPOSE, folder) if folder.is_dir() else None
        return Outlines(self.bundle, names, meshes)

    def run(
        self, engine: Engine, progress: Optional[Progress] = None, boxes: Optional[DetectionTable] = None
    ) -> List[Estimate]:
        """Estimate every target; `boxes`: in place of the detections.

        Raises:
            DatasetError, ImageError, CameraError, EngineError: the run stops; nothing has been written but
            overlays.
        """
        most = max(count for counts in self.targets.values() for count in counts.values())
        table = self.detections if boxes is None else boxes
        settings = replace(self.options.settings, track=False, find=table is None, max_instances=min(most, 50))
        estimator = PoseEstimator(self.bundle, engine, settings, outlines=self._outlines)
        overlays = RunOverlays(self.bundle, self.options.overlays, self.options.overlay_count, list(self.targets))
        out: List[Estimate] = []
        start = perf_counter()
        for number, (key, counts) in enumerate(self.targets.items(), start=1):
            scene = self.dataset.scene(self.options.split, key[0])
            image, camera = scene.image(key[1]), scene.camera(key[1])
            boxes_here = self._boxes_of(table, key, counts)
            poses = self._tally.estimate(estimator, image, camera, boxes_here) if counts else []
            if table is None and counts and scene.has_annotations:
                self._count_absent(scene, key[1], poses)
            estimates = self._of_targets(key, poses)
            overlays.draw(scene, key, image, camera, estimates)
            out += estimates
            if progress is not None:
                progress(number, len(self.targets), perf_counter() - start)
        self._found = len(out)
        return out

    def _count_absent(self, scene: BopScene, image_id: int, poses: List[PoseEstimate]) -> None:
        """What a search says of the bundle's objects that the image does not show at all."""
        shown = {item.obj_id for item in scene.annotations(image_id)}
        absent = {item.name for ident, item in self.bundle.by_obj_id().items() if ident not in shown}
        self._absent += len(absent)
        self._phantoms += sum(pose.object_name in absent for pose in poses)

    def _of_targets(self, key: Tuple[int, int], poses: List[PoseEstimate]) -> List[Estimate]:
        out = []
        for obj_id, count in self.targets[key].items():
            name = self.bundle.by_obj_id()[obj_id].name
            own = sorted((pose for pose in poses if pose.object_name == name), key=lambda item: -item.score)
            out += [
                Estimate(*key, obj_id, pose.score, pose.cam_from_obj, self._tally.seconds[-1]) for pose in own[:count]
            ]
        return out

    def _boxes_of(
        self, table: Optional[DetectionTable], key: Tuple[int, int], counts: Dict[int, int]
    ) -> Optional[List[Detection]]:
        if table is None:
            return None
        names = {ident: item.name for ident, item in self.bundle.by_obj_id().items()}
        boxes = [
            Detection(names[item.obj_id], item.score, item.box)
            for item in table.get(key, [])
            if item.obj_id in counts and item.score >= self.options.min_detection_score
        ]
        self._boxes += len(boxes)
        for ident, count in counts.items():
            self._missing += max(0, count - sum(box.object_name == names[ident] for box in boxes))
        return boxes

    def summary(self) -> Dict[str, Any]:
        """What was done: counts, and milliseconds per image of pose estimation alone."""
        targets = sum(sum(counts.values()) for counts in self.targets.values())
        record: Dict[str, Any] = {
            'bundle': self.bundle.name,
            'mode': 'frame' if self.detections is None else 'detections',
            'images': len(self.targets),
            'targets': targets,
            'targets_of_other_objects': self._foreign,
            'poses': self._found,
        }
        if self.detections is not None:
            record['detections_used'] = self._boxes
            record['targets_without_detection'] = self._missing
        if self._absent:
            record['objects_not_in_the_image'] = self._absent
            record['poses_of_objects_not_in_the_image'] = self._phantoms
        return {**record, **self._tally.record()}
