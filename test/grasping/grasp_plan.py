"""From the pose of an object to the pose of a gripper: the grasps of grasps.yaml, and which of them can be reached.

Frames: world z is up and the table top is at z = 0. The hand's frame has its origin between the fingertips, x along
the fingers' width, y the direction in which they close, z the way the hand approaches. Metres, radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd6d_ros.errors import ConfigError
from kd6d_ros.strict_yaml import read_mapping
from kd6d_ros.types import RigidTransform

GRASPS = Path(__file__).with_name('grasps.yaml')
STEEPEST = math.radians(30.0)
"""Largest angle between approach and plumb line that the arm reaches."""
TABLE_CLEARANCE = 0.005
"""Least height of the fingertips above the table [m]."""


@dataclass(frozen=True, eq=False)
class Grasp:
    """One way to hold the object; `opening` [m] of the fingers before they close."""

    name: str
    obj_from_hand: RigidTransform
    opening: float


@dataclass(frozen=True, eq=False)
class PlannedGrasp:
    """A grasp at a place in the world."""

    name: str
    world_from_hand: RigidTransform
    opening: float


def load_grasps(path: Path = GRASPS) -> tuple[str, list[Grasp]]:
    """Name of the object frame, and the grasps in order of preference, each in both turns of the hand.

    Raises:
        ConfigError: the file cannot be read, or a grasp is incomplete or has axes that are none.
    """
    data = read_mapping(path)
    grasps: list[Grasp] = []
    try:
        for item in data['grasps']:
            opening = float(item['width']) + float(data['clearance'])
            for side in (1.0, -1.0):
                pose = _hand(np.array(item['tip'], float), side * np.array(item['closing'], float), item['approach'])
                grasps.append(Grasp(str(item['name']), pose, opening))
        return str(data['object_frame']), grasps
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f'{path}: not a list of grasps ({type(error).__name__}: {error}); see its comments') from None


def _hand(tip: np.ndarray, closing: np.ndarray, approach: list[float]) -> RigidTransform:
    z = np.array(approach, float)
    return RigidTransform(np.stack([np.cross(closing, z), closing, z], axis=1), tip)


def choose_grasp(grasps: list[Grasp], world_from_obj: RigidTransform) -> PlannedGrasp | None:
    """The first grasp that can be reached: from above, the fingertips clear of the table; None when there is none.

    Of the two turns of the hand the one that turns the wrist less.
    """
    reachable = []
    for index, grasp in enumerate(grasps):
        pose = world_from_obj @ grasp.obj_from_hand
        from_above = -pose.rotation[2, 2] >= math.cos(STEEPEST)
        if from_above and pose.translation[2] >= TABLE_CLEARANCE:
            wrist = abs(math.atan2(pose.rotation[1, 0], pose.rotation[0, 0]))
            reachable.append((index // 2, wrist, PlannedGrasp(grasp.name, pose, grasp.opening)))
    return min(reachable, key=lambda item: item[:2])[2] if reachable else None
