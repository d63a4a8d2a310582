"""A bag opened for a benchmark: which images it has, their cameras, and the truth about them where there is some."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

from kd6d_ros.benchmark import messages
from kd6d_ros.benchmark.bag_frames import camera_of_message, first_camera
from kd6d_ros.benchmark.bag_source import BagSource, BagTopics, find_topics
from kd6d_ros.benchmark.latency import rate_by_intervals
from kd6d_ros.benchmark.truth import find_truth, read_truth
from kd6d_ros.errors import BagError

if TYPE_CHECKING:
    from kd6d_ros.benchmark.records import TruthObject
    from kd6d_ros.types import Camera

MAX_INSTANCES = 50
"""Bound of EstimatorSettings.max_instances."""


@dataclass(frozen=True)
class TopicChoice:
    """Topics that the user named; None or empty: found by type."""

    image: Optional[str] = None
    camera_info: Optional[str] = None
    truth: Tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Recording:
    """stamps [ns] in the order of recording; cameras by stamp; truth by stamp, empty where the bag has none (then
    `no_truth` says why); notes: what is odd about the bag, a line each."""

    path: Path
    topics: BagTopics
    stamps: Tuple[int, ...]
    frame_ids: Mapping[int, str]
    cameras: Mapping[int, Camera]
    truth: Mapping[int, Tuple[TruthObject, ...]]
    no_truth: str = ''
    truth_topics: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = field(default=())

    @property
    def rate_hz(self) -> Optional[float]:
        """Images per second of bag time."""
        return rate_by_intervals([stamp * 1e-9 for stamp in self.stamps])

    @property
    def most_instances(self) -> int:
        """Most instances of one object in one image, at least 1 and at most what the estimator takes."""
        names = [Counter(item.object_name for item in objects) for objects in self.truth.values()]
        return min(MAX_INSTANCES, max((count for found in names for count in found.values()), default=1))


def open_recording(path: Path, choice: TopicChoice, known: Collection[str]) -> Recording:
    """Read everything but the pictures.

    Args:
        known: names of objects, needed to find them in TF.

    Raises:
        BagError: no bag, no image or CameraInfo topic (those that are there are named), a bag that was cut off.
    """
    with BagSource(path) as source:
        topics = find_topics(source, choice.image, choice.camera_info)
        stamps, frame_ids, cameras = _images(source, topics)
        found = find_truth(source, choice.truth)
        truth = {} if found is None else read_truth(source, found, frame_ids, known)
    if not stamps:
        raise BagError(f'{path}: {topics.image} holds no image')
    reason = ''
    if found is None:
        reason = 'no ground truth in the bag (Detection3DArray, PoseStamped or TF); see kd6d make-bag'
    elif not truth:
        reason = f'{", ".join(found.topics)}: says nothing about an object at the stamp of any image'
    notes = tuple(_notes(stamps, frame_ids, truth))
    return Recording(
        path, topics, tuple(stamps), frame_ids, cameras, truth, reason, found.topics if found else (), notes
    )


def _images(source: BagSource, topics: BagTopics) -> Tuple[List[int], Dict[int, str], Dict[int, Camera]]:
    camera = first_camera(source, topics.camera_info)
    stamps: List[int] = []
    frame_ids: Dict[int, str] = {}
    cameras: Dict[int, Camera] = {}
    for raw in source.raw_messages([topics.image, topics.camera_info]):
        if raw.topic == topics.camera_info:
            camera = camera_of_message(source, raw)
            continue
        header = source.decode(raw).header
        stamp = messages.stamp_to_ns(header.stamp)
        stamps.append(stamp)
        frame_ids[stamp] = str(header.frame_id)
        cameras[stamp] = camera
    return stamps, frame_ids, cameras


def _notes(stamps: Sequence[int], frame_ids: Mapping[int, str], truth: Mapping[int, object]) -> List[str]:
    notes = []
    back = sum(later < earlier for earlier, later in pairwise(stamps))
    if back:
        notes.append(f'{back} of {len(stamps)} images are older than the one before them: tracking starts anew there')
    if len(set(stamps)) < len(stamps):
        notes.append(f'{len(stamps) - len(set(stamps))} images repeat a stamp: the estimator ignores repeats in a row')
    frames = sorted(set(frame_ids.values()))
    if len(frames) > 1:
        notes.append(f'images of several cameras ({", ".join(frames)}): tracking starts anew at each change')
    unknown = sum(stamp not in truth for stamp in set(stamps))
    if truth and unknown:
        notes.append(f'{unknown} of {len(set(stamps))} images have no ground truth and count for speed only')
    return notes
