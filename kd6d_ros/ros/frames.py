"""Transforms between frames at the time of an image, from tf2_ros where it is installed.

tf2_ros is optional: everything in the camera's own frame works without it. Its listener costs time on a robot with a
busy /tf, so it only exists from the moment that another frame is asked for.
"""

from __future__ import annotations

import threading
from time import monotonic, sleep
from typing import Any, Callable, Optional

import numpy as np

from kd6d_ros.errors import Kd6dError, MissingDependencyError
from kd6d_ros.foreign_text import shown
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.inference.workspace import Workspace
from kd6d_ros.ros.params import workspace_bounds
from kd6d_ros.types import RigidTransform

INSTALL = 'sudo apt install ros-$ROS_DISTRO-tf2-ros-py'
WAIT_S = 0.05
"""Longest wait for the transform that belongs to an image: /tf arrives a little later than the image."""


class FrameError(Kd6dError):
    """No transform at that time; `kind` is the name of the constant of tf2_msgs/TF2Error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def need_tf2(what: str) -> Any:
    """The module tf2_ros.

    Raises:
        MissingDependencyError: it is not installed; `what` needs it.
    """
    try:
        import tf2_ros
    except ImportError as error:
        raise MissingDependencyError(f'{what} needs tf2_ros, which does not load ({error}): {INSTALL}') from error
    return tf2_ros


class Frames:
    """The transforms of one node; thread-safe."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._buffer: Optional[Any] = None
        self._listener: Optional[Any] = None

    def open(self, what: str) -> Any:
        """Listen to /tf from now on; the buffer.

        Raises:
            MissingDependencyError: see ``need_tf2``.
        """
        with self._lock:
            if self._buffer is None:
                tf2 = need_tf2(what)
                self._buffer = tf2.Buffer()
                self._listener = tf2.TransformListener(self._buffer, self._node, spin_thread=False)
            return self._buffer

    def close(self) -> None:
        with self._lock:
            if self._listener is not None and self._node.context.ok():
                self._listener.unregister()
            self._buffer = self._listener = None

    def lookup(self, target: str, source: str, stamp_ns: int, wait_s: float = 0.0) -> RigidTransform:
        """``target_from_source`` at a time; waits up to `wait_s` [s] for it, so never in a thread of the executor.

        Raises:
            FrameError: tf2 does not know it.
            MissingDependencyError: tf2_ros is not installed.
        """
        if target == source:
            return RigidTransform.identity()
        buffer = self.open(f'frame {shown(target)}')
        end = monotonic() + wait_s
        while True:
            try:
                return self._once(buffer, target, source, stamp_ns)
            except FrameError:
                if monotonic() >= end:
                    raise
            sleep(0.002)

    @staticmethod
    def _once(buffer: Any, target: str, source: str, stamp_ns: int) -> RigidTransform:
        import tf2_ros
        from rclpy.time import Time

        kinds = (
            (tf2_ros.LookupException, 'LOOKUP_ERROR'),
            (tf2_ros.ConnectivityException, 'CONNECTIVITY_ERROR'),
            (tf2_ros.ExtrapolationException, 'EXTRAPOLATION_ERROR'),
        )
        try:
            found = buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns)).transform
        except tf2_ros.TransformException as error:
            kind = next((name for base, name in kinds if isinstance(error, base)), 'TRANSFORM_ERROR')
            text = ' '.join(str(error).split())
            raise FrameError(kind, f'no transform from {source} to {target} at the image stamp: {text}') from error
        turn, shift = found.rotation, found.translation
        rotation = rotation_from_xyzw(np.array([turn.x, turn.y, turn.z, turn.w]))
        return RigidTransform(rotation, np.array([shift.x, shift.y, shift.z]))


class WorkspaceBox:
    """Gives each image the workspace as its camera sees it."""

    def __init__(self, frame: str, value: Callable[[str], Any], frames: Frames) -> None:
        """`frame`: of the box, empty for the camera's own; `value`: of a parameter, since the box may change."""
        self._frame, self._value, self._frames = frame, value, frames

    def __call__(self, camera_frame: str, stamp_ns: int) -> Optional[Workspace]:
        """
        Raises:
            FrameError: nobody knows where the camera was, so nothing may be published.
        """
        bounds = workspace_bounds({name: self._value(name) for name in ('workspace_min', 'workspace_max')})
        if bounds is None:
            return None
        where = RigidTransform.identity()
        if self._frame:
            where = self._frames.lookup(self._frame, camera_frame, stamp_ns, WAIT_S)
        return Workspace(bounds[0], bounds[1], where)
