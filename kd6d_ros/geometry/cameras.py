"""Cameras: validation, projection, undistortion and back-projection.

Distortion models carry their ROS names (REP-104) and OpenCV's formulas: 'plumb_bob' and
'rational_polynomial' as in ``cv2.projectPoints``, 'equidistant' as in ``cv2.fisheye.projectPoints``.

A distortion polynomial is only meaningful while the distorted radius grows with the true one. Beyond that
radius OpenCV folds points back into the image. Here such points, and points at or behind the camera plane
(z <= 0, so equidistant rays at 90 degrees or more too), have no image: ``project`` returns NaN for them.
``undistort_points`` returns NaN for pixels that no point in front of the camera can reach. Callers select
with ``np.isfinite``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from kd6d_ros.errors import CameraError, ShapeError
from kd6d_ros.foreign_text import shown
from kd6d_ros.geometry.distortion import distort, undistort
from kd6d_ros.types import DISTORTION_LENGTHS, Camera, frozen_array

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray

MAX_IMAGE_SIDE = 32768
MIN_DEPTH = 1e-9


def make_camera(
    matrix: AnyArray,
    width: int,
    height: int,
    model: str = 'none',
    distortion: Sequence[float] | AnyArray = (),
) -> Camera:
    """Check intrinsics and return a Camera with read-only arrays.

    Args:
        matrix: K (3, 3) or 9 numbers row-major [px]; no skew.
        width, height: image size [px].
        model: one of ``DISTORTION_LENGTHS`` (ROS names).
        distortion: coefficients in OpenCV order; zeros beyond the model's count are dropped.

    Raises:
        CameraError: zero or NaN K, focal length not positive, skew, wrong size, unknown model, wrong
            coefficient count or non-finite coefficients.
    """
    intrinsics = _checked_matrix(matrix)
    sides = (width, height)
    if not all(1 <= side <= MAX_IMAGE_SIDE and int(side) == side for side in sides):
        raise CameraError(f'camera size {width}x{height} px: each side must be within 1..{MAX_IMAGE_SIDE}')
    if model not in DISTORTION_LENGTHS:
        known = ', '.join(DISTORTION_LENGTHS)
        raise CameraError(f'unknown distortion model {shown(model)}: use one of {known}')
    coefficients = _checked_distortion(model, distortion)
    return Camera(intrinsics, int(width), int(height), model, coefficients)


def _checked_matrix(matrix: AnyArray) -> FloatArray:
    try:
        values = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CameraError('camera matrix K is not made of numbers') from error
    if values.shape == (9,):
        values = values.reshape(3, 3)
    if values.shape != (3, 3):
        raise CameraError(f'camera matrix K must be 3x3 or 9 numbers, got shape {values.shape}')
    if not np.isfinite(values).all():
        raise CameraError('camera matrix K contains NaN or infinite values: calibrate the camera')
    if not values.any():
        raise CameraError('camera matrix K is zero: the camera is not calibrated')
    if values[0, 0] <= 0 or values[1, 1] <= 0:
        raise CameraError(f'focal lengths must be positive, got fx={values[0, 0]:g}, fy={values[1, 1]:g}')
    if abs(values[0, 1]) > 1e-6 * values[0, 0] or values[1, 0] != 0:
        raise CameraError(f'camera matrix K has skew ({values[0, 1]:g}, {values[1, 0]:g}): not supported')
    if not np.allclose(values[2], [0, 0, 1], atol=1e-9):
        raise CameraError(f'the last row of camera matrix K must be 0 0 1, got {values[2].tolist()}')
    checked: FloatArray = frozen_array(values, (3, 3), 'camera matrix K')
    return checked


def _checked_distortion(model: str, distortion: Sequence[float] | AnyArray) -> FloatArray:
    try:
        values = np.array(distortion, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise CameraError(f"distortion of model '{model}' is not made of numbers") from error
    if not np.isfinite(values).all():
        raise CameraError(f"distortion of model '{model}' contains NaN or infinite values")
    lengths = DISTORTION_LENGTHS[model]
    if len(values) > lengths[-1] and not values[lengths[-1] :].any():
        values = values[: lengths[-1]]
    if len(values) not in lengths:
        wanted = ' or '.join(str(length) for length in lengths)
        raise CameraError(f"distortion model '{model}' takes {wanted} coefficients, got {len(values)}")
    checked: FloatArray = frozen_array(values, (-1,), 'distortion')
    return checked


def project(camera: Camera, points: AnyArray) -> FloatArray:
    """Pixels (N, 2) of points (N, 3) [m, camera frame]; NaN where a point has no image.

    Points outside the image but in front of the camera keep their (finite) pixel. Non-finite points
    give NaN.
    """
    points = _rows(points, 3, 'points')
    depth = points[:, 2:]
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        normalised = points[:, :2] / depth
    usable = (depth > MIN_DEPTH) & np.isfinite(normalised).all(axis=1, keepdims=True)
    normalised = np.where(usable, normalised, np.nan)
    return _pixels_from_normalised(camera, distort(camera.model, camera.distortion, normalised))


def undistort_points(camera: Camera, pixels: AnyArray) -> FloatArray:
    """Normalised coordinates x/z, y/z (N, 2) of pixels (N, 2); NaN where no ray reaches the pixel."""
    pixels = _rows(pixels, 2, 'pixels')
    focal = np.array([camera.matrix[0, 0], camera.matrix[1, 1]])
    distorted: FloatArray = (pixels - camera.matrix[:2, 2]) / focal
    return undistort(camera.model, camera.distortion, distorted)


def undistorted_pixels(camera: Camera, pixels: AnyArray) -> FloatArray:
    """Where pixels (N, 2) would lie for the same K without distortion; NaN as in `undistort_points`."""
    if camera.model == 'none':
        return _rows(pixels, 2, 'pixels').copy()
    return _pixels_from_normalised(camera, undistort_points(camera, pixels))


def unit_rays(camera: Camera, pixels: AnyArray) -> FloatArray:
    """Unit directions (N, 3) in the camera frame through pixels (N, 2)."""
    normalised = undistort_points(camera, pixels)
    rays = np.concatenate([normalised, np.ones((len(normalised), 1))], axis=1)
    unit: FloatArray = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit


def back_project(camera: Camera, pixels: AnyArray, depth: AnyArray) -> FloatArray:
    """Points (N, 3) [m, camera frame] at pixels (N, 2) with depth (N,) [m] along z (not along the ray)."""
    normalised = undistort_points(camera, pixels)
    z = np.asarray(depth, dtype=np.float64)
    if z.shape != (len(normalised),):
        raise ShapeError(f'depth: expected shape ({len(normalised)},), got {z.shape}')
    return np.concatenate([normalised * z[:, None], z[:, None]], axis=1)


def _pixels_from_normalised(camera: Camera, normalised: FloatArray) -> FloatArray:
    focal = np.array([camera.matrix[0, 0], camera.matrix[1, 1]])
    pixels: FloatArray = normalised * focal + camera.matrix[:2, 2]
    return pixels


def _rows(values: AnyArray, columns: int, what: str) -> FloatArray:
    array: FloatArray = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != columns:
        raise ShapeError(f'{what}: expected shape (N, {columns}), got {array.shape}')
    return array
