"""Notes what a pose_estimator publishes and when it arrives: the other end of the benchmark.

    python -m kd6d_ros.ros.recorder --log FILE [--node /pose_estimator] [--bring-up SECONDS]

Writes JSON lines (kind, stamp_ns, received_s on the monotonic clock of this host, and what was received);
prints one JSON line on standard output as soon as it listens. Ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, TextIO

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from kd6d_ros.benchmark.messages import stamp_to_ns
from kd6d_ros.errors import ConfigError, Kd6dError
from kd6d_ros.ros.bag_player import open_log
from kd6d_ros.ros.bring_up import bring_up

DEEP = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""The recorder must not lose what the node published while it is busy writing."""


class Recorder:
    """Subscribes to everything that `target` says about images and writes it to `log`."""

    def __init__(self, node: Any, target: str, log: TextIO) -> None:
        self._node, self._target, self._log = node, target, log
        self._pose_topics: Dict[str, Any] = {}
        make = node.create_subscription
        self.detections = make(Detection3DArray, f'{target}/detections', self._on_detections, DEEP)
        make(DiagnosticArray, f'{target}/timing', self._on_timing, DEEP)
        make(TFMessage, '/tf', self._on_tf, DEEP)
        make(DiagnosticArray, '/diagnostics', self._on_diagnostics, DEEP)

    def follow_poses(self) -> None:
        """Subscribe to the PoseStamped topics that exist by now."""
        prefix = f'{self._target}/poses/'
        for topic, types in self._node.get_topic_names_and_types():
            if topic.startswith(prefix) and topic not in self._pose_topics and 'geometry_msgs/msg/PoseStamped' in types:
                name = topic[len(prefix) :]
                self._pose_topics[topic] = self._node.create_subscription(
                    PoseStamped, topic, lambda message, name=name: self._on_pose(name, message), DEEP
                )

    def wait_until_matched(self, timeout_s: float) -> None:
        """Return when the node's detections reach this process.

        Raises:
            ConfigError: not within `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        while self._node.count_publishers(f'{self._target}/detections') < 1:
            if time.monotonic() > end:
                raise ConfigError(f'{self._target}: publishes no detections after {timeout_s:g} s; is it active?')
            time.sleep(0.02)

    def _write(self, kind: str, **fields: Any) -> None:
        self._log.write(json.dumps({'kind': kind, **fields}) + '\n')

    def _on_detections(self, message: Any) -> None:
        received_s = time.monotonic()
        poses = []
        for detection in message.detections:
            result = detection.results[0]
            poses.append(
                {
                    'object': result.hypothesis.class_id,
                    'id': detection.id,
                    'score': result.hypothesis.score,
                    'pose': _pose_values(result.pose.pose),
                    'covariance': _covariance(result.pose.covariance),
                }
            )
        stamp_ns = stamp_to_ns(message.header.stamp)
        self._write('detections', stamp_ns=stamp_ns, received_s=received_s, poses=poses)

    def _on_pose(self, name: str, message: Any) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        self._write('pose', stamp_ns=stamp_ns, received_s=time.monotonic(), object=name)

    def _on_tf(self, message: Any) -> None:
        received_s = time.monotonic()
        for item in message.transforms:
            stamp_ns = stamp_to_ns(item.header.stamp)
            self._write('tf', stamp_ns=stamp_ns, received_s=received_s, child=item.child_frame_id)

    def _on_timing(self, message: Any) -> None:
        # The first status is about this image, the other one about the last images together.
        stages = {value.key: value.value for value in message.status[0].values} if message.status else {}
        self._write('timing', stamp_ns=stamp_to_ns(message.header.stamp), stages=stages)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            level = int.from_bytes(status.level, 'little') if isinstance(status.level, bytes) else status.level
            self._write('diagnostics', name=status.name, level=level, message=status.message, values=values)


def _pose_values(pose: Any) -> List[float]:
    """x y z [m], then the quaternion x y z w."""
    p, q = pose.position, pose.orientation
    return [p.x, p.y, p.z, q.x, q.y, q.z, q.w]


def _covariance(values: Any) -> Optional[List[float]]:
    """36 numbers, None where the node knows none (all zeros)."""
    numbers = [float(value) for value in values]
    return numbers if any(numbers) else None


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='recorder', description='Note what a pose_estimator publishes.')
    parser.add_argument('--log', type=Path, required=True, help='JSON lines go here')
    parser.add_argument('--node', default='/pose_estimator', help='full name of the node to follow')
    parser.add_argument(
        '--bring-up', type=float, default=None, metavar='SECONDS', help='configure and activate the node first'
    )
    parser.add_argument('--timeout', type=float, default=30.0, help='longest wait for its topics [s]')
    return parser


def main(args: Optional[List[str]] = None) -> int:
    """Record until a signal comes; exit code 2 with one line when there is nothing to record."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from rclpy.utilities import remove_ros_args

    raw_args = sys.argv if args is None else ['recorder', *args]
    options = build_parser().parse_args(remove_ros_args(raw_args)[1:])
    rclpy.init(args=raw_args, signal_handler_options=SignalHandlerOptions.NO)
    stopping: List[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopping.append(received))
    node = rclpy.create_node('kd6d_recorder')
    try:
        with open_log(options.log) as log:
            recorder = Recorder(node, options.node, log)
            seconds = None if options.bring_up is None else bring_up(node, options.node, options.bring_up)
            recorder.wait_until_matched(options.timeout)
            recorder.follow_poses()
            print(json.dumps({'ready': True, 'bring_up_s': seconds}), flush=True)
            while not stopping:
                rclpy.spin_once(node, timeout_sec=0.1)
    except Kd6dError as error:
        print(f'recorder: {error}', file=sys.stderr)
        return 2
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
