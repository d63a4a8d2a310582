"""What the node uses of tf2_ros, for tests: tf2_ros itself cannot be installed from PyPI.

It knows direct transforms only, static ones at any time and others at their own stamps.
"""

from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage


class TransformException(Exception):  # noqa: N818  (its name in tf2_ros)
    pass


class LookupException(TransformException):
    pass


class ConnectivityException(TransformException):
    pass


class ExtrapolationException(TransformException):
    pass


class Buffer:
    def __init__(self):
        self.static, self.moving = {}, {}

    def lookup_transform(self, target_frame, source_frame, time, timeout=None):
        """target_from_source: the transform whose parent is the target."""
        key = (target_frame, source_frame)
        if key in self.static:
            return self.static[key]
        if not any(target_frame in edge for edge in [*self.static, *[k[:2] for k in self.moving]]):
            raise LookupException(f'"{target_frame}" passed to lookupTransform argument target_frame does not exist.')
        found = self.moving.get((*key, time.nanoseconds))
        if found is None:
            raise ExtrapolationException('Lookup would require extrapolation into the future.')
        return found


class TransformListener:
    def __init__(self, buffer, node, *, spin_thread=False, qos=None, static_qos=None):
        self._buffer, self._node = buffer, node
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(TFMessage, '/tf', self._moving, 100),
            node.create_subscription(TFMessage, '/tf_static', self._static, latched),
        ]

    def unregister(self):
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _moving(self, message):
        for item in message.transforms:
            stamp = item.header.stamp
            key = (item.header.frame_id, item.child_frame_id, stamp.sec * 10**9 + stamp.nanosec)
            self._buffer.moving[key] = item

    def _static(self, message):
        for item in message.transforms:
            self._buffer.static[item.header.frame_id, item.child_frame_id] = item
