"""Pose from corner predictions and surface points together.

The corners give the pose to start from (few predictions suffice, and they are good at telling front from rear);
the surface points, many and each under the pixel it speaks of, sharpen it, above all its distance.
Levenberg-Marquardt on the Geman-McClure cost of both, as for the corners alone. Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Tuple

import numpy as np

from kd6d_ros.geometry.cameras import undistort_points
from kd6d_ros.inference import robust
from kd6d_ros.inference.pnp import (
    MIN_CORNERS,
    SOFTNESS,
    PnpResult,
    corner_jacobian,
    minimal_pose,
    rough_pose,
    solve_pose,
)
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.inference.robust import Pose
    from kd6d_ros.inference.surface import SurfaceCloud
    from kd6d_ros.types import AnyArray, Camera, FloatArray

    Minimise = Callable[['Correspondences', Pose, float, float], Pose]

CORNER_WEIGHT = 0.03
"""Weight of one corner prediction of score 1 against a surface point of weight 1."""

LEAST_POINTS = 8
"""Fewer surface points than this say nothing that the corners do not."""

BELIEVED = 0.4
"""Where the pose that the corners lead to explains this share of the surface points, it is taken. Of two poses of least
cost, where both explain some, that of the corners is right more often (docs/results.md)."""

FAR = 1e6
"""Residual [px] of a surface point that a pose puts behind the camera: an outlier like any other."""

TOLERANCE, START_TOLERANCE = 1e-4, 1e-2
"""The refinement ends when a step gains less than this share of the cost, outliers' constant share included; the second
while starts are compared, where more exact ones were no better on renders."""


@dataclass(frozen=True, eq=False)
class Correspondences:
    """points (M, 3) [m], the first `corners` of them corners; rays (M, 2) normalised; weight (M,), zero where
    unusable; focal (2,) [px]; threshold [px]."""

    points: FloatArray
    corners: int
    rays: FloatArray
    weight: FloatArray
    focal: FloatArray
    threshold: float

    def residuals(self, pose: Pose) -> Optional[FloatArray]:
        """(M, 2) [px], FAR for a surface point that is not in front; None when a corner is not."""
        moved = self.points @ pose[0].T + pose[1]
        front = moved[:, 2] > 1e-6
        if not front[: self.corners].all():
            return None
        depth = np.where(front, moved[:, 2], 1.0)[:, None]
        out: FloatArray = (moved[:, :2] / depth - self.rays) * self.focal
        out[~front] = FAR
        return out

    def cost(self, pose: Pose) -> float:
        """Geman-McClure cost with the scale of the inlier threshold."""
        residual = self.residuals(pose)
        return np.inf if residual is None else robust.geman_mcclure(residual, self.weight, self.threshold)[1]

    def normal_equations(self, pose: Pose, residual: FloatArray, weight: FloatArray) -> Tuple[FloatArray, FloatArray]:
        """Points behind the camera are left out: one in its plane has no finite derivative."""
        seen = residual[:, 0] != FAR
        points, residual, weight = self.points[seen], residual[seen], weight[seen]
        jacobian = corner_jacobian(points, *pose, self.focal).reshape(-1, 6)
        weighted = jacobian * np.repeat(weight, 2)[:, None]
        hessian = np.asarray(weighted.T @ jacobian, np.float64)
        return hessian, np.asarray(residual.reshape(-1) @ weighted, np.float64)


def solve_with_surface(
    points: AnyArray,
    pixels: AnyArray,
    scores: AnyArray,
    surface: Optional[SurfaceCloud],
    camera: Camera,
    threshold: float,
    minimise: Minimise = robust.minimise,
) -> Optional[PnpResult]:
    """Pose from both kinds of correspondences.

    Args:
        points, pixels, scores: the corners, as for ``solve_pose``.
        surface: surface points with image pixels; None for a network without them.
        camera: intrinsics and distortion.
        threshold: a correspondence is an inlier within this many pixels.
        minimise: what refines the pose, see ``inner_loops``.

    Returns:
        As ``solve_pose``; its inliers (8 K + N,) are those of all correspondences, corners first, when there
        are at least LEAST_POINTS surface points.
    """
    if surface is None or len(surface.points) < LEAST_POINTS:
        return solve_pose(points, pixels, scores, camera, threshold)
    rays = undistort_points(camera, np.concatenate([np.asarray(pixels, np.float64).reshape(-1, 2), surface.pixels]))
    first = rough_pose(points, rays[: 8 * len(pixels)].reshape(-1, 8, 2), scores, camera, threshold)
    problem = _problem(points, rays, scores, surface, camera, threshold)
    found = None if first is None else solve_from(iter([first]), problem, START_TOLERANCE, minimise)
    if found is not None and found.inliers[-len(surface.points) :].mean() >= BELIEVED:
        return found
    return solve_from(_starts(first, problem, len(surface.points)), problem, START_TOLERANCE, minimise)


def _problem(
    points: AnyArray,
    rays: FloatArray,
    scores: AnyArray,
    surface: SurfaceCloud,
    camera: Camera,
    threshold: float,
) -> Correspondences:
    """rays (8 K + N, 2) of the corners and of the surface points."""
    corners = np.tile(np.asarray(points, np.float64), (len(scores), 1))
    usable: AnyArray = np.isfinite(rays.sum(axis=1))
    usable[len(corners) :] &= np.isfinite(surface.points.sum(axis=1))
    every = np.concatenate([corners, surface.points])
    every[len(corners) :][~usable[len(corners) :]] = corners[0]  # any finite point: its weight is zero
    weight = np.concatenate([CORNER_WEIGHT * np.repeat(np.asarray(scores, np.float64), 8), surface.weights])
    return Correspondences(
        every,
        len(corners),
        np.where(usable[:, None], rays, 0.0),
        np.where(usable, weight, 0.0),
        np.array([camera.matrix[0, 0], camera.matrix[1, 1]]),
        float(threshold),
    )


def _starts(first: Optional[Pose], problem: Correspondences, count: int) -> Iterator[Pose]:
    """The pose of the corners, and that of all surface points."""
    if first is not None:
        yield first
    used = np.flatnonzero(problem.weight[-count:] > 0) + len(problem.weight) - count
    if len(used) >= LEAST_POINTS:
        pose = minimal_pose(problem.points[used], problem.rays[used])
        if pose is not None:
            yield pose


def solve_from(
    starts: Iterator[Pose], problem: Correspondences, tolerance: float, minimise: Minimise
) -> Optional[PnpResult]:
    """The result of the start that leads to the least cost, each refined to a `tolerance` and the best one to the end;
    None where none leads to a pose."""
    best, best_cost = None, np.inf
    for start in starts:
        pose = minimise(problem, start, SOFTNESS * problem.threshold, tolerance)
        cost = problem.cost(pose)
        if cost < best_cost:
            best, best_cost = pose, cost
    return None if best is None else result_of(problem, minimise(problem, best, problem.threshold, TOLERANCE))


def result_of(problem: Correspondences, pose: Pose) -> Optional[PnpResult]:
    """The pose with its inliers; None when it lies behind the camera or too little agrees with it."""
    residual = problem.residuals(pose)
    if residual is None or pose[1][2] <= 0:
        return None
    squared = np.einsum('md,md->m', residual, residual)
    inliers = (squared < problem.threshold**2) & (problem.weight > 0)
    if inliers.sum() < MIN_CORNERS:
        return None
    return PnpResult(RigidTransform(*pose), inliers, float(np.sqrt(squared[inliers].mean())))
