"""A lifecycle node that goes on answering while one of its transitions runs.

rclpy puts the services of lifecycle and of parameters into one group, of which one runs at a time: while a
bundle is being loaded, `ros2 param get` and `ros2 lifecycle get` would hang.
"""

from __future__ import annotations

import threading
from typing import Any, List

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.node import Node


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
