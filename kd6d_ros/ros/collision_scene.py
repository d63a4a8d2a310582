"""What a planning scene has been told: which objects, where, and when each was last seen. No topics in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from moveit_msgs.msg import CollisionObject
from std_msgs.msg import Header

from kd6d_ros.ros.messages import pose_message

if TYPE_CHECKING:
    from kd6d_ros.ros.collision_shapes import Shape
    from kd6d_ros.types import RigidTransform


@dataclass(eq=False)
class _Known:
    """One object: header and pose of its last sight, and when that and the last message were [s, steady clock]."""

    header: Any
    pose: RigidTransform
    shape: Shape
    seen_s: float
    sent_s: float


class CollisionScene:
    """The objects that consumers know of. All times are seconds of a steady clock."""

    def __init__(self) -> None:
        self._known: Dict[str, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def see(
        self, object_id: str, header: Any, pose: RigidTransform, shape: Shape, now_s: float, period_s: float
    ) -> Optional[CollisionObject]:
        """ADD for an object that is new or has another shape, MOVE for one that is known; None within `period_s` of
        the last message about it.

        Args:
            header: with the frame in which `pose` (header frame from object) is given.
        """
        known = self._known.get(object_id)
        if known is None or not shape.is_like(known.shape):
            self._known[object_id] = _Known(header, pose, shape, now_s, now_s)
            return self.added(object_id)
        known.header, known.pose, known.seen_s = header, pose, now_s
        if now_s - known.sent_s < period_s:
            return None
        known.sent_s = now_s
        return _message(object_id, known, CollisionObject.MOVE)

    def expire(self, now_s: float, ttl_s: float) -> List[CollisionObject]:
        """REMOVE for everything that was not seen for `ttl_s`."""
        return [self._removed(key) for key in list(self._known) if now_s - self._known[key].seen_s > ttl_s]

    def clear(self) -> List[CollisionObject]:
        """REMOVE for everything."""
        return [self._removed(key) for key in list(self._known)]

    def again(self) -> List[CollisionObject]:
        """ADD for everything, for a consumer that came later."""
        return [self.added(key) for key in self._known]

    def renew(self, now_s: float) -> None:
        """Count everything as seen just now."""
        for known in self._known.values():
            known.seen_s = now_s

    def added(self, object_id: str) -> CollisionObject:
        """ADD for one that is known."""
        known = self._known[object_id]
        message = _message(object_id, known, CollisionObject.ADD)
        known.shape.fill(message)
        return message

    def _removed(self, object_id: str) -> CollisionObject:
        known = self._known.pop(object_id)
        # Without a pose: an object that is gone has none.
        return CollisionObject(header=known.header, id=object_id, operation=CollisionObject.REMOVE)


def _message(object_id: str, known: _Known, operation: bytes) -> CollisionObject:
    header = Header(stamp=known.header.stamp, frame_id=known.header.frame_id)
    return CollisionObject(header=header, id=object_id, pose=pose_message(known.pose), operation=operation)
