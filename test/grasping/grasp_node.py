"""The real node in a process of its own, and a client that shows it an image and takes the pose of that image only."""

from __future__ import annotations

import array
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.benchmark.processes import ChildProcess, isolated_environment, python_module
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.types import Camera, ImageArray

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / 'config' / 'fastdds_localhost.xml'
FRAME = 'wrist_camera_optical_frame'
NAME = '/pose_estimator'
START_S = 120.0
ANSWER_S, ASK_AGAIN = 4.0, 5
"""An image that was not answered by then was dropped (the machine is busy): it is taken again, so many times."""


class NoAnswerError(RuntimeError):
    """The node said nothing about an image, though it was shown again and again."""


class NodeClient:
    """Starts the node and talks to it over DDS on this host. Use as a context."""

    def __init__(self, bundle: Path, logs: Path) -> None:
        """
        Raises:
            ConfigError: the node does not start or refuses the bundle; names its log.
        """
        import rclpy
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import CameraInfo, Image
        from vision_msgs.msg import Detection3DArray

        from kd6d_ros.ros.bring_up import bring_up

        environment = isolated_environment(os.environ, PROFILE)
        environment['PYTHONPATH'] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
        # This process must be in the same corner of DDS, until the end.
        self._before = dict(os.environ)
        os.environ.update(environment)
        logs.mkdir(parents=True, exist_ok=True)
        # The camera jumps from view to view: there is nothing to track.
        arguments = ('-p', f'bundle:={bundle}', '-p', 'track:=false', '-p', 'publish_tf:=false')
        topics = ('-r', 'image:=/wrist/image', '-r', 'camera_info:=/wrist/camera_info')
        command = python_module('kd6d_ros.ros.main', '--ros-args', *arguments, *topics)
        self._process = ChildProcess('node', command, environment, logs / 'node.log')
        self._rclpy, self._image_type, self._info_type = rclpy, Image, CameraInfo
        try:
            rclpy.init()
            self._node = rclpy.create_node('grasping')
            bring_up(self._node, NAME, START_S)
            self._got: dict[tuple[int, int], Detection3DArray] = {}
            self._images = self._node.create_publisher(Image, '/wrist/image', 1)
            self._infos = self._node.create_publisher(CameraInfo, '/wrist/camera_info', 1)
            self._node.create_subscription(Detection3DArray, f'{NAME}/detections', self._take, QoSProfile(depth=10))
            self._wait(lambda: self._images.get_subscription_count() and self._infos.get_subscription_count(), START_S)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._rclpy.try_shutdown()
        self._process.stop()
        os.environ.clear()
        os.environ.update(self._before)

    def poses(self, image: ImageArray, camera: Camera, name: str) -> list[tuple[RigidTransform, np.ndarray]]:
        """cam_from_obj and covariance (6, 6) of every instance of an object that the node sees in this image.

        Raises:
            NoAnswerError: no answer that bears the stamp of an image.
            RuntimeError: a pose without a covariance.
        """
        for _ in range(ASK_AGAIN):
            stamp = self._show(image, camera)
            if self._wait(lambda stamp=stamp: stamp in self._got, ANSWER_S):
                return [_pose(item) for item in self._got.pop(stamp).detections if _is(item, name)]
        raise NoAnswerError(f'the node answered none of {ASK_AGAIN} images: see {self._process.log}')

    def _show(self, image: ImageArray, camera: Camera) -> tuple[int, int]:
        now = time.time_ns()
        stamp = (now // 10**9, now % 10**9)
        info = self._info_type(height=camera.height, width=camera.width, distortion_model='plumb_bob', d=[0.0] * 5)
        info.k = camera.matrix.reshape(9)
        picture = self._image_type(height=camera.height, width=camera.width, encoding='rgb8', step=3 * camera.width)
        picture.data = array.array('B', image.tobytes())
        for message in (info, picture):
            message.header.frame_id = FRAME
            message.header.stamp.sec, message.header.stamp.nanosec = stamp
        self._infos.publish(info)
        self._images.publish(picture)
        return stamp

    def _take(self, message: object) -> None:
        stamp = message.header.stamp
        self._got[stamp.sec, stamp.nanosec] = message

    def _wait(self, condition: object, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self._rclpy.spin_once(self._node, timeout_sec=0.02)
        return True


def _is(detection: object, name: str) -> bool:
    return bool(detection.results) and detection.results[0].hypothesis.class_id == name


def _pose(detection: object) -> tuple[RigidTransform, np.ndarray]:
    found = detection.results[0].pose
    place, turn = found.pose.position, found.pose.orientation
    covariance = np.array(found.covariance).reshape(6, 6)
    if not covariance.any():
        raise RuntimeError('the bundle has no covariance: calibrate it with kd6d calibrate')
    rotation = rotation_from_xyzw(np.array([turn.x, turn.y, turn.z, turn.w]))
    return RigidTransform(rotation, np.array([place.x, place.y, place.z])), covariance
