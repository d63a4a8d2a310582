"""Whether the node and an offline run agree: the images that the node worked on, again, in its order, without ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence

from kd6d_ros.benchmark.offline import OfflineJob
from kd6d_ros.benchmark.rounds import run_in_turn
from kd6d_ros.benchmark.rows import published_pose
from kd6d_ros.errors import BagError
from kd6d_ros.geometry.transforms import transform_distance

if TYPE_CHECKING:
    from kd6d_ros.benchmark.records import PublishedPose

LIMIT = 1e-6
"""Metres and radians."""


@dataclass(frozen=True)
class Parity:
    """images: how many both worked on; poses: how many were compared; largest differences [m, rad]; other: images in
    which one has another set of instances than the other, by stamp [ns]."""

    images: int
    poses: int
    translation_m: float
    rotation_rad: float
    other: Sequence[int]

    @property
    def holds(self) -> bool:
        """Same instances in every image, and poses within LIMIT."""
        return not self.other and self.translation_m <= LIMIT and self.rotation_rad <= LIMIT

    def record(self) -> Dict[str, Any]:
        """Plain values."""
        return {**vars(self), 'other': len(self.other), 'limit': LIMIT, 'holds': self.holds}


def repeat_offline(job: OfflineJob) -> Dict[int, List[PublishedPose]]:
    """The poses of an offline run by stamp [ns].

    Raises:
        BagError: the images come in another order in the bag than in the job.
    """
    (log,) = run_in_turn({'offline': job}, 1, lambda text: None)
    if job.stamps is not None and list(log['stamps']) != list(job.stamps):
        raise BagError(f'{job.bag}: the node worked on the images in another order than that of the bag')
    rows = zip(log['stamps'], log['poses'], strict=True)
    return {stamp: [published_pose(item) for item in poses] for stamp, poses in rows}


def compare_poses(
    online: Mapping[int, Sequence[PublishedPose]], offline: Mapping[int, Sequence[PublishedPose]]
) -> Parity:
    """Image by image, instance by instance.

    Raises:
        BagError: the two are not about the same images.
    """
    if set(online) != set(offline):
        raise BagError(f'parity: {len(online)} images online, {len(offline)} offline, not the same ones')
    other, gaps = [], []
    for stamp in sorted(online):
        first = {pose.instance_id: pose for pose in online[stamp]}
        second = {pose.instance_id: pose for pose in offline[stamp]}
        if set(first) != set(second):
            other.append(stamp)
            continue
        gaps += [transform_distance(first[name].cam_from_obj, second[name].cam_from_obj) for name in first]
    translation, rotation = (max((gap[axis] for gap in gaps), default=0.0) for axis in (0, 1))
    return Parity(len(online), len(gaps), translation, rotation, tuple(other))
