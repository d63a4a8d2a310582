"""A camera from a file: what ROS's calibration writes, what `ros2 topic echo` prints, or BOP's camera.json.

camera_calibration: image_width, image_height, camera_matrix: {data}, distortion_model, distortion_coefficients: {data}.
sensor_msgs/CameraInfo of ROS 2: width, height, k, d, distortion_model. BOP: width, height, fx, fy, cx, cy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from kd6d_ros.errors import CameraError, ConfigError
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.strict_yaml import parse_yaml, read_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.types import AnyArray, Camera

EXPECTED = (
    "expected the YAML of camera_calibration, a CameraInfo as `ros2 topic echo --once` prints it, or BOP's camera.json"
)
MOST_NUMBERS = 14


def read_camera(path: Path) -> Camera:
    """Intrinsics and distortion of unrectified images.

    Raises:
        ConfigError: the file cannot be read, or is none of these.
        CameraError: numbers that are no camera's; names the file.
    """
    content = _one_document(path)
    try:
        if 'camera_matrix' in content:
            size = (_whole(content, 'image_width'), _whole(content, 'image_height'))
            matrix, distortion = (_data(content.get(key)) for key in ('camera_matrix', 'distortion_coefficients'))
        elif 'k' in content:
            size = (_whole(content, 'width'), _whole(content, 'height'))
            matrix, distortion = _numbers(content['k']), _numbers(content.get('d', []))
        else:
            size = (_whole(content, 'width'), _whole(content, 'height'))
            fx, fy, cx, cy = (float(_numbers([content[key]])[0]) for key in ('fx', 'fy', 'cx', 'cy'))
            matrix, distortion = np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]), np.zeros(0)
    except (KeyError, TypeError, ValueError) as error:
        what = f'{error.args[0]!r} is missing' if isinstance(error, KeyError) else str(error)
        raise ConfigError(f'{path}: {what}; {EXPECTED}') from None
    model = str(content.get('distortion_model') or 'plumb_bob')
    if not distortion.any():
        model, distortion = 'none', np.zeros(0)
    try:
        return make_camera(matrix, *size, model, distortion)
    except CameraError as error:
        raise CameraError(f'{path}: {error}') from None


def _one_document(path: Path) -> Mapping[str, Any]:
    """The mapping of a file; of several YAML documents the first, for `ros2 topic echo` ends each with a line."""
    try:
        return read_mapping(path)
    except ConfigError:
        if not path.is_file() or b'\n---' not in path.read_bytes()[: 1 << 20]:
            raise
    content = parse_yaml(path.read_bytes()[: 1 << 20].split(b'\n---')[0], str(path))
    if not isinstance(content, dict):
        raise ConfigError(f'{path}: {EXPECTED}')
    return content


def _data(value: Any) -> AnyArray:
    """Numbers of a matrix of camera_calibration."""
    return _numbers(value['data'] if isinstance(value, dict) else value)


def _numbers(value: Any) -> AnyArray:
    if not isinstance(value, list) or len(value) > MOST_NUMBERS:
        raise ValueError(f'a matrix must be a list of at most {MOST_NUMBERS} numbers')
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
        raise ValueError('a matrix must hold numbers')
    return np.asarray(value, dtype=np.float64)


def _whole(content: Mapping[str, Any], key: str) -> int:
    value = content[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f'{key} must be a whole number')
    return value
