"""Validation as the robot will see it: held-out frames through ``PoseEstimator`` with the network in torch.

Boxes are the visible masks' boxes jittered like a detector's, so the figure is that of the given-detections
mode on renders; thresholds are never tuned on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kd6d_ros.data.detector_boxes import jitter_box
from kd6d_ros.evaluation.pose_errors import add, adi
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.networks.dense_network import DenseNetwork
from kd6d_ros.networks.deployed_dense import DeployedDense
from kd6d_ros.networks.deployed_graph import DeployedGraph
from kd6d_ros.training.bundle_record import bundle_of
from kd6d_ros.types import CodeMaps, Detection, LocalPredictions, RigidTransform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.networks.make_network import AnyNetwork
    from kd6d_ros.training.frames import Frame, FramePack
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.types import AnyArray, ObjectModel


class TorchEngine:
    """A network of either kind behind the robot side's engine interface, in float32 on the network's device."""

    name = 'torch'
    precision = 'fp32'
    description = 'PyTorch, for validation'
    side_by_side = 1

    def __init__(self, network: AnyNetwork, max_cells: int) -> None:
        self.dense = isinstance(network, DenseNetwork)
        graph = DeployedDense(network) if isinstance(network, DenseNetwork) else DeployedGraph(network, max_cells)
        self.graph = graph.eval()

    @torch.no_grad()
    def run(self, image: AnyArray, classes: AnyArray) -> list[LocalPredictions]:
        device = next(self.graph.parameters()).device
        outputs = self.graph(torch.from_numpy(image).to(device), torch.from_numpy(classes).to(device))
        rows = zip(*(out.cpu().numpy() for out in outputs), strict=True)
        return [LocalPredictions.of_codes(CodeMaps(*row)) if self.dense else LocalPredictions(*row) for row in rows]


class Validation(NamedTuple):
    """recall: share of objects within 0.1 diameters (ADD, or ADI when symmetric); accepted: share with a
    pose; looked_at: number of objects; per_object: recall by name."""

    recall: float
    accepted: float
    looked_at: int
    per_object: dict[str, float]

    @staticmethod
    def of(hits: dict[str, list[bool]], accepted: int) -> Validation:
        """From the hits and misses by name, and how many of them had a pose."""
        total = [hit for values in hits.values() for hit in values]
        per_object = {name: float(np.mean(values)) for name, values in hits.items() if values}
        recall = float(np.mean(total)) if total else 0.0
        return Validation(recall, accepted / max(len(total), 1), len(total), per_object)


def validate(
    network: AnyNetwork,
    recipe: Recipe,
    objects: tuple[ObjectModel, ...],
    pack: FramePack,
    frames: Sequence[int],
    count: int,
    books: Sequence[CodeBook] = (),
) -> Validation:
    """Estimate poses on `frames` until `count` objects with at least 15 % visible have been looked at.

    books: surface codes of the objects, for a dense network.
    """
    network.eval()
    engine = TorchEngine(network, recipe.input.max_cells)
    settings = EstimatorSettings(track=False, find=False)
    estimator = PoseEstimator(bundle_of(recipe, objects, books), engine, settings)
    rng = np.random.default_rng(7)
    hits: dict[str, list[bool]] = {model.name: [] for model in objects}
    seen = accepted = 0
    for stamp, number in enumerate(frames):
        if seen >= count:
            break
        frame = pack.frame(int(number), with_depth=False)
        truth, detections = targets_of(frame, objects, rng)
        if not truth:
            continue
        camera = make_camera(frame.matrix, frame.width, frame.height)
        image = np.ascontiguousarray(frame.image)
        estimates = {e.object_name: e for e in estimator.estimate(image, camera, float(stamp), detections)}
        for model, corners in truth:
            estimate = estimates.get(model.name)
            hit = estimate is not None and is_hit(model, corners, estimate.cam_from_obj)
            hits[model.name].append(hit)
            seen += 1
            accepted += estimate is not None
    return Validation.of(hits, accepted)


def most_visible(frame: Frame, least: float) -> dict[int, int]:
    """Class index to annotation row of the most visible instance of each object, if at least `least` is visible."""
    best: dict[int, int] = {}
    for row, index in enumerate(frame.class_index):
        if index >= 0 and frame.visible_fraction[row] >= least:
            other = best.get(int(index))
            if other is None or frame.visible_fraction[row] > frame.visible_fraction[other]:
                best[int(index)] = row
    return best


def targets_of(
    frame: Frame, objects: tuple[ObjectModel, ...], rng: np.random.Generator
) -> tuple[list[tuple[ObjectModel, AnyArray]], list[Detection]]:
    """The most visible instance of each object: model and true corners (8, 3) [m], and a box as a detector's."""
    best = most_visible(frame, 0.15)
    truth = [(objects[index], frame.corners_m[row]) for index, row in best.items()]
    boxes = [
        Detection(objects[index].name, 1.0, jitter_box(frame.visible_box[row], rng)) for index, row in best.items()
    ]
    return truth, boxes


def is_hit(model: ObjectModel, corners: AnyArray, pose: RigidTransform) -> bool:
    """ADD (ADI for a symmetric object) within 0.1 diameters; corners (8, 3) [m] are those of the true pose, which is
    recovered from them by Procrustes."""
    points = model.mesh.vertices if model.mesh is not None else model.keypoints
    step = max(len(points) // 500, 1)
    truth = _fit(model.keypoints, corners)
    measure = adi if model.symmetries else add
    return float(measure(pose, truth, points[::step])) < 0.1 * model.diameter


def _fit(source: AnyArray, target: AnyArray) -> RigidTransform:
    a, b = source - source.mean(0), target - target.mean(0)
    u, _, vt = np.linalg.svd(a.T @ b)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    rotation = vt.T @ flip @ u.T
    return RigidTransform(rotation, target.mean(0) - rotation @ source.mean(0))
