"""Reading bags (MCAP or sqlite3) without ROS: topics, raw messages, ground truth. Images: bag_frames.py.

Everything a broken bag can do ends in one BagError that names the bag and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.benchmark import messages
from kd6d_ros.benchmark.records import TruthObject
from kd6d_ros.errors import BagError, Kd6dError
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from types import TracebackType


COMPRESSED_SUFFIX = '/compressed'


@dataclass(frozen=True)
class TopicInfo:
    """One topic of a bag: its message type and how many messages it holds."""

    msgtype: str
    count: int


@dataclass(frozen=True)
class RawMessage:
    """A serialised message (CDR) as the bag holds it; log_time_ns is when it was recorded."""

    topic: str
    msgtype: str
    log_time_ns: int
    data: bytes


@dataclass(frozen=True)
class BagTopics:
    """The topics of a bag that matter here; `truth` is None where the bag has none."""

    image: str
    camera_info: str
    truth: Optional[str]


class BagSource:
    """An open bag; use it as a context manager.

    Raises:
        BagError: no such bag, no bag at all, or a file that was cut off.
        MissingDependencyError: rosbags is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._store = messages.type_store()
        self._reader: Any = None

    def __enter__(self) -> BagSource:
        from rosbags.rosbag2 import Reader

        if not self.path.exists():
            raise BagError(f'{self.path}: no such bag; give a bag folder or an .mcap or .db3 file')
        if self.path.is_dir() and not (self.path / 'metadata.yaml').is_file():
            raise BagError(f'{self.path}: not a bag folder (metadata.yaml is missing); give the folder that holds it')
        try:
            reader = Reader(self.path)
            reader.open()
        except Exception as error:  # rosbags lets errors of its YAML, struct and codec layers through
            raise self._unreadable(error) from None
        self._reader = reader
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._reader.close()

    def _unreadable(self, error: Exception) -> BagError:
        reason = ' '.join(str(error).split()) or type(error).__name__
        return BagError(f'{self.path}: cannot be read ({reason[:200]}); the bag may be cut off, copy it again')

    def topics(self) -> Dict[str, TopicInfo]:
        """Name -> type and number of messages."""
        return {name: TopicInfo(str(info.msgtype), int(info.msgcount)) for name, info in self._reader.topics.items()}

    def raw_messages(self, topics: Sequence[str]) -> Iterator[RawMessage]:
        """The messages of `topics` in the order of recording.

        Raises:
            BagError: a topic that the bag lacks, or a damaged bag.
        """
        known = self.topics()
        for topic in topics:
            if topic not in known:
                raise BagError(f'{self.path}: no topic {topic}; the bag has {", ".join(sorted(known)) or "none"}')
        connections = [c for c in self._reader.connections if c.topic in topics]
        iterator = self._reader.messages(connections=connections)
        while True:
            try:
                connection, log_time, data = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                raise self._unreadable(error) from None
            yield RawMessage(connection.topic, connection.msgtype, int(log_time), bytes(data))

    def decode(self, raw: RawMessage) -> Any:
        """The message object of a raw message.

        Raises:
            BagError: the bytes do not fit the type, or the type is unknown here.
        """
        try:
            return self._store.deserialize_cdr(raw.data, raw.msgtype)
        except Exception as error:
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise BagError(
                f'{self.path}: topic {raw.topic} holds a broken {raw.msgtype} ({reason[:120]}); record it again'
            ) from None


def find_topics(source: BagSource, image: Optional[str] = None, camera_info: Optional[str] = None) -> BagTopics:
    """Find image, CameraInfo and ground truth by name or, where none is given, by type.

    Raises:
        BagError: there is none, or several images and none was named.
    """
    topics = source.topics()

    def of_type(*types: str) -> List[str]:
        return sorted(name for name, info in topics.items() if info.msgtype in types)

    def choose(wanted: Optional[str], found: List[str], what: str, option: str) -> str:
        if wanted is not None:
            if wanted not in topics:
                raise BagError(f'{source.path}: no topic {wanted}; the bag has {", ".join(sorted(topics))}')
            return wanted
        if not found:
            raise BagError(f'{source.path}: no {what} topic; the bag has {", ".join(sorted(topics)) or "none"}')
        if len(found) > 1:
            raise BagError(f'{source.path}: several {what} topics ({", ".join(found)}); name one with {option}')
        return found[0]

    image = choose(image, of_type(messages.IMAGE, messages.COMPRESSED_IMAGE), 'image', '--image')
    infos = of_type(messages.CAMERA_INFO)
    beside = camera_info_beside(image)
    if camera_info is None and beside in infos:
        camera_info = beside
    camera_info = choose(camera_info, infos, 'sensor_msgs/CameraInfo', '--camera-info')
    truths = of_type(messages.DETECTIONS_3D)
    return BagTopics(image, camera_info, truths[0] if truths else None)


def camera_info_beside(image_topic: str) -> str:
    """The CameraInfo topic that by convention belongs to an image topic."""
    base = image_topic
    if base.endswith(COMPRESSED_SUFFIX):
        base = base[: -len(COMPRESSED_SUFFIX)]
    return base.rsplit('/', 1)[0] + '/camera_info'


def read_ground_truth(source: BagSource, topic: Optional[str]) -> Dict[int, Tuple[TruthObject, ...]]:
    """Stamp [ns] -> objects of that image; an image without any object maps to an empty tuple.

    Raises:
        BagError: the bag has no ground truth, or two messages carry the same stamp.
    """
    if topic is None:
        raise BagError(
            f'{source.path}: no ground truth (no {messages.DETECTIONS_3D} topic); '
            'record one or make the bag with kd6d make-bag'
        )
    truth: Dict[int, Tuple[TruthObject, ...]] = {}
    for raw in source.raw_messages([topic]):
        message = source.decode(raw)
        stamp = messages.stamp_to_ns(message.header.stamp)
        if stamp in truth:
            raise BagError(f'{source.path}: topic {topic} has two messages with stamp {stamp} ns')
        try:
            truth[stamp] = tuple(_truth_object(detection) for detection in message.detections)
        except Kd6dError as error:
            raise BagError(f'{source.path}: topic {topic} at stamp {stamp} ns: {error}') from None
    return truth


def _truth_object(detection: Any) -> TruthObject:
    if not detection.results:
        raise BagError('a detection without results; ground truth needs one hypothesis with a pose')
    hypothesis = detection.results[0].hypothesis
    pose = detection.results[0].pose.pose
    p, q = pose.position, pose.orientation
    transform = RigidTransform(rotation_from_xyzw(np.array([q.x, q.y, q.z, q.w])), np.array([p.x, p.y, p.z]))
    return TruthObject(str(hypothesis.class_id), transform, float(hypothesis.score))
