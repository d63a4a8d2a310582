"""Who waits for which pose, and what answers them. No ROS in here; get_pose.py talks to the clients.

Requests do not preempt each other: each is answered by the first image that is new enough and shows its object.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Collection, Dict, Iterable, List, Optional, Tuple

from kd6d_ros.foreign_text import shown

if TYPE_CHECKING:
    from kd6d_ros.types import PoseEstimate

MOST = 32
"""Most requests that may wait at a time."""
LONGEST_S = 3600
"""Longest timeout: who asks and then dies must not keep a place for ever."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """A pose that was accepted in the image with this stamp and frame."""

    stamp_ns: int
    frame_id: str
    pose: PoseEstimate


@dataclass(eq=False)
class PoseRequest:
    """`client`: whoever asks; `source`: object name or instance id; `target`: frame, empty for the camera's;
    `oldest_ns`: of the image; `deadline` [s] on the monotonic clock, `timeout_s` after the request."""

    client: Any
    source: str
    target: str
    oldest_ns: int
    timeout_s: float
    deadline: float
    found: Optional[Sighting] = None
    looked: int = 0
    too_old: int = 0
    behind_s: float = 0.0
    reason: str = ''
    failure: str = ''
    error: Optional[Tuple[str, str]] = None

    def matches(self, pose: PoseEstimate) -> bool:
        return self.source in (pose.instance_id, pose.object_name)

    def about(self, object_name: str) -> bool:
        return self.source == object_name or instance_of(self.source, (object_name,)) is not None

    def overdue(self) -> Tuple[str, str]:
        """Why the deadline passed: name of a constant of TF2Error and one sentence."""
        if self.error is not None:
            return self.error
        if self.timeout_s <= 0:
            return (
                'TIMEOUT_ERROR',
                f'no pose of {self.source} is known that is new enough: set a timeout to wait for one',
            )
        within = f'within {self.timeout_s:g} s'
        if self.looked:
            why = f' ({self.reason})' if self.reason else ''
            return 'TIMEOUT_ERROR', f'{self.source} was not accepted in any of {self.looked} images {within}{why}'
        if self.failure:
            return 'TIMEOUT_ERROR', f'no image could be used {within}: {self.failure}'
        if self.too_old:
            return 'TIMEOUT_ERROR', (
                f'all {self.too_old} images {within} were older than asked for, the newest by {self.behind_s:.3f} s: '
                'check source_time; stamps of another clock need use_sim_time and --clock'
            )
        return 'TIMEOUT_ERROR', f'no image came {within}: see /diagnostics'


def instance_of(name: str, objects: Iterable[str]) -> Optional[Tuple[str, int]]:
    """(object, number) of an instance id of one of these objects, or None."""
    match = re.fullmatch(r'(.+)_(\d{1,6})', name)
    if match is None or match[1] not in objects or str(int(match[2])) != match[2]:
        return None
    return match[1], int(match[2])


def unknown_source(name: str, objects: Collection[str], max_instances: int) -> str:
    """What is wrong with the name of an object or instance, or an empty text."""
    if name in objects:
        return ''
    instance = instance_of(name, objects)
    if instance is None:
        known = ', '.join(sorted(objects))
        return f'unknown object {shown(name)}: this node knows {known}, and instances such as {min(objects)}_0'
    if instance[1] >= max_instances:
        return f'{name} cannot be: max_instances is {max_instances}, so numbers go from 0 to {max_instances - 1}'
    return ''


class RequestBook:
    """The waiting requests, and the newest sighting of each instance. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: List[PoseRequest] = []
        self._newest: Dict[str, Sighting] = {}

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting)

    def all(self) -> List[PoseRequest]:
        """Those who wait, in the order in which they came."""
        with self._lock:
            return list(self._waiting)

    def add(self, client: Any, source: str, target: str, oldest_ns: int, timeout_s: float) -> bool:
        """Start to wait; False when too many do already. What is known already counts."""
        request = PoseRequest(client, source, target, oldest_ns, timeout_s, self._clock() + timeout_s)
        with self._lock:
            if len(self._waiting) >= MOST:
                return False
            request.found = _best(request, self._newest.values())
            self._waiting.append(request)
            return True

    def take(self, request: PoseRequest) -> bool:
        """Remove a request, whose answer is then the caller's to give; False when somebody else took it."""
        with self._lock:
            found = request in self._waiting
            if found:
                self._waiting.remove(request)
            return found

    def is_overdue(self, request: PoseRequest) -> bool:
        return self._clock() >= request.deadline

    def forget(self) -> None:
        """What was seen is of another recording, camera or configuration; requests go on waiting."""
        with self._lock:
            self._newest.clear()
            for request in self._waiting:
                request.found = None

    def failed(self, text: str) -> None:
        """An image could not be used."""
        with self._lock:
            for request in self._waiting:
                request.failure = text

    def sight(self, stamp_ns: int, frame_id: str, poses: Iterable[PoseEstimate], rejections: Iterable[Any]) -> None:
        """What one image gave."""
        seen = [Sighting(stamp_ns, frame_id, pose) for pose in poses]
        refused = list(rejections)
        with self._lock:
            self._newest.update({item.pose.instance_id: item for item in seen})
            for request in self._waiting:
                if stamp_ns < request.oldest_ns:
                    request.too_old += 1
                    request.behind_s = (request.oldest_ns - stamp_ns) * 1e-9
                    continue
                request.looked += 1
                reasons = [str(item.reason) for item in refused if request.about(item.object_name)]
                request.reason = reasons[-1] if reasons else ''
                # A newer one, too: the transform of an older one may have been missed.
                request.found = _best(request, seen) or request.found


def _best(request: PoseRequest, sightings: Iterable[Sighting]) -> Optional[Sighting]:
    """The newest that is new enough, and of one image the best-scored."""
    fits = [item for item in sightings if item.stamp_ns >= request.oldest_ns and request.matches(item.pose)]
    return max(fits, key=lambda item: (item.stamp_ns, item.pose.score), default=None)
