"""Who is who over time: instance ids, the region where an object is expected next, symmetric equivalents.

Time rules: a stamp equal to the last one is a repeated image and is ignored; a stamp that goes back means
another recording or a bag loop, so everything known is dropped and the image is treated as the first; after a
pause longer than the time-out nothing is known any more either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.geometry.symmetries import canonical_pose, steady_equivalent, symmetric_distance
from kd6d_ros.inference.pose_filter import PoseFilter
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.inference.gates import Candidate
    from kd6d_ros.inference.settings import EstimatorSettings
    from kd6d_ros.types import FloatArray, ObjectModel

REACH = 1.5
"""An instance found again within this many diameters of where it is expected keeps its id."""

LONGEST_STEP_S = 0.25
"""Velocity is taken from, and used over, no longer time than this."""

NOTES = {
    'back': 'time went back: all instances dropped',
    'pause': 'the images paused for longer than tracking_timeout_s: all instances dropped',
}
"""What to say about the time of an image, see ``Tracker.advance``."""

Committed = Tuple['Track', Optional[RigidTransform]]
"""The track of a candidate and its pose to publish; None when the filter takes it for an outlier."""


@dataclass
class Track:
    """One instance: its last accepted pose, velocity (3,) [m/s] and whether it was seen in the last image."""

    model: ObjectModel
    number: int
    pose: RigidTransform
    stamp: float
    velocity: FloatArray
    filter: Optional[PoseFilter] = None
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

    def __init__(self, settings: EstimatorSettings) -> None:
        self._settings = settings
        self._stamp = -np.inf
        self.tracks: List[Track] = []

    def reset(self) -> None:
        """Forget all instances and the last stamp."""
        self._stamp = -np.inf
        self.tracks = []

    def advance(self, stamp: float) -> str:
        """Move to the time of a new image: 'new', 'repeated', 'back', or 'pause' when a gap in the stamps has cost
        all instances. Drops timed-out tracks."""
        if stamp == self._stamp:
            return 'repeated'
        back = stamp < self._stamp
        if back:
            self.reset()
        gap, self._stamp = stamp - self._stamp, stamp
        known = len(self.tracks)
        self.tracks = [item for item in self.tracks if stamp - item.stamp <= self._settings.tracking_timeout_s]
        if back:
            return 'back'
        paused = known > 0 and gap > max(self._settings.tracking_timeout_s, LONGEST_STEP_S)
        return 'pause' if paused else 'new'

    def seen(self, name: Optional[str] = None) -> int:
        """How many instances (of one object) were seen in the last image."""
        return sum(item.seen for item in self.tracks if name in (None, item.model.name))

    def of(self, name: str) -> List[Track]:
        """Live tracks of one object."""
        return [item for item in self.tracks if item.model.name == name]

    def commit(self, accepted: Sequence[Candidate]) -> List[Committed]:
        """Give every accepted candidate its track, in order, with the pose to publish.

        Candidates and tracks are paired by their symmetry-aware distance, closest first and within reach of where
        the track is expected; what is left stays with the track whose region it came from, or starts a new one.
        The pose of an instance is canonical when it starts and then the equivalent that follows its last pose.
        """
        for item in self.tracks:
            item.seen = False
        chosen = self._nearest_pairs(accepted)
        for index, candidate in enumerate(accepted):
            for item in self.of(candidate.model.name):
                if index not in chosen and candidate.track == item.number and not item.seen:
                    item.seen, chosen[index] = True, item
        out: List[Committed] = []
        for index, candidate in enumerate(accepted):
            track = chosen.get(index)
            if track is not None:
                out.append((track, self._update(track, candidate)))
            else:
                out.append(self._take_over(candidate) or self._start(candidate))
        return out

    def _nearest_pairs(self, accepted: Sequence[Candidate]) -> Dict[int, Track]:
        """Track by index of the candidate: nearest pairs of one object, closest first.

        The distance is that of the corners of the 3D box, so two instances that lie close are told apart by how
        they are turned, unless the turn is a symmetry.
        """
        near = [
            (index, order)
            for index, candidate in enumerate(accepted)
            for order, item in enumerate(self.tracks)
            if item.model.name == candidate.model.name and self._apart(candidate, item) <= REACH * item.model.diameter
        ]
        # One pair needs no comparison, which is the usual case.
        pairs = near if len(near) == 1 else [pair[1:] for pair in sorted((self._cost(accepted, *p), *p) for p in near)]
        out: Dict[int, Track] = {}
        for index, order in pairs:
            if index not in out and not self.tracks[order].seen:
                self.tracks[order].seen = True
                out[index] = self.tracks[order]
        return out

    def _apart(self, candidate: Candidate, track: Track) -> float:
        gap = candidate.cam_from_obj.translation - track.expected(self._stamp).translation
        return float(np.linalg.norm(gap))

    def _cost(self, accepted: Sequence[Candidate], index: int, order: int) -> float:
        track = self.tracks[order]
        model, expected = track.model, track.expected(self._stamp)
        return symmetric_distance(accepted[index].cam_from_obj, expected, model.keypoints, model.symmetries)

    def _take_over(self, candidate: Candidate) -> Optional[Committed]:
        """The nearest unseen track, moved to the candidate, when the object may not have another one."""
        tracks = self.of(candidate.model.name)
        free = [item for item in tracks if not item.seen]
        if len(tracks) < self._settings.max_instances or not free:
            return None
        place = candidate.cam_from_obj.translation
        track = min(free, key=lambda item: float(np.linalg.norm(place - item.pose.translation)))
        pose = self._update(track, candidate)
        track.seen, track.velocity = True, np.zeros(3)
        return track, pose

    def _start(self, candidate: Candidate) -> Committed:
        model = candidate.model
        used = {item.number for item in self.of(model.name)}
        number = next(n for n in range(len(used) + 1) if n not in used)
        pose = canonical_pose(candidate.cam_from_obj, model.symmetries)
        track = Track(model, number, pose, self._stamp, np.zeros(3))
        if self._settings.filter:
            track.filter = PoseFilter(model, self._settings)
            track.filter.update(pose, pose, self._stamp)
        self.tracks.append(track)
        return track, pose

    def _update(self, track: Track, candidate: Candidate) -> Optional[RigidTransform]:
        """Move a track to a candidate; the pose to publish, or None for an outlier, which moves nothing."""
        pose = steady_equivalent(candidate.cam_from_obj, track.pose, track.model.symmetries)
        published: Optional[RigidTransform] = pose
        if track.filter is not None:
            published = track.filter.update(pose, track.expected(self._stamp), self._stamp)
            if published is None:
                return None
        step = self._stamp - track.stamp
        moved = pose.translation - track.pose.translation
        track.velocity = moved / step if 0 < step <= LONGEST_STEP_S else np.zeros(3)
        track.pose, track.stamp = pose, self._stamp
        return published
