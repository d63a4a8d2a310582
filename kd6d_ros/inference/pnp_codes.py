"""Pose from decoded surface codes alone: RANSAC over minimal samples, then the robust refinement of the other kinds.

A wrong bit among the first of a code puts its point anywhere on the object, so outliers are many and coarse, which is
what RANSAC is for. P3P samples also fit points that lie in one plane. Deterministic: OpenCV seeds its draws itself.

Reference: Ke, Roumeliotis, "An Efficient Algebraic Solution to the Perspective-Three-Point Problem", CVPR 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, Optional

import cv2
import numpy as np

from kd6d_ros.geometry.cameras import undistort_points
from kd6d_ros.inference import robust
from kd6d_ros.inference.pnp import PnpResult, minimal_pose
from kd6d_ros.inference.pnp_surface import LEAST_POINTS, TOLERANCE, Correspondences, solve_from

if TYPE_CHECKING:
    from kd6d_ros.inference.pnp_surface import Minimise
    from kd6d_ros.inference.robust import Pose
    from kd6d_ros.inference.surface import SurfaceCloud
    from kd6d_ros.types import Camera, FloatArray

SAMPLES = 300
"""Most minimal samples that are tried."""

CONFIDENCE = 0.999


def solve_codes(
    cloud: SurfaceCloud, camera: Camera, threshold: float, minimise: Minimise = robust.minimise
) -> Optional[PnpResult]:
    """Pose from surface points under pixels.

    Args:
        cloud: as ``code_cloud`` gives it; points and pixels that are not finite count for nothing.
        camera: intrinsics and distortion.
        threshold: a point is an inlier within this many pixels of the image.
        minimise: what refines the pose, see ``inner_loops``.

    Returns:
        inliers (N,) in the order of the cloud. None with fewer than LEAST_POINTS points, or when no pose in front of
        the camera explains at least four.
    """
    rays = undistort_points(camera, cloud.pixels)
    usable = np.isfinite(rays.sum(axis=1)) & np.isfinite(cloud.points.sum(axis=1)) & (cloud.weights > 0)
    if usable.sum() < LEAST_POINTS:
        return None
    focal = np.array([camera.matrix[0, 0], camera.matrix[1, 1]])
    problem = Correspondences(cloud.points[usable], 0, rays[usable], cloud.weights[usable], focal, float(threshold))
    starts = _starts(problem.points, problem.rays, threshold / float(focal.mean()))
    found = solve_from(starts, problem, TOLERANCE, minimise)
    if found is None:
        return None
    inliers = np.zeros(len(usable), bool)
    inliers[usable] = found.inliers
    return PnpResult(found.cam_from_obj, inliers, found.rms)


def _starts(points: FloatArray, rays: FloatArray, tolerance: float) -> Iterator[Pose]:
    """The pose of the largest agreement that RANSAC finds, and that of all points."""
    try:
        found, _, _, inliers = cv2.solvePnPRansac(
            points, np.ascontiguousarray(rays), np.eye(3), None, iterationsCount=SAMPLES,
            reprojectionError=tolerance, confidence=CONFIDENCE, flags=cv2.SOLVEPNP_AP3P,
        )  # fmt: skip
    except cv2.error:
        found, inliers = False, None
    groups = [] if not found or inliers is None else [inliers.ravel()]
    for rows in (*groups, np.arange(len(points))):
        pose = minimal_pose(points[rows], rays[rows])
        if pose is not None:
            yield pose
