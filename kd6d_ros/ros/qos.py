"""QoS of every topic in one place, and names of the policies for messages."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterable, Iterator, List

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions

from kd6d_ros.errors import ConfigError
from kd6d_ros.ros.params import QOS_PREFIX

try:  # Iron and later
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

__all__ = [
    'OVERRIDABLE',
    'PublisherEventCallbacks',
    'SubscriptionEventCallbacks',
    'incompatible_text',
    'input_profile',
    'output_profile',
    'overridable',
    'override_names',
    'overrides_of',
    'policy_name',
    'scene_profile',
    'service_profile',
    'tf_profile',
]

OVERRIDABLE = ('history', 'depth', 'reliability')
"""The policies that qos_overrides parameters change."""

# Functions, not constants: rclpy writes the qos_overrides of a topic into the profile that it is given, so a
# shared one would carry them on to every topic that is opened later.


def input_profile() -> QoSProfile:
    """Best effort matches every publisher. Only the newest image is looked at, but a queue of one would throw the
    others away unseen where a held-up publisher sends several at once, and DDS tells nobody: so they are taken out of
    the queue and counted."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=10,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def output_profile() -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)


def scene_profile() -> QoSProfile:
    """For collision objects: none may get lost among many, since MOVE and REMOVE build on the ADD before."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)


def tf_profile() -> QoSProfile:
    """What tf2_ros.TransformBroadcaster uses."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)


def service_profile() -> QoSProfile:
    """For answers that may go out many at a time: with the usual depth of 10 the eleventh pushes out the first."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)


def overridable() -> QoSOverridingOptions:
    """Let users change history, depth and reliability by `qos_overrides.<topic>...` parameters."""
    return QoSOverridingOptions.with_default_policies()


def override_names(published: Iterable[str], subscribed: Iterable[str]) -> List[str]:
    """The parameters that change the QoS of these topics."""
    ends = [f'{topic}.publisher' for topic in published] + [f'{topic}.subscription' for topic in subscribed]
    return [f'{QOS_PREFIX}{end}.{policy}' for end in ends for policy in OVERRIDABLE]


@contextmanager
def overrides_of(topic: str) -> Iterator[None]:
    """Says which topic it is about when a qos_overrides parameter makes no sense.

    Raises:
        ConfigError: what rclpy raised, in one line.
    """
    try:
        yield
    except Exception as error:
        text = str(error) or type(error).__name__
        raise ConfigError(f'cannot open topic {topic}: {text}: check the qos_overrides parameters') from error


def policy_name(event: Any) -> str:
    """Name of the policy that made an offer incompatible."""
    return str(qos_policy_name_from_kind(event.last_policy_kind)).lower().replace('_', ' ')


def incompatible_text(topic: str, role: str, policy: str) -> str:
    """What is wrong and the cure; `role`: what this node has on the topic, 'subscription' or 'publisher'."""
    cure = f'set qos_overrides.{topic}.{role}.{policy}' if policy in OVERRIDABLE else f'change its {policy}'
    verb = 'offers' if role == 'subscription' else 'asks for'
    return f'{topic}: the other side {verb} an incompatible QoS ({policy}), so nothing passes: {cure}'
