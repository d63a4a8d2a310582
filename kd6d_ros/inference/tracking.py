"""Who is who over time: instance ids, the region where an object is expected next, symmetric equivalents.

Time rules: a stamp equal to the last one is a repeated image and is ignored; a stamp that goes back means
another recording or a bag loop, so everything known is dropped and the image is treated as the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.geometry.symmetries import nearest_equivalent
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.inference.gates import Candidate
    from kd6d_ros.types import FloatArray, ObjectModel

REACH = 1.5
"""An instance found again within this many diameters of where it is expected keeps its id."""

LONGEST_STEP_S = 0.25
"""Velocity is taken from, and used over, no longer time than this."""


@dataclass
class Track:
    """One instance: its last accepted pose, velocity (3,) [m/s] and whether it was seen in the last image."""

    model: ObjectModel
    number: int
    pose: RigidTransform
    stamp: float
    velocity: FloatArray
    seen: bool = True

    @property
    def instance_id(self) -> str:
        return f'{self.model.name}_{self.number}'

    def expected(self, stamp: float) -> RigidTransform:
        """Pose expected at `stamp`: constant velocity over a short time, else the last pose."""
        step = stamp - self.stamp
        if not 0 < step <= LONGEST_STEP_S:
            return self.pose
        moved = self.pose.translation + self.velocity * step
        if moved[2] < 0.5 * self.pose.translation[2]:
            return self.pose
        return RigidTransform(self.pose.rotation, moved)


class Tracker:
    """Keeps the tracks of all objects. Ids are ``<object>_<n>``; n is the lowest number not in use.

    No object gets more than `max_instances` ids at a time: where all are taken, an instance that turns up
    far away takes the nearest id that was not seen, so the only mug in a scene stays mug_0.
    """

    def __init__(self, timeout_s: float, max_instances: int = 1) -> None:
        self._timeout, self._most = timeout_s, max_instances
        self._stamp = -np.inf
        self.tracks: List[Track] = []

    def reset(self) -> None:
        """Forget all instances and the last stamp."""
        self._stamp = -np.inf
        self.tracks = []

    def advance(self, stamp: float) -> str:
        """Move to the time of a new image; returns 'new', 'repeated' or 'back'. Drops timed-out tracks."""
        if stamp == self._stamp:
            return 'repeated'
        back = stamp < self._stamp
        if back:
            self.reset()
        self._stamp = stamp
        self.tracks = [item for item in self.tracks if stamp - item.stamp <= self._timeout]
        return 'back' if back else 'new'

    def of(self, name: str) -> List[Track]:
        """Live tracks of one object."""
        return [item for item in self.tracks if item.model.name == name]

    def commit(self, accepted: Sequence[Candidate]) -> List[Tuple[Track, RigidTransform]]:
        """Give every accepted candidate its track, in order; returns the pose to publish for each.

        A candidate from a track's own region keeps that track; others take the nearest free one within
        reach, or start a new one. The pose is the symmetric equivalent nearest to the track's last pose.
        """
        for item in self.tracks:
            item.seen = False
        chosen: Dict[int, Track] = {}
        for index, candidate in enumerate(accepted):
            for item in self.of(candidate.model.name):
                if candidate.track == item.number and not item.seen:
                    item.seen, chosen[index] = True, item
        chosen.update(self._nearest_pairs(accepted, chosen))
        out = []
        for index, candidate in enumerate(accepted):
            track = chosen.get(index)
            if track is None:
                track = self._take_over(candidate) or self._start(candidate)
            else:
                self._update(track, candidate)
            out.append((track, track.pose))
        return out

    def _nearest_pairs(self, accepted: Sequence[Candidate], chosen: Dict[int, Track]) -> List[Tuple[int, Track]]:
        """Nearest (candidate, free track) pairs, closest first."""
        pairs = []
        for index, candidate in enumerate(accepted):
            if index in chosen:
                continue
            for order, item in enumerate(self.tracks):
                if item.seen or item.model.name != candidate.model.name:
                    continue
                gap = candidate.cam_from_obj.translation - item.expected(self._stamp).translation
                distance = float(np.linalg.norm(gap))
                if distance <= REACH * item.model.diameter:
                    pairs.append((distance, index, order))
        out: List[Tuple[int, Track]] = []
        taken = set()
        for _, index, order in sorted(pairs):
            if index not in taken and not self.tracks[order].seen:
                taken.add(index)
                self.tracks[order].seen = True
                out.append((index, self.tracks[order]))
        return out

    def _take_over(self, candidate: Candidate) -> Optional[Track]:
        """The nearest unseen track, moved to the candidate, when the object may not have another one."""
        tracks = self.of(candidate.model.name)
        free = [item for item in tracks if not item.seen]
        if len(tracks) < self._most or not free:
            return None
        place = candidate.cam_from_obj.translation
        track = min(free, key=lambda item: float(np.linalg.norm(place - item.pose.translation)))
        self._update(track, candidate)
        track.seen, track.velocity = True, np.zeros(3)
        return track

    def _start(self, candidate: Candidate) -> Track:
        used = {item.number for item in self.of(candidate.model.name)}
        number = next(n for n in range(len(used) + 1) if n not in used)
        track = Track(candidate.model, number, candidate.cam_from_obj, self._stamp, np.zeros(3))
        self.tracks.append(track)
        return track

    def _update(self, track: Track, candidate: Candidate) -> None:
        pose = candidate.cam_from_obj
        if track.model.symmetries:
            pose = nearest_equivalent(pose, track.pose, track.model.symmetries)
        step = self._stamp - track.stamp
        moved = pose.translation - track.pose.translation
        track.velocity = moved / step if 0 < step <= LONGEST_STEP_S else np.zeros(3)
        track.pose, track.stamp = pose, self._stamp
