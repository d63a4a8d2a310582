"""config/pose.rviz shows what the node publishes: topics, types, a QoS that matches; the demo gives it its frame."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NODE = '/pose_estimator'
"""Name of the node in pose.launch.py."""

TYPES = {'rviz_default_plugins/MarkerArray': 'MarkerArray', 'rviz_default_plugins/Image': 'Image'}
"""Displays that subscribe to a topic of their own -> the message that they take."""

NO_TOPIC = {'rviz_default_plugins/Grid', 'rviz_default_plugins/TF'}
"""TF listens to /tf and /tf_static whatever the file says."""


@pytest.fixture(scope='module')
def config() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / 'config' / 'pose.rviz').read_text(encoding='utf-8'))
    return content


@pytest.fixture(scope='module')
def displays(config: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = config['Visualization Manager']['Displays']
    return found


@pytest.fixture(scope='module')
def published() -> dict[str, Any]:
    """What the node publishes: resolved topic -> its message type and QoS profile."""
    pytest.importorskip('rclpy', reason='the node needs rclpy (apt, or the wheels of test/interfaces)')
    for package in ('vision_msgs', 'visualization_msgs', 'tf2_msgs'):
        pytest.importorskip(f'{package}.msg', reason=f'{package} is not built: test/interfaces/build.py')
    from kd6d_ros.ros.outputs import Outputs

    topics: dict[str, Any] = {}

    class Node:
        """Writes down which publishers are asked for."""

        def resolve_topic_name(self, topic: str) -> str:
            return topic.replace('~', NODE)

        def create_publisher(self, kind: Any, topic: str, profile: Any, **_: Any) -> Any:
            name = self.resolve_topic_name(topic)
            topics[name] = (kind.__name__, profile)
            return SimpleNamespace(topic_name=name)

    Outputs(Node(), {}, '', lambda *_: None)
    return topics


def test_every_display_is_one_that_this_test_knows(displays: list[dict[str, Any]]) -> None:
    assert {display['Class'] for display in displays} == set(TYPES) | NO_TOPIC
    assert all(display['Enabled'] is True for display in displays)
    assert len({display['Name'] for display in displays}) == len(displays)
    for display in displays:
        assert ('Topic' in display) == (display['Class'] in TYPES), display['Name']


def test_every_topic_is_published_with_the_type_and_qos_that_its_display_takes(
    displays: list[dict[str, Any]], published: dict[str, Any]
) -> None:
    assert '/tf' in published
    for display in (item for item in displays if 'Topic' in item):
        topic = display['Topic']
        kind, profile = published[topic['Value']]
        assert kind == TYPES[display['Class']]
        # A subscription that asks for more than is offered gets nothing.
        assert topic['Reliability Policy'] == 'Best Effort' or profile.reliability.name == 'RELIABLE'
        assert topic['Durability Policy'] == 'Volatile' or profile.durability.name == 'TRANSIENT_LOCAL'


def test_one_option_changes_every_frame_and_the_demo_gives_that_of_its_bag(config: dict[str, Any]) -> None:
    from kd6d_ros.cli.demo import FRAME_ID

    manager = config['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == 'camera_color_optical_frame'  # RealSense's
    assert manager['Views']['Current']['Target Frame'] == '<Fixed Frame>'
    text = (ROOT / 'launch' / 'demo.launch.py').read_text(encoding='utf-8')
    assert f"FRAME = '{FRAME_ID}'" in text
    assert "'rviz_frame': FRAME," in text


def test_the_name_of_the_node_is_that_of_the_launch_file() -> None:
    text = (ROOT / 'launch' / 'pose.launch.py').read_text(encoding='utf-8')
    assert f"DeclareLaunchArgument('name', default_value='{NODE[1:]}'" in text
