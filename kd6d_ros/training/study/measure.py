"""How often a run's network is right on held-out scenes, object by object, at several score thresholds.

Given boxes (the visible masks' boxes, jittered as a detector's), no gates: every object gets the best pose that its
cells or pixels give, and one without a pose is a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd6d_ros.data.detector_boxes import jitter_box
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.training.bundle_record import bundle_of_checkpoint
from kd6d_ros.training.validation import TorchEngine, is_hit, most_visible
from kd6d_ros.types import Detection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.training.checkpoint import AnyCheckpoint
    from kd6d_ros.training.frames import Frame, FramePack
    from kd6d_ros.types import AnyArray, LocalPredictions, RigidTransform

BOX_SEED = 7


@dataclass(frozen=True, eq=False)
class Measured:
    """Per object that was looked at: frame (n,), class_index (n,), visible (n,) in 0..1, size_px (n,) of its box in the
    frame, hits (T, n) bool at each of the thresholds (T,)."""

    thresholds: tuple[float, ...]
    frame: AnyArray
    class_index: AnyArray
    visible: AnyArray
    size_px: AnyArray
    hits: AnyArray

    def recall(self) -> AnyArray:
        """(T,)"""
        out: AnyArray = self.hits.mean(1)
        return out


class Target(NamedTuple):
    """One object of a frame: annotation row, detector-like box (4,) [px]."""

    row: int
    box: AnyArray


class _Remembering:
    """An engine that answers the same crops from memory: thresholds change what is done with the answer only."""

    side_by_side = 1

    def __init__(self, engine: TorchEngine) -> None:
        self._engine, self._known = engine, {}  # type: ignore[var-annotated]
        self.name, self.precision, self.description = engine.name, engine.precision, engine.description

    def forget(self) -> None:
        self._known.clear()

    def run(self, image: AnyArray, classes: AnyArray) -> list[LocalPredictions]:
        key = image.tobytes(), classes.tobytes()
        if key not in self._known:
            self._known[key] = self._engine.run(image, classes)
        answer: list[LocalPredictions] = self._known[key]
        return answer


class PoseFinder:
    """Finds the poses of objects in given boxes at several thresholds; the network sees every crop once."""

    def __init__(self, checkpoint: AnyCheckpoint, thresholds: Sequence[float]) -> None:
        self._engine = _Remembering(TorchEngine(checkpoint.network, checkpoint.recipe.input.max_cells))
        bundle = bundle_of_checkpoint(checkpoint)
        self._estimators = [PoseEstimator(bundle, self._engine, open_gates(threshold)) for threshold in thresholds]

    def poses(self, frame: Frame, targets: list[Target], stamp: float) -> list[dict[str, RigidTransform]]:
        """Poses by object name, at each threshold."""
        found = [_poses(estimator, frame, targets, stamp) for estimator in self._estimators]
        self._engine.forget()
        return found


def measure(
    checkpoint: AnyCheckpoint, pack: FramePack, count: int, thresholds: Sequence[float], min_visible: float
) -> Measured:
    """Look at the first `count` objects of `pack`; of several instances of one object in a frame the most visible.
    `thresholds` (T,): least cell scores, or the one mask probability of dense networks."""
    finder = PoseFinder(checkpoint, thresholds)
    rng = np.random.default_rng(BOX_SEED)
    rows: list[tuple[float, ...]] = []
    hits: list[list[bool]] = []
    for number in range(len(pack)):
        if len(rows) >= count:
            break
        frame = pack.frame(number, with_depth=False)
        targets = _targets(frame, rng, min_visible)
        if not targets:
            continue
        found = finder.poses(frame, targets, float(number))
        for target in targets:
            model = checkpoint.objects[int(frame.class_index[target.row])]
            hits.append([
                model.name in poses and is_hit(model, frame.corners_m[target.row], poses[model.name]) for poses in found
            ])  # fmt: skip
            span = frame.corners_px[target.row].max(0) - frame.corners_px[target.row].min(0)
            rows.append((number, frame.class_index[target.row], frame.visible_fraction[target.row], span.max()))
    table = np.array(rows[:count], np.float64).reshape(-1, 4)
    right = np.array(hits[:count], bool).reshape(-1, len(thresholds)).T
    return Measured(
        tuple(thresholds), table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], table[:, 3], right
    )


def open_gates(threshold: float) -> EstimatorSettings:
    """Settings that refuse nothing but cells below `threshold`."""
    return EstimatorSettings(
        track=False, find=False, score_threshold=threshold, min_score=0.0, min_inliers=4, min_inlier_ratio=0.0,
        max_reprojection_error_px=100.0, max_reprojection_error_relative=0.5,
    )  # fmt: skip


def _targets(frame: Frame, rng: np.random.Generator, min_visible: float) -> list[Target]:
    best = most_visible(frame, min_visible)
    return [Target(row, jitter_box(frame.visible_box[row], rng)) for _, row in sorted(best.items())]


def _poses(estimator: PoseEstimator, frame: Frame, targets: list[Target], stamp: float) -> dict[str, RigidTransform]:
    camera = make_camera(frame.matrix, frame.width, frame.height)
    names = estimator.bundle.names
    boxes = [Detection(names[int(frame.class_index[t.row])], 1.0, t.box) for t in targets]
    poses = estimator.estimate(np.ascontiguousarray(frame.image), camera, stamp, boxes)
    return {pose.object_name: pose.cam_from_obj for pose in poses}
