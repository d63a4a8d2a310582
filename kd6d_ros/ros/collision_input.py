"""From a vision_msgs/Detection3D to what a collision object is made of; refuses what makes no sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Tuple

import numpy as np

from kd6d_ros.errors import Kd6dError
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.ros.collision_shapes import Shape
from kd6d_ros.types import RigidTransform

NORM_TOLERANCE = 0.05
"""By how much the norm of a quaternion may differ from one; more is an unset field or an error."""
UNSET = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""Position and quaternion of a pose that nobody filled in."""


class DetectionError(Kd6dError):
    """A detection that cannot be a collision object: one line that says why."""


@dataclass(frozen=True, eq=False)
class Sight:
    """One object as one image shows it: `frame_from_obj` in the frame of the detection's header."""

    object_id: str
    class_id: str
    frame_from_obj: RigidTransform


def sight_of(detection: Any) -> Sight:
    """The best hypothesis of a detection.

    Raises:
        DetectionError: no hypothesis, no class, no id, or a pose that is none.
    """
    results = list(detection.results)
    if not results:
        raise DetectionError(f'detection {detection.id!r} has no hypothesis, so nobody knows what or where it is')
    best = max(results, key=lambda item: item.hypothesis.score if np.isfinite(item.hypothesis.score) else -np.inf)
    class_id = str(best.hypothesis.class_id)
    if not class_id:
        raise DetectionError(f'detection {detection.id!r} has an empty class_id, so nobody knows what it is')
    if not detection.id:
        raise DetectionError(
            f'a detection of {class_id} has no id, without which it cannot be followed: track it first'
        )
    object_id = _object_id(class_id, str(detection.id))
    return Sight(object_id, class_id, _transform(best.pose.pose, f'{object_id}: its pose'))


def box_of(detection: Any, sight: Sight) -> Shape:
    """The box of a detection, in the object's frame.

    Raises:
        DetectionError: its pose is none, or a side is zero, negative or not a number.
    """
    size = np.array([detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z])
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise DetectionError(f'{sight.object_id}: its box has sides {size.tolist()}, so it has no shape')
    frame_from_box = _transform(detection.bbox.center, f"{sight.object_id}: its box's pose")
    return Shape(size=size, obj_from_box=sight.frame_from_obj.inverse() @ frame_from_box)


def _object_id(class_id: str, detection_id: str) -> str:
    """Object name and instance: ours have both in the id, others have the bare number of a track."""
    return detection_id if detection_id.startswith(f'{class_id}_') else f'{class_id}_{detection_id}'


def _transform(pose: Any, what: str) -> RigidTransform:
    numbers = _numbers(pose)
    if numbers == UNSET:
        raise DetectionError(f'{what} is not set')
    if not np.isfinite(numbers).all():
        raise DetectionError(f'{what} is not finite: {numbers}')
    place, turn = np.array(numbers[:3]), np.array(numbers[3:])
    if abs(float(np.linalg.norm(turn)) - 1.0) > NORM_TOLERANCE:
        raise DetectionError(f'{what} has a quaternion that is no rotation: {numbers[3:]}')
    return RigidTransform(rotation_from_xyzw(turn), place)


def _numbers(pose: Any) -> Tuple[float, ...]:
    """Position x y z, quaternion x y z w."""
    place, turn = pose.position, pose.orientation
    return place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w
