"""Brings a lifecycle node to active through its services, from another process."""

from __future__ import annotations

import time
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from kd6d_ros.errors import ConfigError

STEPS = (('configure', Transition.TRANSITION_CONFIGURE), ('activate', Transition.TRANSITION_ACTIVATE))


def bring_up(node: Any, target: str, timeout_s: float) -> float:
    """Configure and activate the node called `target` ('/pose_estimator'); return the seconds it took.

    Raises:
        ConfigError: the node does not appear or answer in time, or refuses a transition.
    """
    started = time.monotonic()
    client = node.create_client(ChangeState, f'{target}/change_state')
    try:
        if not client.wait_for_service(timeout_sec=timeout_s):
            raise ConfigError(f'{target}: did not appear within {timeout_s:g} s; see its log')
        for name, transition in STEPS:
            _change(node, client, target, (name, transition), timeout_s)
    finally:
        node.destroy_client(client)
    return time.monotonic() - started


def _change(node: Any, client: Any, target: str, step: Any, timeout_s: float) -> None:
    import rclpy

    name, transition = step
    future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    rclpy.spin_until_future_complete(node, future, timeout_sec=timeout_s)
    if not future.done():
        raise ConfigError(f'{target}: did not answer {name} within {timeout_s:g} s; see its log')
    if not future.result().success:
        raise ConfigError(f'{target}: refused to {name}; its log says why')
