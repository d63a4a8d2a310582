"""Where a camera at the wrist looks, and what several poses of one object say together.

A consumer of the node needs no more than this: each pose comes with a covariance, so poses from several places are
weighed by their certainty, those that contradict each other are left out, and a pose that is still uncertain is
looked at once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.geometry.transforms import look_at, rotation_from_vector, vector_from_rotation
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from collections.abc import Sequence

SEARCH_DISTANCE, SEARCH_ELEVATION = 0.95, math.radians(60.0)
LOOK_DISTANCE, LOOK_ELEVATION = 0.50, math.radians(55.0)
FROM = -math.pi / 2
"""Side of the table on which the robot stands: azimuth of the camera in its first looks."""
LOOK_TURNS = tuple(math.radians(angle) for angle in (0.0, 60.0, -60.0, 120.0, -120.0, 180.0))
"""Azimuths of the close looks from there: three at first, the others while the pose is uncertain."""
FIRST_LOOKS = 3
AGREEMENT = 16.81
"""99th percentile of chi-square with 6 degrees of freedom: poses further apart contradict each other."""
CERTAIN_M = 0.004
"""A pose is certain enough for the hand when its position's largest standard deviation is less [m]."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One pose as the node gave it, moved into the world: covariance (6, 6) of x y z and the rotation vector."""

    world_from_obj: RigidTransform
    covariance: np.ndarray

    @property
    def uncertainty_m(self) -> float:
        """Largest standard deviation of the position."""
        return math.sqrt(float(np.linalg.eigvalsh(self.covariance[:3, :3])[-1]))


def in_world(cam_from_obj: RigidTransform, covariance: np.ndarray, cam_from_world: RigidTransform) -> Seen:
    """A pose of the node and its covariance [camera axes] in the world."""
    turn = np.kron(np.eye(2), cam_from_world.rotation.T)
    return Seen(cam_from_world.inverse() @ cam_from_obj, turn @ covariance @ turn.T)


def search_views(table: Sequence[float]) -> list[RigidTransform]:
    """cam_from_world of four views that together see a table (centre x, y, size x, y, thickness)."""
    x, y, length, width = table[:4]
    centres = [(x + i * length / 4, y + j * width / 4) for j in (-1, 1) for i in (-1, 1)]
    return [_view(np.array([*centre, 0.0]), SEARCH_DISTANCE, SEARCH_ELEVATION, FROM) for centre in centres]


def close_views(place: np.ndarray) -> list[RigidTransform]:
    """cam_from_world of close looks at a place (3,) from several sides."""
    return [_view(place, LOOK_DISTANCE, LOOK_ELEVATION, FROM + turn) for turn in LOOK_TURNS]


def _view(place: np.ndarray, distance: float, elevation: float, azimuth: float) -> RigidTransform:
    flat = math.cos(elevation) * np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    return look_at(place + distance * (flat + np.array([0.0, 0.0, math.sin(elevation)])), place)


def together(seen: Sequence[Seen]) -> Seen | None:
    """The largest set of poses of which any two agree, fused; None while no two do.

    Among sets of equal size the one that is most certain. The fused pose is the mean weighted by the inverse
    covariances, about the first pose.
    """
    for size in range(len(seen), 1, -1):
        sets = [chosen for chosen in combinations(seen, size) if all(_agree(a, b) for a, b in combinations(chosen, 2))]
        if sets:
            return min((_fused(chosen) for chosen in sets), key=lambda item: item.uncertainty_m)
    return None


def _difference(a: Seen, b: Seen) -> np.ndarray:
    """(6,) from a to b: shift, and rotation vector in the world's axes."""
    shift = b.world_from_obj.translation - a.world_from_obj.translation
    turn = vector_from_rotation(b.world_from_obj.rotation @ a.world_from_obj.rotation.T)
    return np.concatenate([shift, turn])


def _agree(a: Seen, b: Seen) -> bool:
    apart = _difference(a, b)
    return float(apart @ np.linalg.solve(a.covariance + b.covariance, apart)) < AGREEMENT


def _fused(seen: Sequence[Seen]) -> Seen:
    first = seen[0].world_from_obj
    weights = [np.linalg.inv(item.covariance) for item in seen]
    covariance = np.linalg.inv(sum(weights))
    mean = covariance @ sum(weight @ _difference(seen[0], item) for weight, item in zip(weights, seen, strict=True))
    rotation = rotation_from_vector(mean[3:]) @ first.rotation
    return Seen(RigidTransform(rotation, first.translation + mean[:3]), covariance)
