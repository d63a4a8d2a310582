"""What the estimator takes: images, cameras, stamps and boxes that it can work with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.errors import CameraError, ConfigError, ImageError

if TYPE_CHECKING:
    from kd6d_ros.types import Camera, ImageArray


def usable_box(box: object) -> bool:
    """Whether a box of a detection is four finite numbers with a positive size."""
    values = np.asarray(box, dtype=np.float64)
    fits = values.shape == (4,) and bool(np.isfinite(values).all())
    return fits and bool(values[2] > values[0] and values[3] > values[1])


def check_input(image: ImageArray, camera: Camera, stamp: float) -> None:
    """
    Raises:
        ImageError, CameraError, ConfigError: see ``PoseEstimator.estimate``.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f'image: expected a uint8 RGB array (height, width, 3), got {what}')
    if image.shape[:2] != (camera.height, camera.width):
        raise CameraError(
            f'image is {image.shape[1]}x{image.shape[0]} but the camera is {camera.width}x{camera.height}: '
            'use the camera_info of this very image stream'
        )
    if not np.isfinite(stamp):
        raise ConfigError(f'stamp: expected a finite time in seconds, got {stamp!r}')
