"""Every publisher of poses. Pictures and markers are only made while somebody listens."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Mapping, Optional, Set, Tuple

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from kd6d_ros.errors import ConfigError
from kd6d_ros.ros import messages, qos
from kd6d_ros.ros.markers import MarkerMaker
from kd6d_ros.ros.overlay import draw_poses
from kd6d_ros.ros.pipeline import stamp_ns

if TYPE_CHECKING:
    from kd6d_ros.ros.pipeline import Outcome
    from kd6d_ros.types import ObjectModel


class Outputs:
    """Publishers for the objects of a bundle; created at configure, destroyed at cleanup."""

    def __init__(
        self,
        node: Any,
        models: Mapping[str, ObjectModel],
        tf_prefix: str,
        incompatible: Callable[[str, str, str], None],
    ) -> None:
        self._node, self._models, self._tf_prefix = node, models, tf_prefix
        self._incompatible = incompatible
        self._publishers: List[Any] = []
        self._markers = MarkerMaker(models)
        self._last_header: Optional[Any] = None
        self._with_covariance: Dict[str, Any] = {}
        self.children: Set[str] = set()
        """TF child frames that were sent."""
        self.sent: Deque[Tuple[int, str]] = deque(maxlen=2000)
        """(stamp [ns], child) of the last transforms that were sent."""
        try:
            self.detections = self._make(Detection3DArray, '~/detections')
            self.poses = {name: self._make(PoseStamped, f'~/poses/{name}') for name in models}
            self.tf = self._make(TFMessage, '/tf', qos.tf_profile())
            self.markers = self._make(MarkerArray, '~/markers')
            self.overlay = self._make(Image, '~/overlay')
            self.timing = self._make(DiagnosticArray, '~/timing')
        except ConfigError:
            self.destroy()
            raise

    def _make(self, kind: Any, topic: str, profile: Optional[Any] = None) -> Any:
        def refused(event: Any) -> None:
            self._incompatible(self._node.resolve_topic_name(topic), 'publisher', qos.policy_name(event))

        with qos.overrides_of(topic):
            publisher = self._node.create_publisher(
                kind,
                topic,
                profile or qos.output_profile(),
                event_callbacks=qos.PublisherEventCallbacks(incompatible_qos=refused),
                qos_overriding_options=qos.overridable(),
            )
        self._publishers.append(publisher)
        return publisher

    @property
    def topics(self) -> List[str]:
        """Resolved names of all topics, also of those that are only opened with their first message."""
        late = [self._node.resolve_topic_name(_covariance_topic(name)) for name in self._models]
        return [publisher.topic_name for publisher in self._publishers] + late

    def publish(self, outcome: Outcome, publish_tf: bool, marker_lifetime_s: float) -> Dict[str, float]:
        """Publish one outcome, the poses first; times [s]: publish, and from the decoded image to the last pose."""
        started = monotonic()
        header, poses = outcome.header, outcome.poses
        if publish_tf and poses:
            message = messages.tf_message(header, poses, self._tf_prefix)
            # Before they are sent: they also come back to this node, which knows its own by this.
            names = [item.child_frame_id for item in message.transforms]
            self.children.update(names)
            self.sent.extend((stamp_ns(header), name) for name in names)
            self.tf.publish(message)
        for pose in poses:
            self.poses[pose.object_name].publish(messages.pose_stamped(header, pose))
            if pose.covariance is not None:
                self._covariance_publisher(pose.object_name).publish(messages.pose_with_covariance(header, pose))
        self.detections.publish(messages.detections_message(header, poses, self._models))
        done = monotonic()
        self._for_people(outcome, marker_lifetime_s)
        self._last_header = header
        return {'publish': done - started, 'decoded_to_published': done - outcome.decoded_at}

    @property
    def timing_wanted(self) -> bool:
        return bool(self.timing.get_subscription_count() > 0)

    def publish_timing(self, header: Any, name: str, stages: Mapping[str, float], window: Mapping[str, str]) -> None:
        self.timing.publish(messages.timing_message(header, name, stages, window))

    def clear_markers(self) -> None:
        """Take all markers off the screen."""
        # Ctrl-C invalidates the context before the node is destroyed, and a publisher without one raises.
        if self._last_header is None or not self._node.context.ok():
            return
        if self.markers.get_subscription_count() > 0:
            self.markers.publish(self._markers.clear(self._last_header))

    def destroy(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def _for_people(self, outcome: Outcome, marker_lifetime_s: float) -> None:
        if self.markers.get_subscription_count() > 0:
            self.markers.publish(self._markers.make(outcome.header, outcome.poses, marker_lifetime_s))
        if self.overlay.get_subscription_count() > 0:
            picture = draw_poses(outcome.image, outcome.camera, outcome.poses, self._models)
            self.overlay.publish(messages.image_message(outcome.header, picture))

    def _covariance_publisher(self, name: str) -> Any:
        # A bundle without calibration has no covariance, so the topic would only mislead.
        if name not in self._with_covariance:
            self._with_covariance[name] = self._make(PoseWithCovarianceStamped, _covariance_topic(name))
        return self._with_covariance[name]


def _covariance_topic(name: str) -> str:
    return f'~/poses_cov/{name}'
