"""Everything that can be asked of a node, and whether each call is answered.

    python test/bench/service_calls.py --log FILE [--node /pose_estimator] --object NAME

asks it over and over, ten times a second, until SIGINT; the log has one JSON line per call with the seconds that it
took, or null.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable

ASK_S = 5.0
"""A call that was not answered by then is lost."""
PERIOD_S = 0.1


class Caller:
    """Clients for everything that can be asked of a node by its full name; `spin` lets messages come in."""

    def __init__(self, node: Any, target: str, spin: Callable[[float], None]) -> None:
        from lifecycle_msgs.srv import ChangeState, GetState
        from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
        from rclpy.action import ActionClient
        from std_srvs.srv import SetBool
        from tf2_msgs.action import LookupTransform

        self._spin = spin
        kinds = {
            'change_state': ChangeState,
            'describe_parameters': DescribeParameters,
            'enable': SetBool,
            'get_parameters': GetParameters,
            'list_parameters': ListParameters,
            'set_parameters': SetParameters,
            'get_state': GetState,
        }
        self.kinds = kinds
        self._clients = {name: node.create_client(kind, f'{target}/{name}') for name, kind in kinds.items()}
        self.lookup = LookupTransform
        self._action = ActionClient(node, LookupTransform, f'{target}/get_pose')
        self.asked = self.lost = 0
        self.transforms: list[Any] = []
        """Transforms that were given as an answer."""

    def wait(self, seconds: float) -> None:
        """Return when the node answers each of them: it then knows where its answers go. None of this counts.

        Raises:
            TimeoutError: it does not within `seconds`.
        """
        end = time.monotonic() + seconds
        waiting = [name for name in self.kinds if name not in ('change_state', 'set_parameters')]
        while waiting or self._goal_lost():
            for name in list(waiting):
                if self._answered(name, self.kinds[name].Request(), 1.0) is not None:
                    waiting.remove(name)
            if time.monotonic() > end:
                raise TimeoutError(f'no answer within {seconds:g} s: {", ".join(waiting) or "get_pose"}')

    def _goal_lost(self) -> bool:
        handle = self._result(self._action.send_goal_async(self.lookup.Goal()), 1.0)
        return not handle or self._result(handle.get_result_async(), 1.0) is None

    def call(self, name: str, request: Any, patience_s: float = ASK_S) -> Any:
        """Response, or None when none came, which is counted."""
        self.asked += 1
        response = self._answered(name, request, patience_s)
        self.lost += response is None
        return response

    def _answered(self, name: str, request: Any, seconds: float) -> Any:
        return self._result(self._clients[name].call_async(request), seconds)

    def _result(self, future: Any, seconds: float) -> Any:
        end = time.monotonic() + seconds
        while not future.done() and time.monotonic() < end:
            self._spin(0.005)
        return future.result() if future.done() else None

    def get_pose(self, goal: Any, patience_s: float) -> str:
        """The sentence that refuses a goal, or '' for a transform or a lost answer."""
        self.asked += 1
        handle = self._result(self._action.send_goal_async(goal), ASK_S)
        found = handle and self._result(handle.get_result_async(), patience_s + ASK_S)
        if not found:
            self.lost += 1
            return ''
        if found.result.error.error == 0:
            self.transforms.append(found.result.transform)
        return str(found.result.error.error_string)


def _ask(caller: Caller, number: int, source: str) -> str:
    """One call, of each kind in turn; its name."""
    kinds = caller.kinds
    calls: dict[str, Callable[[], Any]] = {
        'get_parameters': lambda: caller.call('get_parameters', kinds['get_parameters'].Request(names=['bundle'])),
        'get_state': lambda: caller.call('get_state', kinds['get_state'].Request()),
        'enable': lambda: caller.call('enable', kinds['enable'].Request(data=True)),
        'list_parameters': lambda: caller.call('list_parameters', kinds['list_parameters'].Request()),
        'get_pose': lambda: caller.get_pose(_goal(caller, source), 1.0),
    }
    name = list(calls)[number % len(calls)]
    calls[name]()
    return name


def _goal(caller: Caller, source: str) -> Any:
    goal = caller.lookup.Goal(source_frame=source)
    goal.timeout.sec = 1
    return goal


def main() -> int:
    parser = argparse.ArgumentParser(description='Ask a node over and over.')
    parser.add_argument('--log', type=Path, required=True)
    parser.add_argument('--node', default='/pose_estimator')
    parser.add_argument('--object', required=True)
    options = parser.parse_args()
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopping.append(received))
    node = rclpy.create_node('caller')

    def spin(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=max(0.0, end - time.monotonic()))

    caller = Caller(node, options.node, spin)
    caller.wait(60.0)
    print('ready', flush=True)
    with options.log.open('w', encoding='utf-8') as log:
        asked = 0
        while not stopping:
            started, lost = time.monotonic(), caller.lost
            name = _ask(caller, asked, options.object)
            took = time.monotonic() - started
            log.write(json.dumps({'call': name, 'took_s': took if caller.lost == lost else None}) + '\n')
            asked += 1
            spin(max(0.0, PERIOD_S - took))
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
