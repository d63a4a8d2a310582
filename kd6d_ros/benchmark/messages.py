"""The message types of our bags for the rosbags library, without ROS.

vision_msgs is not among the types rosbags knows, so the few definitions needed are kept here, written from
the field lists of vision_msgs 4 (the same in Humble and Jazzy; comments do not enter the type hash).
"""

from __future__ import annotations

import functools
from typing import Any

from kd6d_ros.errors import MissingDependencyError

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
DETECTIONS_3D = 'vision_msgs/msg/Detection3DArray'
POSE_STAMPED = 'geometry_msgs/msg/PoseStamped'
TF = 'tf2_msgs/msg/TFMessage'

VISION_MSGS = {
    'vision_msgs/msg/ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'vision_msgs/msg/ObjectHypothesisWithPose': (
        'vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n'
    ),
    'vision_msgs/msg/BoundingBox3D': 'geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n',
    'vision_msgs/msg/Detection3D': (
        'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
        'vision_msgs/BoundingBox3D bbox\nstring id\n'
    ),
    DETECTIONS_3D: 'std_msgs/Header header\nvision_msgs/Detection3D[] detections\n',
}
"""Message name -> definition."""


@functools.lru_cache(maxsize=1)
def type_store() -> Any:
    """A rosbags type store with the ROS 2 Humble types and vision_msgs.

    Raises:
        MissingDependencyError: rosbags is not installed.
    """
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError:
        raise MissingDependencyError(
            "the Python package 'rosbags' is missing; install it with: pip install '.[bench]' "
            '(on a robot: pip install --user -c config/constraints-<distro>.txt rosbags)'
        ) from None
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, definition in VISION_MSGS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def stamp_to_ns(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
