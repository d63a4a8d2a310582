"""Subscriptions: image (raw or compressed), camera_info, and detections_in when they are wanted."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Tuple

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from kd6d_ros.errors import ConfigError
from kd6d_ros.foreign_text import shown
from kd6d_ros.ros import qos
from kd6d_ros.ros.diagnostics import WARN
from kd6d_ros.ros.messages import boxes_from, unknown_class, unknown_class_text
from kd6d_ros.ros.pipeline import Frame, stamp_ns
from kd6d_ros.ros.stamps import LossCounter

if TYPE_CHECKING:
    from kd6d_ros.types import Detection

WAITING = 10
"""Most images and most detections that wait for their counterpart."""


def image_topic(resolved: str, compressed: bool) -> str:
    """The topic to subscribe to, from the resolved name of `image`."""
    if not compressed or resolved.endswith('/compressed'):
        return resolved
    return resolved + '/compressed'


def input_topics(node: Any, compressed: bool) -> Dict[str, str]:
    """Resolved topic of each role that this node may read."""
    topics = {role: node.resolve_topic_name(role) for role in ('camera_info', 'detections_in', 'image')}
    return {**topics, 'image': image_topic(topics['image'], compressed)}


Key = Tuple[int, str]
"""Stamp [ns] and frame of an image and of the detections in it."""


def key_of(header: Any) -> Key:
    return stamp_ns(header), str(header.frame_id)


class Matcher:
    """Pairs images and detections of the same stamp and frame (their key), whichever comes first.

    `unmatched` counts images that no detections came for, `stray` detections that no image came for.
    """

    def __init__(self) -> None:
        self._frames: OrderedDict[Key, Frame] = OrderedDict()
        self._boxes: OrderedDict[Key, List[Detection]] = OrderedDict()
        self.unmatched = self.stray = 0

    def frame(self, stamp: Key, frame: Frame) -> Optional[Frame]:
        """The frame with its detections, or None while they are missing."""
        if stamp in self._boxes:
            return self._with(frame, self._boxes.pop(stamp))
        # Two images of one stamp: no detections can tell them apart.
        self.unmatched += self._frames.pop(stamp, None) is not None
        self._frames[stamp] = frame
        if len(self._frames) > WAITING:
            self._frames.popitem(last=False)
            self.unmatched += 1
        return None

    def boxes(self, stamp: Key, boxes: List[Detection]) -> Optional[Frame]:
        """The frame that waited for these detections, or None."""
        if stamp in self._frames:
            return self._with(self._frames.pop(stamp), boxes)
        self._boxes[stamp] = boxes
        if len(self._boxes) > WAITING:
            self._boxes.popitem(last=False)
            self.stray += 1
        return None

    @property
    def waiting(self) -> int:
        """Images that wait for their detections."""
        return len(self._frames)

    @staticmethod
    def _with(frame: Frame, boxes: List[Detection]) -> Frame:
        return Frame(frame.message, frame.info, frame.compressed, frame.received, boxes)


class Inputs:
    """Subscriptions of an active node; hands every complete frame to `offer`."""

    def __init__(
        self,
        node: Any,
        compressed: bool,
        detections: Optional[Mapping[str, str]],
        offer: Callable[[Frame], None],
        incompatible: Callable[[str, str, str], None],
    ) -> None:
        """`detections`: objects by what a detector may call them, None without detections; `node` counts what comes
        and reports what is wrong with it."""
        self._node, self._compressed, self._offer = node, compressed, offer
        self._incompatible = incompatible
        self._aliases = detections
        self._matcher = Matcher()
        self._info: Optional[Any] = None
        self._early: Optional[Frame] = None
        self.arrived = self.replaced = 0
        self._subscriptions: List[Any] = []
        self.losses = LossCounter()
        self.started = monotonic()
        self.image_at: Optional[float] = None
        self.info_at: Optional[float] = None
        self.boxes_at: Optional[float] = None
        self.topics: Dict[str, str] = {}
        topics = input_topics(node, compressed)
        # One group: these callbacks share state and only take a moment.
        group = MutuallyExclusiveCallbackGroup()
        self._add('camera_info', CameraInfo, topics['camera_info'], self._on_info, group)
        if detections is not None:
            self._add('detections_in', Detection2DArray, topics['detections_in'], self._on_detections, group)
        self._add('image', CompressedImage if compressed else Image, topics['image'], self._on_image, group)

    def _add(self, role: str, kind: Any, topic: str, callback: Callable[[Any], None], group: Any) -> None:
        def refused(event: Any) -> None:
            self._incompatible(self._node.resolve_topic_name(topic), 'subscription', qos.policy_name(event))

        try:
            with qos.overrides_of(topic):
                subscription = self._node.create_subscription(
                    kind,
                    topic,
                    callback,
                    qos.input_profile(),
                    callback_group=group,
                    event_callbacks=qos.SubscriptionEventCallbacks(incompatible_qos=refused),
                    qos_overriding_options=qos.overridable(),
                )
        except ConfigError:
            self.destroy()
            raise
        self.topics[role] = subscription.topic_name
        self._subscriptions.append(subscription)

    def publishers(self, role: str) -> int:
        """How many publish the topic of a role ('image', 'camera_info')."""
        return int(self._node.count_publishers(self.topics[role]))

    def other_transport(self) -> str:
        """Topic of the same image in the other transport, if somebody publishes it; else empty."""
        topic, ending = self.topics['image'], '/compressed'
        other = topic[: -len(ending)] if topic.endswith(ending) else topic + ending
        return other if self._node.count_publishers(other) else ''

    def destroy(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _on_info(self, message: CameraInfo) -> None:
        self._info, self.info_at = message, monotonic()
        early, self._early = self._early, None
        if early is not None:
            self._take(Frame(early.message, message, early.compressed, early.received))

    def _on_image(self, message: Any) -> None:
        self.image_at = monotonic()
        self.arrived += 1
        self._node.statistics.mark('arrived')
        self.losses.add(stamp_ns(message.header))
        frame = Frame(message, self._info, self._compressed, self.image_at)
        if self._info is None:
            # The first CameraInfo often comes a moment after the first image.
            self.replaced += self._early is not None
            self._early = frame
        else:
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if self._aliases is None:
            self._offer(frame)
            return
        matched = self._matcher.frame(key_of(frame.message.header), frame)
        if matched is not None:
            self._offer(matched)

    def _on_detections(self, message: Detection2DArray) -> None:
        self.boxes_at = monotonic()
        names = self._aliases or {}
        unknown = unknown_class(message, names)
        if unknown is not None:
            self._node.problem('unknown class', 'input', WARN, unknown_class_text(unknown, names))
        before = self._matcher.stray
        frame = self._matcher.boxes(key_of(message.header), boxes_from(message, names))
        if frame is not None:
            self._offer(frame)
        elif self._matcher.stray > before:
            stamp, frame_id = key_of(message.header)
            text = (
                f'{self._matcher.stray} messages on detections_in match no image by stamp and frame_id (now stamp '
                f'{stamp * 1e-9:.3f}, frame {shown(frame_id)}): the detector must copy the header of its image'
            )
            self._node.problem('stray detections', 'input', WARN, text)

    @property
    def unmatched(self) -> int:
        """Images that no detections came for."""
        return self._matcher.unmatched

    @property
    def stray(self) -> int:
        """Detections that no image came for."""
        return self._matcher.stray

    @property
    def waiting(self) -> int:
        """Images that wait for their CameraInfo or their detections."""
        return self._matcher.waiting + (self._early is not None)
