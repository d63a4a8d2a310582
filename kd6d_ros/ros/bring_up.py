"""Brings a lifecycle node to active through its services, from another process."""

from __future__ import annotations

import time
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from kd6d_ros.errors import ConfigError

STEPS = (('configure', Transition.TRANSITION_CONFIGURE), ('activate', Transition.TRANSITION_ACTIVATE))
ASK_AGAIN_S = 1.0
"""A question about the state that was not answered by then is asked again."""


def bring_up(node: Any, target: str, timeout_s: float) -> float:
    """Configure and activate the node called `target` ('/pose_estimator'); return the seconds it took.

    Raises:
        ConfigError: the node does not appear or answer in time, or refuses a transition.
    """
    started = time.monotonic()
    change = node.create_client(ChangeState, f'{target}/change_state')
    # Made after the other one, so known there after the other one: see _wait_until_known.
    state = node.create_client(GetState, f'{target}/get_state')
    try:
        for client in (change, state):
            if not client.wait_for_service(timeout_sec=timeout_s):
                raise ConfigError(f'{target}: did not appear within {timeout_s:g} s; see its log')
        _wait_until_known(node, state, target, timeout_s)
        for name, transition in STEPS:
            _change(node, change, target, (name, transition), timeout_s)
    finally:
        node.destroy_client(change)
        node.destroy_client(state)
    return time.monotonic() - started


def _wait_until_known(node: Any, client: Any, target: str, timeout_s: float) -> None:
    """Return when the answers of the node reach this process.

    A service can be called before its server knows where the answer goes, and then the answer is lost for
    ever. A question may be asked twice, a transition may not.
    """
    import rclpy

    asked = []
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        asked.append(client.call_async(GetState.Request()))
        rclpy.spin_until_future_complete(node, asked[-1], timeout_sec=min(ASK_AGAIN_S, timeout_s))
        if any(future.done() for future in asked):
            return
    raise ConfigError(f'{target}: did not answer within {timeout_s:g} s; see its log')


def _change(node: Any, client: Any, target: str, step: Any, timeout_s: float) -> None:
    import rclpy

    name, transition = step
    future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    rclpy.spin_until_future_complete(node, future, timeout_sec=timeout_s)
    if not future.done():
        raise ConfigError(f'{target}: did not answer {name} within {timeout_s:g} s; see its log')
    if not future.result().success:
        raise ConfigError(f'{target}: refused to {name}; its log says why')
