"""What goes wrong around the node: names used twice, a clock that stands still, a bundle that is gone, foreign TF.

Looked at once per second with the diagnostics, on a steady clock.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Set, Tuple
from typing import Counter as CounterType

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from tf2_msgs.msg import TFMessage

from kd6d_ros.ros import qos
from kd6d_ros.ros.diagnostics import WARN
from kd6d_ros.ros.pipeline import stamp_ns

if TYPE_CHECKING:
    from kd6d_ros.ros.outputs import Outputs

PERIOD = 15
"""Every so many seconds /tf is listened to for one second: all the time would cost too much on a busy robot."""

TF_CHILD = 'tf child'
"""Kind of the problem that somebody else publishes one of our frames."""


def check_surroundings(node: Any) -> None:
    """Report what is wrong now, and clear what is over."""
    for kind, text in (
        ('name twice', _name_twice(node)),
        ('no clock', _no_clock(node)),
        ('bundle gone', _bundle_gone(node)),
    ):
        if text:
            node.problem(kind, 'node', WARN, text, lasting=True)
        else:
            node.problems.clear(kind)


def _name_twice(node: Any) -> str:
    mine = (node.get_name(), node.get_namespace())
    if node.get_node_names_and_namespaces().count(mine) < 2:
        return ''
    return (
        f'another node is called {node.get_fully_qualified_name()} too, so services and parameters reach either one: '
        'start it with another name or namespace'
    )


def _no_clock(node: Any) -> str:
    if not node.get_parameter('use_sim_time').value or node.get_clock().now().nanoseconds > 0:
        return ''
    return 'use_sim_time is true but nothing comes on /clock: play the bag with --clock, or set use_sim_time to false'


def _bundle_gone(node: Any) -> str:
    folder = '' if node.loaded is None else node.loaded.folder
    if not folder or (Path(folder) / 'bundle.yaml').is_file():
        return ''
    return f'bundle {folder} is gone: the node goes on with what it has loaded, but cannot be configured again'


class TfWatch:
    """Notices when somebody else publishes one of our TF children."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._outputs: Optional[Outputs] = None
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscription: Optional[Any] = None
        self._seen: CounterType[Tuple[int, str]] = Counter()
        self._ticks = 0

    def start(self, outputs: Optional[Outputs]) -> None:
        """Watch over what is published there; the first look is soon."""
        self._outputs, self._ticks = outputs, PERIOD - 3

    def stop(self) -> None:
        self._outputs = None
        self._close()
        self._node.problems.clear(TF_CHILD)

    def tick(self) -> None:
        """Once per second."""
        outputs = self._outputs
        if outputs is None:
            return
        if self._subscription is not None:
            self._close()
            self._judge(outputs)
            return
        self._ticks += 1
        if self._ticks < PERIOD:
            return
        self._ticks = 0
        topic = outputs.tf.topic_name
        # Nobody else on the topic, nothing to find: that costs nothing.
        if outputs.children and self._node.count_publishers(topic) > 1:
            self._seen.clear()
            self._subscription = self._node.create_subscription(
                TFMessage, topic, partial(self._take, outputs.children), qos.tf_profile(), callback_group=self._group
            )
        else:
            self._node.problems.clear(TF_CHILD)

    def _close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)

    def _take(self, mine: Set[str], message: TFMessage) -> None:
        self._seen.update(
            (stamp_ns(item.header), item.child_frame_id) for item in message.transforms if item.child_frame_id in mine
        )

    def _judge(self, outputs: Outputs) -> None:
        sent = set(outputs.sent)
        # Ours come back once each.
        foreign = {child for (stamp, child), count in self._seen.items() if count > 1 or (stamp, child) not in sent}
        if not foreign:
            self._node.problems.clear(TF_CHILD)
            return
        text = (
            f'another node publishes the TF child {", ".join(sorted(foreign)[:3])} too, so its pose jumps between two: '
            'set tf_prefix, or publish_tf to false in one of them (ros2 topic info -v /tf)'
        )
        self._node.problem(TF_CHILD, 'node', WARN, text, lasting=True)
