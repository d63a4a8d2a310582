"""Pose from many predictions of the same eight corners.

RANSAC with structure: a sample is not any handful of the K x 8 correspondences (there are only eight
different 3D points, so most random samples are degenerate) but a whole opinion: the eight corners of one
cell, or their weighted median over all cells. SQPnP turns each opinion into a pose, a truncated cost over
all correspondences chooses, and Levenberg-Marquardt refines with weights that fade out for outliers (which
beat a refit on hard inliers on every kind of noise tried). Deterministic: nothing is drawn.

References: Fischler, Bolles, "Random Sample Consensus", CACM 1981; Terzakis, Lourakis, "A Consistently Fast
and Globally Optimal Solution to the Perspective-n-Point Problem", ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator, Optional, Tuple

import cv2
import numpy as np

from kd6d_ros.geometry.cameras import undistort_points
from kd6d_ros.inference.robust import minimise
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.inference.robust import Pose
    from kd6d_ros.types import AnyArray, Camera, FloatArray

SOLVER = getattr(cv2, 'SOLVEPNP_SQPNP', cv2.SOLVEPNP_EPNP)
"""SQPnP also solves flat objects, which EPnP does not; OpenCV has it since 4.5.3."""

CELL_OPINIONS = 6
"""How many of the best-scored cells may propose a pose of their own."""

GOOD_OPINION = 0.25
"""The median's pose is taken at once when its mean truncated squared error is below this share of the limit."""

SOFTNESS = 2.0
"""Scale of the refinement's robust cost as a multiple of the inlier threshold."""

TOLERANCE = 1e-5
"""The refinement ends when a step gains less than this share of the cost."""

MIN_CORNERS = 4


@dataclass(frozen=True, eq=False)
class PnpResult:
    """inliers bool, one per correspondence (K, 8); rms [image px] over the inliers."""

    cam_from_obj: RigidTransform
    inliers: AnyArray
    rms: float

    @property
    def count(self) -> int:
        return int(self.inliers.sum())


def solve_pose(
    points: AnyArray, pixels: AnyArray, scores: AnyArray, camera: Camera, threshold: float
) -> Optional[PnpResult]:
    """Pose of an object from K opinions about its corners.

    Args:
        points: (8, 3) corners [m] in the object frame.
        pixels: (K, 8, 2) predicted corners [image px], distorted as the camera is.
        scores: (K,) weights, positive.
        camera: intrinsics and distortion.
        threshold: a correspondence is an inlier within this many pixels.

    Returns:
        None when no pose in front of the camera explains at least four corners.
    """
    rays = undistort_points(camera, np.asarray(pixels, dtype=np.float64).reshape(-1, 2))
    problem = _problem(points, rays.reshape(-1, 8, 2), scores, camera, threshold)
    pose = None if problem is None else _best_opinion(problem)
    return None if problem is None or pose is None else _refine(problem, pose)


def rough_pose(points: AnyArray, rays: AnyArray, scores: AnyArray, camera: Camera, threshold: float) -> Optional[Pose]:
    """The first opinion that is a pose, that of the median corners where possible: enough to start from where surface
    points decide. By normalised rays (K, 8, 2) instead of pixels; not finite where there is none."""
    problem = _problem(points, rays, scores, camera, threshold)
    return None if problem is None else next(_opinions(problem), None)


def _problem(
    points: AnyArray, rays: AnyArray, scores: AnyArray, camera: Camera, threshold: float
) -> Optional[_Problem]:
    """None with rays of too few corners."""
    usable = np.isfinite(rays.sum(axis=2))
    if (usable.sum(axis=0) > 0).sum() < MIN_CORNERS:
        return None
    return _Problem(
        np.asarray(points, dtype=np.float64),
        np.where(usable[..., None], rays, 0.0),
        usable * np.asarray(scores, dtype=np.float64)[:, None],
        np.array([camera.matrix[0, 0], camera.matrix[1, 1]]),
        float(threshold),
    )


@dataclass(frozen=True, eq=False)
class _Problem:
    """points (8, 3); rays (K, 8, 2) normalised; weight (K, 8), zero where unusable; focal (2,) [px]."""

    points: FloatArray
    rays: FloatArray
    weight: FloatArray
    focal: FloatArray
    threshold: float

    def residuals(self, pose: Pose) -> Optional[FloatArray]:
        """(K, 8, 2) [px]: by the pose minus by the network; None when a corner is not in front."""
        moved = self.points @ pose[0].T + pose[1]
        if moved[:, 2].min() <= 1e-6:
            return None
        out: FloatArray = (moved[:, :2] / moved[:, 2:] - self.rays) * self.focal
        return out

    def truncated_cost(self, pose: Pose) -> float:
        residual = self.residuals(pose)
        if residual is None:
            return float('inf')
        squared = np.einsum('kcd,kcd->kc', residual, residual)
        return float((np.minimum(squared, self.threshold**2) * self.weight).sum())

    def normal_equations(self, pose: Pose, residual: FloatArray, weight: FloatArray) -> Tuple[FloatArray, FloatArray]:
        """All cells share a corner's Jacobian, so sum them first."""
        jacobian = corner_jacobian(self.points, *pose, self.focal).reshape(-1, 6)
        pull = (weight[..., None] * residual).sum(axis=0).reshape(-1)
        hessian = (jacobian * np.repeat(weight.sum(axis=0), 2)[:, None]).T @ jacobian
        return np.asarray(hessian, np.float64), np.asarray(pull @ jacobian, np.float64)


def _best_opinion(problem: _Problem) -> Optional[Pose]:
    """The pose of least truncated cost among those of the median corners and of the best cells."""
    limit = float(problem.weight.sum()) * problem.threshold**2
    best, best_cost = None, np.inf
    for pose in _opinions(problem):
        cost = problem.truncated_cost(pose)
        if cost < best_cost:
            best, best_cost = pose, cost
        if cost < GOOD_OPINION * limit:
            break
    return best


def _opinions(problem: _Problem) -> Iterator[Pose]:
    """Poses of the median corners, then of the best cells."""
    seen = problem.weight.sum(axis=0) > 0
    pose = minimal_pose(problem.points[seen], _weighted_median(problem.rays[:, seen], problem.weight[:, seen]))
    if pose is not None:
        yield pose
    order = np.argsort(-problem.weight.max(axis=1), kind='stable')
    for index in order[:CELL_OPINIONS]:
        own = problem.weight[index] > 0
        if own.sum() >= MIN_CORNERS:
            pose = minimal_pose(problem.points[own], problem.rays[index, own])
            if pose is not None:
                yield pose


def _weighted_median(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted median over axis 0: values (K, C, 2), weight (K, C) -> (C, 2)."""
    order = np.argsort(values, axis=0, kind='stable')
    ranked = np.take_along_axis(np.broadcast_to(weight[..., None], values.shape), order, axis=0)
    total = np.cumsum(ranked, axis=0)
    index = (total < 0.5 * total[-1:]).sum(axis=0)[None]
    out: FloatArray = np.take_along_axis(np.take_along_axis(values, order, axis=0), index, axis=0)[0]
    return out


def minimal_pose(points: FloatArray, rays: FloatArray) -> Optional[Pose]:
    """Rotation and translation from points (N, 3) and normalised rays (N, 2) without outliers; None: no solution."""
    try:
        found, vector, translation = cv2.solvePnP(points, np.ascontiguousarray(rays), np.eye(3), None, flags=SOLVER)
    except cv2.error:
        return None
    if not found or not np.isfinite(vector).all() or not np.isfinite(translation).all():
        return None
    return cv2.Rodrigues(vector)[0], translation.reshape(3)  # type: ignore[return-value]


def _refine(problem: _Problem, pose: Pose) -> Optional[PnpResult]:
    pose = minimise(problem, pose, SOFTNESS * problem.threshold, TOLERANCE)
    residual = problem.residuals(pose)
    if residual is None or pose[1][2] <= 0:
        return None
    squared = np.einsum('kcd,kcd->kc', residual, residual)
    inliers = (squared < problem.threshold**2) & (problem.weight > 0)
    if (inliers.any(axis=0)).sum() < MIN_CORNERS:
        return None
    rms = float(np.sqrt(squared[inliers].mean()))
    return PnpResult(RigidTransform(*pose), inliers, rms)


def corner_jacobian(points: FloatArray, rotation: FloatArray, translation: FloatArray, focal: FloatArray) -> FloatArray:
    """Derivative (8, 2, 6) of the projected corners [px] by a left rotation vector [rad] and translation [m]:
    ``moved = exp(w) @ R @ p + t + dt``."""
    turned = points @ rotation.T
    moved = turned + translation
    inverse = 1.0 / moved[:, 2]
    x, y = moved[:, 0] * inverse, moved[:, 1] * inverse
    tx, ty, tz = turned[:, 0], turned[:, 1], turned[:, 2]
    zero = np.zeros(len(points))
    # Row a of the derivative by the point gives q x a by the rotation: d(exp(w) q)/dw = -[q]x.
    out = np.array(
        [
            [-ty * x, tz + tx * x, -ty, np.ones(len(points)), zero, -x],
            [-tz - ty * y, tx * y, tx, zero, np.ones(len(points)), -y],
        ]
    )
    out *= inverse * focal[:, None, None]
    return out.transpose(2, 0, 1)
