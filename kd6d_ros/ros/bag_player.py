"""Executable `bag_player`: publishes a bag's messages at the bag's own times, with its stamps or with those of now.

It needs no rosbag2: rosbags reads the file, and the serialised messages go to DDS as they are. With --log it
notes when each image was handed to DDS (monotonic clock of this host), which is where latency begins.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, TextIO

from kd6d_ros.benchmark import messages
from kd6d_ros.benchmark.bag_source import BagSource
from kd6d_ros.errors import BagError, ConfigError, Kd6dError, MissingDependencyError
from kd6d_ros.ros.bag_schedule import Schedule, stamp_of, with_stamp

if TYPE_CHECKING:
    from kd6d_ros.benchmark.bag_source import RawMessage

IMAGE_TYPES = (messages.IMAGE, messages.COMPRESSED_IMAGE)
QUEUE = 30
SETTLE_S = 2.0
"""The other side of a match may still be busy with it; best-effort data sent before is lost. Half a second was not
enough for three processes on two cores: they lost every other image of the first second."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='bag_player',
        description='Publish a bag over DDS at its own times. ROS arguments (remaps) follow --ros-args.',
    )
    parser.add_argument('bag', type=Path, help='bag folder, .mcap or .db3 file')
    parser.add_argument('--rate', type=float, default=1.0, help='speed, 1.0 = as recorded')
    parser.add_argument(
        '--loop', action='store_true', help='start again at the end (stamps start again too, unless --restamp)'
    )
    parser.add_argument(
        '--restamp',
        action='store_true',
        help='move all stamps by one constant to the clock of now; they grow over loops',
    )
    parser.add_argument('--duration', type=float, default=None, metavar='SECONDS', help='end after so long')
    parser.add_argument('--topics', nargs='+', default=None, help='only these topics (default: all)')
    parser.add_argument(
        '--wait-for-subscribers',
        type=int,
        default=0,
        metavar='N',
        help='begin when this many subscriptions match every image topic',
    )
    parser.add_argument('--wait-timeout', type=float, default=30.0, help='longest wait for them [s]')
    parser.add_argument(
        '--log', type=Path, default=None, help='JSON lines: stamp_ns, bag_stamp_ns and sent_s of images'
    )
    parser.add_argument('--verbose', action='store_true', help='say what is played')
    return parser


def message_class(msgtype: str) -> Any:
    """The Python class of e.g. 'sensor_msgs/msg/Image'.

    Raises:
        MissingDependencyError: its package is not installed.
    """
    package, kind, name = msgtype.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.{kind}'), name)
    except (ImportError, AttributeError):
        raise MissingDependencyError(
            f'{msgtype}: the package {package} is not installed; install ros-<distro>-{package.replace("_", "-")}'
        ) from None


def _has_header(msgtype: str) -> bool:
    fields = message_class(msgtype).get_fields_and_field_types()
    return next(iter(fields.values()), '') == 'std_msgs/Header'


class BagPlayer:
    """Publishers for the topics of a bag; `node` is an rclpy node."""

    def __init__(self, node: Any, source: BagSource, topics: List[str], restamp: bool = False) -> None:
        """
        Raises:
            BagError: a topic that the bag lacks, or one without a header whose stamps cannot be moved.
        """
        known = source.topics()
        missing = [topic for topic in topics if topic not in known]
        if missing:
            raise BagError(f'{source.path}: no topic {missing[0]}; the bag has {", ".join(sorted(known))}')
        headless = [topic for topic in topics if restamp and not _has_header(known[topic].msgtype)]
        if headless:
            raise BagError(
                f'--restamp: {headless[0]} ({known[headless[0]].msgtype}) has no header: leave it out, --topics'
            )
        self._source, self._topics, self._restamp = source, topics, restamp
        self._image_topics = [topic for topic in topics if known[topic].msgtype in IMAGE_TYPES]
        self._publishers: Dict[str, Any] = {
            topic: node.create_publisher(message_class(known[topic].msgtype), topic, QUEUE) for topic in topics
        }

    def wait_for_subscribers(self, count: int, timeout_s: float) -> None:
        """Return when every image topic has `count` matched subscriptions.

        Raises:
            BagError: not within `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        while True:
            lacking = [t for t in self._image_topics if self._publishers[t].get_subscription_count() < count]
            if not lacking:
                if count:
                    time.sleep(SETTLE_S)
                return
            if time.monotonic() > end:
                raise BagError(
                    f'{lacking[0]}: fewer than {count} subscriptions after {timeout_s:g} s; is the node active '
                    'and are its image and image_transport set to this topic?'
                )
            time.sleep(0.02)

    def play(self, schedule: Schedule, log: Optional[TextIO], alive: Callable[[], bool]) -> int:
        """Publish the bag once; return how many images were sent. Stops early when `alive()` turns false."""
        images = 0
        for raw in self._source.raw_messages(self._topics):
            _sleep_until(schedule.due(raw.log_time_ns))
            if not alive():
                break
            images += self._send(raw, schedule, log)
        schedule.next_pass(images)
        return images

    def _send(self, raw: RawMessage, schedule: Schedule, log: Optional[TextIO]) -> int:
        is_image = raw.msgtype in IMAGE_TYPES
        data = with_stamp(raw.data, schedule.stamp(stamp_of(raw.data))) if self._restamp else raw.data
        sent_s = time.monotonic()
        self._publishers[raw.topic].publish(data)
        if is_image and log is not None:
            row = {'topic': raw.topic, 'stamp_ns': stamp_of(data), 'bag_stamp_ns': stamp_of(raw.data), 'sent_s': sent_s}
            log.write(json.dumps(row) + '\n')
        return int(is_image)


def open_log(path: Path) -> TextIO:
    """
    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        return path.open('w', encoding='utf-8')
    except OSError as error:
        raise ConfigError(
            f'--log {path}: cannot be written: {error.strerror}; give a file in a folder that exists'
        ) from error


def _sleep_until(moment: float) -> None:
    delay = moment - time.monotonic()
    if delay > 0:
        time.sleep(delay)


def main(args: Optional[List[str]] = None) -> int:
    """Play the bag; exit code 0, or 2 with one line when it cannot be played."""
    raw_args = sys.argv if args is None else ['bag_player', *args]
    try:
        import rclpy
        from rclpy.utilities import remove_ros_args
    except ImportError:
        print('bag_player: rclpy is missing; install ROS 2 or pip install .[ros]', file=sys.stderr)
        return 2
    options = build_parser().parse_args(remove_ros_args(raw_args)[1:])
    if not options.rate > 0:
        print(f'bag_player: --rate {options.rate:g}: must be above 0', file=sys.stderr)
        return 2
    if options.duration is not None and not options.duration > 0:
        print(f'bag_player: --duration {options.duration:g}: must be above 0', file=sys.stderr)
        return 2
    rclpy.init(args=raw_args)
    node = rclpy.create_node('bag_player')
    try:
        return _run(node, options)
    except Kd6dError as error:
        print(f'bag_player: {error}', file=sys.stderr)
        return 2
    except (KeyboardInterrupt, rclpy.exceptions.ROSInterruptException):
        return 0
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _run(node: Any, options: argparse.Namespace) -> int:
    import rclpy

    with BagSource(options.bag) as source:
        player = BagPlayer(node, source, options.topics or sorted(source.topics()), options.restamp)
        # Only now, so that a bag that cannot be played leaves no empty log behind.
        with open_log(options.log) if options.log else nullcontext() as log:
            player.wait_for_subscribers(options.wait_for_subscribers, options.wait_timeout)
            schedule = Schedule(options.rate, options.restamp)
            end = math.inf if options.duration is None else time.monotonic() + options.duration

            def alive() -> bool:
                return bool(rclpy.ok()) and time.monotonic() < end

            while True:
                images = player.play(schedule, log, alive)
                if options.verbose:
                    print(
                        f'bag_player: {images} images sent, stamps moved by {schedule.shift_ns * 1e-9:.3f} s',
                        flush=True,
                    )
                if not options.loop or not images or not alive():
                    break
            # What was published last must leave before the writers go.
            time.sleep(0.5)
    return 0


if __name__ == '__main__':
    sys.exit(main())
