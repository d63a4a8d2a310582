"""Entry point of the executable `collision_objects`; the node is in collision_objects.py."""

from __future__ import annotations

import signal
import sys
from typing import Any, List, Optional

from kd6d_ros.ros.main import import_cure, start

USAGE = """\
usage: collision_objects --ros-args -r detections:=/pose_estimator/detections -p bundle:=<name or folder>

Publishes collision_object (moveit_msgs/CollisionObject) from detections (vision_msgs/Detection3DArray).
Parameters: ros2 param describe /collision_objects ttl_s, or the table in docs/grasping.md."""


def main(args: Optional[List[str]] = None) -> int:
    """Run the node until SIGINT or SIGTERM; exit code 2 with one line when it cannot start."""
    try:
        from rclpy.signals import SignalHandlerOptions
        from rclpy.utilities import try_shutdown

        from kd6d_ros.ros.collision_objects import CollisionObjectsNode
    except ImportError as error:
        print(f'collision_objects: {import_cure(error)}', file=sys.stderr)
        return 2

    def make_node() -> CollisionObjectsNode:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return CollisionObjectsNode()

    # rclpy's own handlers end the context before the last REMOVE could be sent.
    own_signals = {'signal_handler_options': SignalHandlerOptions.NO}
    node, code = start('collision_objects', USAGE, args, make_node, **own_signals)
    if node is None:
        return code
    try:
        _spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        # From now on a second signal must not interrupt the last words.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        node.finish()
        node.destroy_node()
        try_shutdown()
    return 0


def _spin(node: Any) -> None:
    """Until a signal; the wait is short because Python sees signals between two of them only."""
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while True:
        _step(executor, node)


def _step(executor: Any, node: Any) -> None:
    """What fails in a callback must not end the node."""
    try:
        executor.spin_once(timeout_sec=0.1)
    except Exception as error:
        node.get_logger().error(f'a callback failed and was skipped: {type(error).__name__}: {error}')


if __name__ == '__main__':
    sys.exit(main())
