"""Asking for poses: the action `~/get_pose` and the service `~/enable`.

A goal waits in the book without a thread of its own: whoever finds its answer (the worker with an image, or the timer
that looks for deadlines and cancellations) hands it to rclpy to be sent. Both servers live as long as the node, so
one that is not active says so instead of staying silent.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Mapping, Optional, Tuple

from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from std_srvs.srv import SetBool
from tf2_msgs.action import LookupTransform
from tf2_msgs.msg import TF2Error

from kd6d_ros.errors import Kd6dError, MissingDependencyError
from kd6d_ros.foreign_text import shown
from kd6d_ros.ros import qos
from kd6d_ros.ros.frames import FrameError, Frames, need_tf2
from kd6d_ros.ros.messages import transform_stamped
from kd6d_ros.ros.requests import LONGEST_S, MOST, PoseRequest, RequestBook, unknown_source

if TYPE_CHECKING:
    from kd6d_ros.types import ObjectModel

TICK_S = 0.02
"""How often deadlines and cancellations are looked for, while somebody waits."""
KEEP_S = 10
"""Seconds that a result can be asked for; rclpy would keep every one for 15 minutes."""


class Asking:
    """The on-demand side of one node. `streaming`: whether images are looked at that nobody asked for."""

    def __init__(self, node: Any, frames: Frames) -> None:
        self._node, self._frames = node, frames
        self.book = RequestBook()
        self.streaming = True
        self._camera_frame = ''
        self._models: Mapping[str, ObjectModel] = {}
        self._prefix = ''
        self._active = False
        self._lock = threading.RLock()
        group = ReentrantCallbackGroup()
        self._service = node.create_service(SetBool, '~/enable', self._enable, callback_group=group)
        self._server = ActionServer(
            node,
            LookupTransform,
            '~/get_pose',
            execute_callback=_not_started,
            callback_group=group,
            handle_accepted_callback=self._accepted,
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
            goal_service_qos_profile=qos.service_profile(),
            result_service_qos_profile=qos.service_profile(),
            result_timeout=KEEP_S,
        )
        # A group of its own: while a slow tick stops the timer, no second one may begin.
        self._timer = node.create_timer(
            TICK_S,
            self._tick,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self._timer.cancel()

    @property
    def wanted(self) -> bool:
        """Whether the next image should be looked at."""
        return self.streaming or self.book.waiting > 0

    def start(self, models: Mapping[str, ObjectModel], prefix: str, streaming: bool) -> None:
        """Take requests about these objects; `prefix` of their TF frames."""
        self.book.forget()
        self._models, self._prefix, self.streaming, self._camera_frame = models, prefix, streaming, ''
        self._active = True

    def stop(self) -> None:
        """Refuse those who wait, and all who come."""
        with self._lock:
            self._active = False
        for request in self.book.all():
            self._refuse(request, 'TRANSFORM_ERROR', 'the node was deactivated while the request waited')
        self.book.forget()

    def destroy(self) -> None:
        self.stop()
        self._node.destroy_timer(self._timer)
        self._server.destroy()
        self._node.destroy_service(self._service)

    def sight(self, stamp_ns: int, frame_id: str, poses: Any, rejections: Any) -> None:
        """What one image gave, from the worker's thread."""
        self._camera_frame = frame_id
        self.book.sight(stamp_ns, frame_id, poses, rejections)
        self._answer_all()

    def _enable(self, request: Any, response: Any) -> Any:
        if not self._active:
            response.success, response.message = False, self._inactive()
            return response
        self.streaming = bool(request.data)
        response.success = True
        response.message = 'streaming' if request.data else 'not streaming: only ~/get_pose looks at images'
        return response

    def _inactive(self) -> str:
        name = self._node.get_fully_qualified_name()
        return f'{name} is not active: ros2 lifecycle set {name} configure, then activate'

    def _accepted(self, handle: Any) -> None:
        goal = handle.request
        error = self._mistake(goal)
        with self._lock:
            if error is None and not self._active:
                error = ('TRANSFORM_ERROR', self._inactive())
            if error is None:
                name = self._plain(goal.source_frame)
                oldest = _nanoseconds(goal.source_time) or self._node.get_clock().now().nanoseconds
                if self.book.add(handle, name, goal.target_frame, oldest, _nanoseconds(goal.timeout) * 1e-9):
                    self._timer.reset()
                else:
                    error = ('TRANSFORM_ERROR', f'{MOST} requests wait already: ask again later')
        if error is not None:
            self._conclude(handle, _result(*error))
        else:
            self._answer_all()

    def _mistake(self, goal: Any) -> Optional[Tuple[str, str]]:
        """What is wrong with a goal: a constant of TF2Error and one sentence."""
        if not self._active:
            return 'TRANSFORM_ERROR', self._inactive()
        time = _mistaken_time(goal)
        if time:
            return 'INVALID_ARGUMENT_ERROR', time
        most = self._node.parameters.value('max_instances')
        unknown = unknown_source(self._plain(goal.source_frame), self._models, most)
        if unknown:
            return 'LOOKUP_ERROR', unknown
        camera = self._camera_frame
        if camera and goal.target_frame not in ('', camera):
            try:
                need_tf2(f'target_frame {shown(goal.target_frame)} is not the camera frame {shown(camera)}, which')
            except MissingDependencyError as error:
                return 'LOOKUP_ERROR', str(error)
        return None

    def _plain(self, source: str) -> str:
        """A source without the prefix of our TF frames."""
        mine = self._prefix and source.startswith(self._prefix) and source not in self._models
        return source[len(self._prefix) :] if mine else source

    def _tick(self) -> None:
        self._answer_all()
        with self._lock:
            if not self.book.waiting:
                self._timer.cancel()

    def _answer_all(self) -> None:
        for request in self.book.all():
            if request.client.is_cancel_requested:
                self._refuse(request, 'TRANSFORM_ERROR', 'cancelled by the client')
                continue
            result = self._answer(request)
            if result is None and self.book.is_overdue(request):
                self._refuse(request, *request.overdue())
            elif result is not None and self.book.take(request):
                self._conclude(request.client, result)

    def _answer(self, request: PoseRequest) -> Optional[Any]:
        """The result when there is one already."""
        found = request.found
        if found is None:
            return None
        target = request.target or found.frame_id
        try:
            target_from_cam = self._frames.lookup(target, found.frame_id, found.stamp_ns)
        except FrameError as error:
            # The transform of this time may come later, and so may a newer image.
            request.error = (error.kind, str(error))
            return None
        except Kd6dError as error:
            return _result('LOOKUP_ERROR', str(error))
        result = _result('NO_ERROR', '')
        pose = target_from_cam @ found.pose.cam_from_obj
        result.transform = transform_stamped(found.stamp_ns, target, self._prefix + found.pose.instance_id, pose)
        return result

    def _refuse(self, request: PoseRequest, kind: str, text: str) -> None:
        if self.book.take(request):
            self._conclude(request.client, _result(kind, text))

    def _conclude(self, handle: Any, result: Any) -> None:
        """Send a result; the goal is finished as what its error says, or as cancelled."""

        def finish(goal: Any) -> Any:
            if goal.is_cancel_requested:
                goal.canceled()
            elif result.error.error == TF2Error.NO_ERROR:
                goal.succeed()
            else:
                goal.abort()
            return result

        if not self._node.context.ok() or self._node.executor is None:
            return
        try:
            handle.execute(finish)
        except Exception:
            # Cancelled between two steps of rclpy; it now knows, and does not try to start the goal any more.
            handle.execute(finish)


def _not_started(handle: Any) -> Any:
    """rclpy wants a default; every goal brings its own."""
    handle.abort()
    return _result('TRANSFORM_ERROR', 'the request was not started')


def _result(kind: str, text: str) -> Any:
    result = LookupTransform.Result()
    result.error.error = getattr(TF2Error, kind)
    result.error.error_string = text
    return result


def _mistaken_time(goal: Any) -> str:
    """What is wrong with the times of a goal, or an empty text."""
    if goal.advanced:
        return 'advanced lookups (target_time, fixed_frame) are not supported: leave them out'
    if _nanoseconds(goal.timeout) < 0 or _nanoseconds(goal.source_time) < 0:
        return 'timeout and source_time must not be negative'
    return '' if goal.timeout.sec < LONGEST_S else f'timeout must be less than {LONGEST_S} s'


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)
