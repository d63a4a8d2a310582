"""CameraInfo to Camera, with every way it can be wrong named (REP-104).

Works on anything with the fields of sensor_msgs/CameraInfo, so it needs no ROS. Rectified or raw is
declared by the user, never guessed: a rectified image uses the left 3x3 of P, a raw one K and D.
Images from a camera that bins or crops are refused: drivers disagree on whether K already accounts for it.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np

from kd6d_ros.errors import CameraError
from kd6d_ros.foreign_text import shown
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.types import Camera

CALIBRATE = 'calibrate the camera (ros2 run camera_calibration cameracalibrator) or correct its calibration file'
FOCAL = (0.05, 100.0)
"""Least and largest focal length, in longer sides of the image: from fisheye to telescope."""
CENTRE = 10.0
"""The principal point lies at most so many sides outside the image, as it does in a cut-out of a larger one."""


class CameraInfoReader:
    """Turns CameraInfo messages into Camera, checking each distinct content once."""

    def __init__(self, rectified: bool) -> None:
        self._rectified = rectified
        self._key: Optional[Tuple[Any, ...]] = None
        self._camera: Optional[Camera] = None

    def camera(self, info: Any, width: int, height: int, frame_id: str) -> Camera:
        """Camera for an image of this size and frame.

        Raises:
            CameraError: one line with the cure.
        """
        key = (_key(info), width, height, frame_id)
        if self._camera is None or key != self._key:
            self._camera = None
            self._camera = camera_from_info(info, width, height, frame_id, self._rectified)
            self._key = key
        return self._camera


def camera_from_info(info: Any, width: int, height: int, frame_id: str, rectified: bool) -> Camera:
    """Camera for an image (width, height [px], frame_id) from its CameraInfo.

    Raises:
        CameraError: another frame, another size, binning, ROI, zero or NaN K, P zero though rectified,
            unknown distortion model, too few coefficients.
    """
    if info.header.frame_id != frame_id:
        raise CameraError(
            f'CameraInfo has frame_id {shown(info.header.frame_id)} but the image has {shown(frame_id)}: '
            'remap camera_info to the topic of the same camera'
        )
    _check_binning(info)
    if (info.width, info.height) != (width, height):
        raise CameraError(
            f'CameraInfo is for {info.width}x{info.height} px but the image has {width}x{height}: '
            'remap camera_info to the info that belongs to this image'
        )
    if rectified:
        return _rectified(info, width, height)
    return _raw(info, width, height)


def _check_binning(info: Any) -> None:
    if info.binning_x > 1 or info.binning_y > 1:
        raise CameraError(
            f'CameraInfo has binning {info.binning_x}x{info.binning_y}: switch binning off in the camera driver, '
            'or publish K, P and the size of the binned image with binning 0'
        )
    roi = info.roi
    whole = (roi.x_offset, roi.y_offset) == (0, 0) and ((roi.width, roi.height) in ((0, 0), (info.width, info.height)))
    if not whole:
        raise CameraError(
            f'CameraInfo has a region of interest (ROI) of {roi.width}x{roi.height} px at {roi.x_offset}, '
            f'{roi.y_offset}: switch it off in the camera driver, or publish K, P and the size of the cut image '
            'without ROI'
        )


def _rectified(info: Any, width: int, height: int) -> Camera:
    matrix = np.asarray(info.p, dtype=np.float64).reshape(3, 4)[:, :3]
    if not matrix.any():
        raise CameraError(
            'image_rectified is true but P in CameraInfo is zero: set image_rectified:=false for a raw image, or '
            + CALIBRATE
        )
    return _make(matrix, width, height, 'none', np.zeros(0), 'P')


def _raw(info: Any, width: int, height: int) -> Camera:
    matrix = np.asarray(info.k, dtype=np.float64).reshape(3, 3)
    distortion = np.asarray(info.d, dtype=np.float64)
    model = info.distortion_model
    if not model and not distortion.any():
        model, distortion = 'none', np.zeros(0)
    camera = _make(matrix, width, height, model, distortion, 'K')
    if camera.model in ('plumb_bob', 'rational_polynomial') and not camera.distortion.any():
        return Camera(camera.matrix, width, height)
    return camera


def _make(matrix: Any, width: int, height: int, model: str, distortion: Any, name: str) -> Camera:
    if not np.isfinite(matrix).all():
        raise CameraError(f'{name} in CameraInfo contains NaN or infinite values: {CALIBRATE}')
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise CameraError(
            f'{name} in CameraInfo has focal lengths {matrix[0, 0]:g}, {matrix[1, 1]:g} px, so the camera is not '
            f'calibrated: {CALIBRATE}'
        )
    _check_plausible(matrix, width, height, name)
    try:
        return make_camera(matrix, width, height, model, distortion)
    except CameraError as error:
        raise CameraError(f'CameraInfo: {error}: {CALIBRATE}') from error


def _check_plausible(matrix: Any, width: int, height: int, name: str) -> None:
    """Numbers that no lens has give poses at any distance, and overflow on the way."""
    side = max(width, height)
    for what, value, low, high in (
        ('focal length', matrix[0, 0], FOCAL[0] * side, FOCAL[1] * side),
        ('focal length', matrix[1, 1], FOCAL[0] * side, FOCAL[1] * side),
        ('principal point', matrix[0, 2], -CENTRE * width, (1 + CENTRE) * width),
        ('principal point', matrix[1, 2], -CENTRE * height, (1 + CENTRE) * height),
    ):
        if not low <= value <= high:
            raise CameraError(
                f'{name} in CameraInfo has a {what} of {value:g} px, which fits no image of {width}x{height} px: '
                f'{CALIBRATE}'
            )


def _key(info: Any) -> Tuple[Any, ...]:
    """Everything of a message that matters except its stamp; NaN compares by its bytes."""
    roi = info.roi
    numbers = tuple(np.asarray(values, dtype=np.float64).tobytes() for values in (info.k, info.d, info.p))
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height)
    return (
        info.header.frame_id, info.width, info.height, info.distortion_model, numbers,
        info.binning_x, info.binning_y, region,
    )  # fmt: skip
