"""The node under attack: its process, and a peer that plays camera, detector, consumer and operator."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from hostile_calls import NonsenseCaller

from kd6d_ros.benchmark.processes import ChildProcess, isolated_environment, memory_mb, python_module

TARGET = '/pose_estimator'
TOPICS = {'image': '/camera/image', 'camera_info': '/camera/info', 'detections_in': '/camera/boxes'}
BRING_UP_S = 60.0


class Robot:
    """A running node with its peer, in a DDS domain of their own; use it as a context manager."""

    def __init__(self, bundle: Path, object_name: str, logs: Path, profile: Path) -> None:
        self._logs, self._profile, self._bundle = logs, profile, bundle
        self.child_frame = f'{object_name}_0'
        self._object = object_name
        self.got: dict[str, list[Any]] = {'detections': [], 'pose': [], 'tf': []}
        self.said: set[str] = set()
        """Every text that was in /diagnostics."""
        self.memory: list[float] = []

    def __enter__(self) -> Robot:
        self._before = dict(os.environ)
        os.environ.update(isolated_environment(os.environ, self._profile))
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self._logs.mkdir(parents=True, exist_ok=True)
        arguments = ['--ros-args', '-p', f'bundle:={self._bundle}']
        for name, topic in TOPICS.items():
            arguments += ['-r', f'{name}:={topic}']
        command = python_module('kd6d_ros.ros.main', *arguments)
        self.process = ChildProcess('node', command, os.environ, self._logs / 'node.log')
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=int(os.environ['ROS_DOMAIN_ID']))
        self.node = rclpy.create_node('hostile', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._open()
        return self

    def __exit__(self, *error: object) -> None:
        import rclpy

        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        self.process.stop()
        os.environ.clear()
        os.environ.update(self._before)

    def _open(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image
        from tf2_msgs.msg import TFMessage
        from vision_msgs.msg import Detection2DArray, Detection3DArray

        deep = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        make = self.node.create_publisher
        self.publishers = {
            'image': make(Image, TOPICS['image'], deep),
            'compressed': make(CompressedImage, TOPICS['image'] + '/compressed', deep),
            'info': make(CameraInfo, TOPICS['camera_info'], deep),
            'boxes': make(Detection2DArray, TOPICS['detections_in'], deep),
            'tf': make(TFMessage, '/tf', deep),
            'clock': make(Clock, '/clock', deep),
        }
        listen = self.node.create_subscription
        listen(Detection3DArray, f'{TARGET}/detections', self.got['detections'].append, deep)
        listen(PoseStamped, f'{TARGET}/poses/{self._object}', self.got['pose'].append, deep)
        listen(TFMessage, '/tf', self._on_tf, deep)
        listen(DiagnosticArray, '/diagnostics', self._on_diagnostics, deep)
        self.calls = NonsenseCaller(self.node, TARGET, self.spin)

    def _on_tf(self, message: Any) -> None:
        mine = [item for item in message.transforms if item.header.frame_id != 'foreign']
        self.got['tf'] += [item for item in mine if item.child_frame_id == self.child_frame]

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            # The rejections are counts: their names say what they are about.
            self.said.update(item.value for item in status.values if item.key.startswith('problem'))
            self.said.update(item.key for item in status.values if item.key.startswith('rejected'))

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self._executor.spin_once(timeout_sec=max(0.0, min(0.02, end - time.monotonic())))
            if time.monotonic() >= end:
                return

    def send(self, role: str, message: Any, pace_s: float) -> None:
        """Publish a message, or the bytes of one, and take in what comes meanwhile."""
        self.publishers[role].publish(message)
        self.spin(pace_s)
        now = memory_mb(self.process.pid)
        if now is not None:
            self.memory.append(now)

    def names(self, text: str) -> bool:
        """Whether /diagnostics has said something that matches one of these texts, divided by |."""
        return any(re.search(part, said) for part in map(re.escape, text.split('|')) for said in self.said)

    def reconfigure(self, **values: Any) -> None:
        """To active with these parameters, from whatever state."""
        from lifecycle_msgs.msg import Transition
        from rclpy.parameter import Parameter

        state = self.calls.call('get_state', self.calls.kinds['get_state'].Request()).current_state.label
        steps = {'active': ['deactivate', 'cleanup'], 'inactive': ['cleanup'], 'unconfigured': []}[state]
        for label in steps:
            self._change(getattr(Transition, f'TRANSITION_{label.upper()}'))
        request = self.calls.kinds['set_parameters'].Request()
        request.parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        results = self.calls.call('set_parameters', request).results
        assert all(item.successful for item in results), results
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            self._change(transition)

    def _change(self, transition: int) -> None:
        request = self.calls.kinds['change_state'].Request()
        request.transition.id = transition
        response = self.calls.call('change_state', request, BRING_UP_S)
        assert response is not None, f'transition {transition}: no answer'
        assert response.success, f'transition {transition} was refused'


def stamp_of(item: Any) -> tuple[int, int]:
    """Stamp of a message as (sec, nanosec)."""
    return item.header.stamp.sec, item.header.stamp.nanosec


def log_lines(log: Path, *words: str) -> list[str]:
    """Lines of a log that hold one of these words."""
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    return [line for line in lines if any(word in line for word in words)]
