"""A pose you can trust or nothing at all: the conditions that a candidate must meet to be published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Iterator, Optional, Tuple

import numpy as np

from kd6d_ros.geometry.cameras import project
from kd6d_ros.inference.decode import corners_box
from kd6d_ros.inference.records import Rejection

if TYPE_CHECKING:
    from kd6d_ros.inference.evidence import AnyPredictions
    from kd6d_ros.inference.settings import EstimatorSettings
    from kd6d_ros.inference.workspace import Workspace
    from kd6d_ros.types import Camera, FloatArray, ObjectModel, RigidTransform

NO_CELLS = 'no cell above the score threshold'
NO_POSE = 'no pose explains the cells'
SCORE = 'score too low'
INLIERS = 'too few inliers'
RATIO = 'inlier ratio too low'
REPROJECTION = 'reprojection error too large'
NOT_FINITE = 'pose not finite'
BEHIND = 'behind the camera'
TOO_NEAR = 'nearer than min_distance'
TOO_FAR = 'farther than max_distance'
OUTSIDE = 'outside the image'
DUPLICATE = 'same place as a better instance'
TOO_MANY = 'more than max_instances'
OUTLIER = 'outlier to the pose filter'
WORKSPACE = 'outside the workspace'
BAD_BOX = 'detection without a usable box'

KEEP_SECOND = 0.8
"""A second measurement replaces the first unless its quality is below this share of the first one's."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A pose before the gates. box (4,) and size [image px] are those of the projected 3D box; around: box (4,)
    [image px] that the next crop should be made for; track: number of the track whose region
    gave it, or None; predictions: what it was solved from; prior: how sure the search or the
    detector was of the place that was measured, 0 to 1; rival: another measurement of the same instance that passes
    the gates too."""

    model: ObjectModel
    cam_from_obj: RigidTransform
    score: float
    inliers: int
    correspondences: int
    rms: float
    box: FloatArray
    around: FloatArray
    mode: str
    track: Optional[int] = None
    predictions: Optional[AnyPredictions] = None
    prior: float = 1.0
    rival: Optional[Candidate] = None

    @property
    def size(self) -> float:
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    @property
    def quality(self) -> float:
        """Which of two measurements of one place is better: score times share of inliers."""
        return self.score * self.inliers / max(self.correspondences, 1)

    @property
    def likelihood(self) -> float:
        """Which of two places shows the object. How well its predictions agree is left out: those of a place that shows
        something else are few and agree well, so that with the inliers a wrong place wins more often (docs/results.md).
        """
        return self.prior * self.score


def projected_box(model: ObjectModel, cam_from_obj: RigidTransform, camera: Camera) -> Optional[FloatArray]:
    """Box x0 y0 x1 y1 [image px] of the projected 3D box; None when a corner is not in front of the camera.

    Corners beyond what the distortion model can image (NaN from ``project``) are left out.
    """
    corners = cam_from_obj.apply(model.keypoints)
    if corners[:, 2].min() <= 1e-3:
        return None
    pixels = project(camera, corners)
    seen = np.isfinite(pixels).all(axis=1)
    return corners_box(pixels[seen]) if seen.sum() >= 4 else None


def visible_share(box: FloatArray, camera: Camera) -> float:
    """Share of a box that lies inside the image."""
    inside = np.minimum(box[2:], [camera.width - 0.5, camera.height - 0.5]) - np.maximum(box[:2], -0.5)
    area = float(np.prod(box[2:] - box[:2]))
    return float(np.clip(inside, 0, None).prod() / area) if area > 0 else 0.0


def check(
    candidate: Candidate, settings: EstimatorSettings, camera: Camera, workspace: Optional[Workspace] = None
) -> Optional[Rejection]:
    """The first condition that the candidate fails, or None: it may be published."""
    for reason, value, limit, fine in _conditions(candidate, settings, camera, workspace):
        if not fine:
            return Rejection(candidate.model.name, reason, value, limit, candidate.mode)
    return None


def passes(
    candidate: Optional[Candidate], settings: EstimatorSettings, camera: Camera, workspace: Optional[Workspace] = None
) -> bool:
    """Whether there is a candidate and it may be published."""
    return candidate is not None and check(candidate, settings, camera, workspace) is None


def better(
    first: Optional[Candidate],
    second: Optional[Candidate],
    settings: EstimatorSettings,
    camera: Camera,
    workspace: Optional[Workspace] = None,
) -> Optional[Candidate]:
    """Which of two measurements of one instance to keep; the other one goes with it if both pass the gates."""
    if first is None or second is None:
        return first or second
    if not passes(second, settings, camera, workspace):
        return first
    if not passes(first, settings, camera, workspace):
        return second
    kept, rival = (second, first) if second.quality >= KEEP_SECOND * first.quality else (first, second)
    return replace(kept, rival=replace(rival, rival=None))


def _conditions(
    candidate: Candidate, settings: EstimatorSettings, camera: Camera, workspace: Optional[Workspace]
) -> Iterator[Tuple[str, float, float, bool]]:
    """(reason, value, limit, passes), written so that NaN never passes."""
    depth = float(candidate.cam_from_obj.translation[2])
    nearest = float(candidate.cam_from_obj.apply(candidate.model.keypoints)[:, 2].min())
    ratio = candidate.inliers / max(candidate.correspondences, 1)
    error = max(settings.max_reprojection_error_px, settings.max_reprojection_error_relative * candidate.size)
    seen = visible_share(candidate.box, camera)
    finite = np.isfinite(candidate.cam_from_obj.translation).all() and np.isfinite(candidate.box).all()
    yield NOT_FINITE, 0.0, 0.0, bool(finite)
    yield SCORE, candidate.score, settings.min_score, candidate.score >= settings.min_score
    yield INLIERS, candidate.inliers, settings.min_inliers, candidate.inliers >= settings.min_inliers
    yield RATIO, ratio, settings.min_inlier_ratio, ratio >= settings.min_inlier_ratio
    yield REPROJECTION, candidate.rms, error, candidate.rms <= error
    yield BEHIND, nearest, 0.0, nearest > 0
    yield TOO_NEAR, depth, settings.min_distance, depth >= settings.min_distance
    yield TOO_FAR, depth, settings.max_distance, depth <= settings.max_distance
    yield OUTSIDE, seen, settings.min_visible, seen >= settings.min_visible
    if workspace is not None:
        apart = workspace.distance(candidate.model, candidate.cam_from_obj)
        yield WORKSPACE, apart, 0.0, apart <= 0
