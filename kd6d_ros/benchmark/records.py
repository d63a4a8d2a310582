"""What the benchmark room exchanges: frames, ground truth, published poses. Stamps are integer nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Tuple

if TYPE_CHECKING:
    from kd6d_ros.types import Camera, FloatArray, ImageArray, RigidTransform


@dataclass(frozen=True, eq=False)
class TruthObject:
    """An object as it really is in one image: its pose and the fraction of it that is seen, 0 to 1."""

    object_name: str
    cam_from_obj: RigidTransform
    visible_fraction: float


@dataclass(frozen=True, eq=False)
class BagFrame:
    """One decoded image: (H, W, 3) uint8 RGB, its camera, stamp [ns] and frame."""

    stamp_ns: int
    frame_id: str
    image: ImageArray
    camera: Camera


@dataclass(frozen=True, eq=False)
class PublishedPose:
    """A pose that a node published in its detections; covariance (6, 6) in ROS order, None where there is none."""

    object_name: str
    instance_id: str
    cam_from_obj: RigidTransform
    score: float
    covariance: Optional[FloatArray] = None


@dataclass(frozen=True, eq=False)
class FrameLog:
    """What happened to one image of the bag.

    sent_s and received_s are readings of one monotonic clock [s]: when the player published the image and
    when the recorder got the detections; None: never. `poses` is empty when the node accepted nothing.
    """

    stamp_ns: int
    truth: Tuple[TruthObject, ...]
    sent_s: Optional[float] = None
    received_s: Optional[float] = None
    poses: Tuple[PublishedPose, ...] = ()
