"""Entry point of the executable `pose_estimator`."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, List, Optional, Tuple

from kd6d_ros.errors import Kd6dError
from kd6d_ros.ros.factory import Factory, load_estimator

THREADS = 5
"""Executor threads: inputs, parameters, a transition, questions meanwhile, diagnostics. The engine has its own."""

USAGE = """\
usage: pose_estimator --ros-args -p bundle:=<name or folder> -r image:=<topic> -r camera_info:=<topic>

Lifecycle node that publishes 6D poses of known objects. Easier: ros2 launch kd6d_ros pose.launch.py --show-args
All parameters with their meaning: config/pose.yaml."""


def main(args: Optional[List[str]] = None, factory: Factory = load_estimator) -> int:
    """Run the node until it is interrupted; exit code 2 with one line when it cannot start."""
    try:
        import rclpy
        from rclpy.executors import ExternalShutdownException
        from rclpy.utilities import try_shutdown

        from kd6d_ros.ros.executor import OnceExecutor
        from kd6d_ros.ros.node import PoseEstimatorNode
    except ImportError as error:
        print(f'pose_estimator: {import_cure(error)}', file=sys.stderr)
        return 2
    node, code = start('pose_estimator', USAGE, args, lambda: PoseEstimatorNode(factory=factory))
    if node is None:
        return code
    executor = OnceExecutor(THREADS, node.callback_failed)
    executor.add_node(node)
    try:
        while rclpy.ok():
            _spin(executor, node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        try_shutdown()
    if not node.ended:
        # A library still builds an engine in the worker's thread, and would crash when it is unloaded under it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _spin(executor: Any, node: Any) -> None:
    """Spin until the end; what fails between two callbacks must not end the node either."""
    from rclpy.executors import ExternalShutdownException

    try:
        executor.spin()
    except ExternalShutdownException:
        raise
    except Exception as error:
        node.callback_failed(error)


def start(
    program: str, usage: str, args: Optional[List[str]], make_node: Callable[[], Any], **options: Any
) -> Tuple[Optional[Any], int]:
    """rclpy with its `options`, and a node in it; or None and the exit code, where there is nothing to run."""
    import rclpy
    from rclpy.utilities import remove_ros_args, try_shutdown

    try:
        rest = remove_ros_args(sys.argv if args is None else [program, *args])[1:]
        if rest:
            return None, answer(program, usage, rest)
        rclpy.init(args=args, **options)
        return make_node(), 0
    except KeyboardInterrupt:
        code = 0
    except (Kd6dError, RuntimeError, ValueError) as error:
        print(f'{program}: cannot start: {first_line(error)}', file=sys.stderr)
        code = 2
    try_shutdown()
    return None, code


def answer(program: str, usage: str, arguments: List[str]) -> int:
    """Help, or one line about arguments that mean nothing here; the exit code."""
    if arguments[0] in ('-h', '--help'):
        print(usage)
        return 0
    print(f'{program}: unknown argument {arguments[0]!r}: only --ros-args and what follows it', file=sys.stderr)
    return 2


def first_line(error: Exception) -> str:
    """What is wrong with a start: a parameter file that is not YAML, a name that ROS refuses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def import_cure(error: ImportError) -> str:
    """What to install or to source."""
    missing = (error.name or '').split('.')[0]
    if missing == 'rclpy':
        return 'rclpy is not installed: source a ROS 2 installation (source /opt/ros/<distro>/setup.bash)'
    if missing.endswith('_msgs'):
        return f'{missing} is not installed: sudo apt install ros-$ROS_DISTRO-{missing.replace("_", "-")}'
    return f'{error}: run rosdep install --from-paths src -y'


if __name__ == '__main__':
    sys.exit(main())
