"""Rotations and rigid transforms. Quaternions are x y z w (ROS order) in every argument and result.

The quaternion formulas stand here and not in a library because the transforms3d that robots get from apt
(0.3.1, 0.4.1) does not import under the NumPy that pip may have put beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence, Tuple

import cv2
import numpy as np

from kd6d_ros.errors import ShapeError
from kd6d_ros.types import RigidTransform, frozen_array

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray


def rotation_from_vector(vector: AnyArray) -> FloatArray:
    """Rotation (3, 3) from axis times angle (3,) [rad]."""
    vector = frozen_array(vector, (3,), 'rotation vector')
    rotation: FloatArray = np.asarray(cv2.Rodrigues(np.array(vector))[0], dtype=np.float64)
    return rotation


def vector_from_rotation(rotation: AnyArray) -> FloatArray:
    """Axis times angle (3,) [rad], angle in [0, pi]; at pi one of the two equal axes."""
    quaternion = quaternion_xyzw(rotation)
    sine = float(np.linalg.norm(quaternion[:3]))
    if sine < 1e-12:
        return 2.0 * quaternion[:3]
    angle = 2.0 * float(np.arctan2(sine, quaternion[3]))
    return quaternion[:3] * (angle / sine)


def quaternion_xyzw(rotation: AnyArray) -> FloatArray:
    """Unit quaternion x y z w (4,) with w >= 0 of a rotation (3, 3).

    Bar-Itzhack, "New method for extracting the quaternion from a rotation matrix", 2000: the eigenvector of
    the largest eigenvalue, equally accurate at all angles and tolerant of rounded matrices.
    """
    r = frozen_array(rotation, (3, 3), 'rotation')
    lower = np.zeros((4, 4))
    lower[0, 0] = r[0, 0] - r[1, 1] - r[2, 2]
    lower[1, :2] = r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2]
    lower[2, :3] = r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]
    lower[3] = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)
    quaternion: FloatArray = np.linalg.eigh(lower)[1][:, -1]
    return -quaternion if quaternion[3] < 0 else quaternion


def rotation_from_xyzw(quaternion: AnyArray) -> FloatArray:
    """Rotation (3, 3) from a quaternion x y z w (4,), normalised first.

    Raises:
        ShapeError: wrong length, NaN, or a norm of zero.
    """
    x, y, z, w = frozen_array(quaternion, (4,), 'quaternion')
    norm = np.sqrt(x * x + y * y + z * z + w * w)
    if norm < 1e-9:
        raise ShapeError('quaternion: its norm is zero')
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) / norm
    rotation: FloatArray = np.eye(3) + 2 * (w / norm * cross + cross @ cross)
    return rotation


def rotation_angle(a: AnyArray, b: AnyArray) -> float:
    """Angle [rad] in [0, pi] between rotations (3, 3); accurate near 0 and near pi."""
    relative = np.asarray(a, dtype=np.float64).T @ np.asarray(b, dtype=np.float64)
    cosine = (np.trace(relative) - 1) / 2
    skew = [
        relative[2, 1] - relative[1, 2],
        relative[0, 2] - relative[2, 0],
        relative[1, 0] - relative[0, 1],
    ]
    return float(np.arctan2(np.linalg.norm(skew) / 2, cosine))


def transform_distance(a: RigidTransform, b: RigidTransform) -> Tuple[float, float]:
    """Distance of the origins [m] and angle between the rotations [rad]."""
    apart = float(np.linalg.norm(a.translation - b.translation))
    return apart, rotation_angle(a.rotation, b.rotation)


def nearest_rotation(matrix: AnyArray) -> FloatArray:
    """The rotation (3, 3) closest to `matrix` in the Frobenius norm (SVD)."""
    u, _, vt = np.linalg.svd(frozen_array(matrix, (3, 3), 'matrix'))
    sign = np.sign(np.linalg.det(u @ vt))
    rotation: FloatArray = u @ np.diag([1.0, 1.0, sign]) @ vt
    return rotation


def random_rotation(rng: np.random.Generator) -> FloatArray:
    """Rotation (3, 3) drawn uniformly over all rotations."""
    return rotation_from_xyzw(rng.normal(size=4))


def look_at(eye: AnyArray, target: AnyArray, up: AnyArray | Sequence[float] = (0.0, 0.0, 1.0)) -> RigidTransform:
    """``cam_from_world`` of an optical camera (x right, y down, z forward) at `eye` looking at `target`.

    Args:
        eye, target: (3,) [m] in the world.
        up: world direction (3,) that points up in the image; when it is parallel to the view another
            world axis stands in.

    Raises:
        ShapeError: `eye` and `target` coincide.
    """
    eye = frozen_array(eye, (3,), 'eye')
    forward = frozen_array(target, (3,), 'target') - eye
    length = np.linalg.norm(forward)
    if length < 1e-12:
        raise ShapeError('look_at: eye and target coincide')
    forward = forward / length
    right = np.cross(forward, frozen_array(up, (3,), 'up'))
    if np.linalg.norm(right) < 1e-6 * max(float(np.linalg.norm(np.asarray(up))), 1e-12):
        right = np.cross(forward, np.eye(3)[int(np.argmin(np.abs(forward)))])
    right = right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return RigidTransform(rotation, -rotation @ eye)


def interpolate(a: RigidTransform, b: RigidTransform, fraction: float) -> RigidTransform:
    """Constant-speed rotation and straight-line translation from `a` (0) to `b` (1).

    Fractions outside [0, 1] extrapolate.
    """
    turn = vector_from_rotation(a.rotation.T @ b.rotation)
    rotation = a.rotation @ rotation_from_vector(turn * fraction)
    return RigidTransform(rotation, a.translation + fraction * (b.translation - a.translation))
