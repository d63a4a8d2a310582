"""Ground truth of a bag, whatever message carries it: Detection3DArray, PoseStamped or TF.

A message stands for the image whose stamp is nearest, within TOLERANCE_S; an image without one is timed and not scored.
Of a PoseStamped the last part of the topic's name is the object, of TF the child frame (`mug`, `mug_0`, `gt/mug`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.benchmark import messages
from kd6d_ros.benchmark.bag_source import read_ground_truth
from kd6d_ros.benchmark.records import TruthObject
from kd6d_ros.benchmark.tf_tree import TfTree
from kd6d_ros.errors import BagError, Kd6dError
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.benchmark.bag_source import BagSource

    Truth = Dict[int, Tuple[TruthObject, ...]]
    """Stamp of the image [ns] -> its objects."""

TOLERANCE_S = 0.005
TF_TOPICS = ('/tf', '/tf_static')
TYPES = (messages.DETECTIONS_3D, messages.POSE_STAMPED, messages.TF)
_NUMBERED = re.compile(r'_\d+$')


@dataclass(frozen=True)
class TruthTopics:
    """The topics that hold the truth, all of one type."""

    msgtype: str
    topics: Tuple[str, ...]


def find_truth(source: BagSource, wanted: Sequence[str] = ()) -> Optional[TruthTopics]:
    """The topics named, or what the bag has: Detection3DArray before PoseStamped before TF; None for nothing.

    Raises:
        BagError: a named topic is missing, or is of another type than the ones above, or they are of several types.
    """
    known = source.topics()
    for topic in wanted:
        if topic not in known:
            raise BagError(f'{source.path}: no topic {topic}; the bag has {", ".join(sorted(known)) or "none"}')
        if known[topic].msgtype not in TYPES:
            raise BagError(
                f'{source.path}: {topic} is {known[topic].msgtype}; ground truth is one of {", ".join(TYPES)}'
            )
    for msgtype in TYPES:
        found = [name for name, info in sorted(known.items()) if info.msgtype == msgtype and info.count]
        chosen = [name for name in found if name in wanted] if wanted else found
        if msgtype == messages.DETECTIONS_3D and not wanted and len(chosen) > 1:
            raise BagError(f'{source.path}: several ground truths ({", ".join(chosen)}); name one with --truth')
        if chosen:
            if len(chosen) < len(wanted):
                raise BagError(f'{source.path}: --truth names topics of several types; give those of one')
            return TruthTopics(msgtype, tuple(chosen))
    return None


def read_truth(source: BagSource, found: TruthTopics, images: Mapping[int, str], known: Collection[str]) -> Truth:
    """Objects of each image that has truth.

    Args:
        images: stamp [ns] -> frame id of every image of the bag.
        known: names of objects that may be in TF, where other frames are no objects.

    Raises:
        BagError: a broken message, one in another frame than its image, or two of one object for one image.
    """
    if found.msgtype == messages.DETECTIONS_3D:
        return _nearest_images(source, read_ground_truth(source, found.topics[0]), sorted(images))
    if found.msgtype == messages.POSE_STAMPED:
        return _from_poses(source, found.topics, images)
    return _from_tf(source, images, known)


def _nearest_images(source: BagSource, truth: Truth, stamps: Sequence[int]) -> Truth:
    out: Truth = {}
    for stamp, objects in truth.items():
        image = _nearest(stamps, stamp)
        if image is None:
            continue
        if image in out:
            raise BagError(f'{source.path}: two ground truths for the image with stamp {image} ns')
        out[image] = objects
    return out


def _nearest(stamps: Sequence[int], stamp: int) -> Optional[int]:
    """The image stamp nearest to a stamp, None when it is too far; `stamps` ascend."""
    place = int(np.searchsorted(stamps, stamp))
    near = [stamps[index] for index in (place - 1, place) if 0 <= index < len(stamps)]
    best = min(near, key=lambda value: abs(value - stamp), default=None)
    return best if best is not None and abs(best - stamp) <= TOLERANCE_S * 1e9 else None


def _from_poses(source: BagSource, topics: Sequence[str], images: Mapping[int, str]) -> Truth:
    stamps = sorted(images)
    out: Dict[int, List[TruthObject]] = {}
    for raw in source.raw_messages(topics):
        message = source.decode(raw)
        stamp = messages.stamp_to_ns(message.header.stamp)
        image = _nearest(stamps, stamp)
        if image is None:
            continue
        name, frame = raw.topic.rsplit('/', 1)[-1], str(message.header.frame_id)
        if frame != images[image]:
            raise BagError(
                f'{source.path}: {raw.topic} is in frame {frame!r}, its image in {images[image]!r}; '
                'record the pose in the frame of the image, or TF that leads there (--truth /tf)'
            )
        objects = out.setdefault(image, [])
        if any(item.object_name == name for item in objects):
            raise BagError(f'{source.path}: {raw.topic} has two poses for the image with stamp {image} ns')
        objects.append(TruthObject(name, transform_of(source, raw.topic, stamp, message.pose), 1.0))
    return {stamp: tuple(objects) for stamp, objects in out.items()}


def _from_tf(source: BagSource, images: Mapping[int, str], known: Collection[str]) -> Truth:
    tree = TfTree(TOLERANCE_S)
    topics = source.topics()
    for raw in source.raw_messages([name for name in TF_TOPICS if name in topics]):
        for item in source.decode(raw).transforms:
            stamp = messages.stamp_to_ns(item.header.stamp)
            t, q = item.transform.translation, item.transform.rotation
            pose = _checked(source, raw.topic, stamp, (t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
            tree.add(str(item.header.frame_id), str(item.child_frame_id), stamp, pose, raw.topic == '/tf_static')
    names = {frame: name for frame in tree.frames for name in [object_of_frame(frame)] if name in known}
    out: Truth = {}
    for stamp, frame_id in images.items():
        poses = [(name, tree.lookup(frame_id, frame, stamp)) for frame, name in sorted(names.items())]
        objects = tuple(TruthObject(name, pose, 1.0) for name, pose in poses if pose is not None)
        if objects:
            out[stamp] = objects
    return out


def object_of_frame(frame: str) -> str:
    """The object that a TF frame is of: the last part of its name, without the number of an instance."""
    return _NUMBERED.sub('', frame.strip('/').rsplit('/', 1)[-1])


def transform_of(source: BagSource, topic: str, stamp: int, pose: Any) -> RigidTransform:
    """A geometry_msgs/Pose as a transform.

    Raises:
        BagError: the quaternion is no rotation.
    """
    p, q = pose.position, pose.orientation
    return _checked(source, topic, stamp, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w))


def _checked(
    source: BagSource, topic: str, stamp: int, place: Tuple[float, ...], turn: Tuple[float, ...]
) -> RigidTransform:
    try:
        return RigidTransform(rotation_from_xyzw(np.array(turn)), np.array(place))
    except Kd6dError as error:
        raise BagError(f'{source.path}: topic {topic} at stamp {stamp} ns: {error}') from None
