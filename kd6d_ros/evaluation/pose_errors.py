"""Pose errors as BOP defines them, in metres, pixels and radians.

Sources: ADD and ADI (ADD-S): Hinterstoisser et al., ACCV 2012. MSSD, MSPD: Hodan et al., "BOP Challenge 2020
on 6D Object Localization", ECCV Workshops 2020. Every function takes `cam_from_obj` poses and the vertices
(V, 3) [m] of the object's mesh. `symmetries` of MSSD and MSPD is the list of
``geometry.symmetries.symmetry_transforms`` (with the identity).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from kd6d_ros.evaluation.nearest import NearestVertex
from kd6d_ros.geometry.cameras import project
from kd6d_ros.geometry.transforms import transform_distance, vector_from_rotation

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Camera, FloatArray, RigidTransform


def add(estimate: RigidTransform, truth: RigidTransform, vertices: AnyArray) -> float:
    """ADD [m]: mean distance between corresponding vertices."""
    return float(_distances(estimate.apply(vertices), truth.apply(vertices)).mean())


def adi(estimate: RigidTransform, truth: RigidTransform, vertices: AnyArray | NearestVertex) -> float:
    """ADI, also ADD-S [m]: mean distance from each true vertex to the nearest estimated vertex.

    Args:
        vertices: (V, 3) [m], or the search over them when many poses of one object are scored.
    """
    nearest = vertices if isinstance(vertices, NearestVertex) else NearestVertex(vertices)
    est_from_truth = estimate.inverse() @ truth
    return float(nearest.distances(est_from_truth.apply(nearest.vertices)).mean())


def mssd(
    estimate: RigidTransform,
    truth: RigidTransform,
    vertices: AnyArray,
    symmetries: Sequence[RigidTransform],
) -> float:
    """Maximum symmetry-aware surface distance [m]: least over symmetries of the largest vertex distance."""
    vertices = np.asarray(vertices, dtype=np.float64)
    moved = (truth.inverse() @ estimate).apply(vertices)
    squared = [((moved - symmetry.apply(vertices)) ** 2).sum(axis=1).max() for symmetry in symmetries]
    return float(np.sqrt(min(squared)))


def mspd(
    estimate: RigidTransform,
    truth: RigidTransform,
    camera: Camera,
    vertices: AnyArray,
    symmetries: Sequence[RigidTransform],
) -> float:
    """Maximum symmetry-aware projection distance [px].

    Infinite when a vertex of either pose has no image (behind the camera); BOP's tool mirrors such
    vertices through the camera centre.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    pixels = project(camera, estimate.apply(vertices))
    if not np.isfinite(pixels).all():
        return float('inf')
    squared = [
        ((pixels - project(camera, truth.apply(symmetry.apply(vertices)))) ** 2).sum(axis=1).max()
        for symmetry in symmetries
    ]
    return float(np.sqrt(min((value for value in squared if np.isfinite(value)), default=np.inf)))


def reprojection(estimate: RigidTransform, truth: RigidTransform, camera: Camera, vertices: AnyArray) -> float:
    """Mean distance [px] between projected vertices (Brachmann et al., CVPR 2016); infinite as in `mspd`."""
    pixels = project(camera, estimate.apply(vertices))
    wanted = project(camera, truth.apply(vertices))
    mean = float(_distances(pixels, wanted).mean())
    return mean if np.isfinite(mean) else float('inf')


def rotation_error(estimate: RigidTransform, truth: RigidTransform) -> float:
    """Angle [rad] between the rotations, without symmetries (see ``nearest_equivalent``)."""
    return transform_distance(estimate, truth)[1]


def translation_error(estimate: RigidTransform, truth: RigidTransform) -> float:
    """Distance [m] between the origins."""
    return transform_distance(estimate, truth)[0]


def pose_difference(estimate: RigidTransform, truth: RigidTransform) -> FloatArray:
    """(6,): translation [m] and rotation vector [rad] of R_est R_true^T, both in the camera's axes."""
    turn = vector_from_rotation(estimate.rotation @ truth.rotation.T)
    return np.concatenate([estimate.translation - truth.translation, turn])


def _distances(a: FloatArray, b: FloatArray) -> FloatArray:
    distances: FloatArray = np.linalg.norm(a - b, axis=1)
    return distances
