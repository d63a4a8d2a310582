"""A lifecycle node that goes on answering while one of its transitions runs.

rclpy puts the services of lifecycle and of parameters into one group, of which one runs at a time: while a
bundle is being loaded, `ros2 param get` and `ros2 lifecycle get` would hang.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, List

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.node import Node


def failure_text(error: BaseException) -> str:
    return f'a callback failed and was skipped: {type(error).__name__}: {" ".join(str(error).split())[:200]}'


class AnsweringLifecycleNode(LifecycleNode):
    """LifecycleNode with its services in a group of their own; one transition at a time.

    `parameter_lock` is held while parameters are checked, stored and applied: who holds it sees all of a change
    or nothing of it.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        self.parameter_lock = threading.RLock()
        self._in_transition = threading.Lock()
        # As LifecycleNode does it, which does not pass the group on.
        Node.__init__(self, name, **kwargs)
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())

    def create_service(self, srv_type: Any, srv_name: str, callback: Callable[[Any, Any], Any], **kwargs: Any) -> Any:
        """As rclpy's, but a request that makes the callback fail gets an empty answer instead of none."""

        def answer(request: Any, response: Any) -> Any:
            try:
                return callback(request, response)
            except Exception as error:
                self.callback_failed(error)
                return srv_type.Response()

        return super().create_service(srv_type, srv_name, answer, **kwargs)

    def callback_failed(self, error: BaseException) -> None:
        """Say that what somebody sent or asked made a callback fail."""
        self.get_logger().error(failure_text(error))

    def set_parameters_atomically(self, parameter_list: List[Any]) -> Any:
        with self.parameter_lock:
            return super().set_parameters_atomically(parameter_list)

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:  # noqa: N802
        # rclpy raises out of the service for a transition that the state does not have, and the caller
        # waits for ever: answer 'no' instead.
        if not self._in_transition.acquire(blocking=False):
            return self._refuse(transition_id, 'another transition is running')
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)
        except Exception as error:
            return self._refuse(transition_id, error)
        finally:
            self._in_transition.release()

    def _refuse(self, transition_id: int, reason: Any) -> TransitionCallbackReturn:
        self.get_logger().warning(f'lifecycle transition {transition_id} refused: {reason}')
        return TransitionCallbackReturn.FAILURE
