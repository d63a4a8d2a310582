"""The box that an object must lie in to be published, in whatever frame it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray, ObjectModel, RigidTransform


@dataclass(frozen=True, eq=False)
class Workspace:
    """Corners `low` and `high` (3,) [m] of a box in some frame, and where the camera of an image was in it."""

    low: FloatArray
    high: FloatArray
    frame_from_cam: RigidTransform

    def distance(self, model: ObjectModel, cam_from_obj: RigidTransform) -> float:
        """How far [m] the centre of the object's 3D box lies outside; 0 inside, NaN for a pose that is none."""
        centre = (model.keypoints.min(axis=0) + model.keypoints.max(axis=0)) / 2
        place = self.frame_from_cam.apply(cam_from_obj.apply(centre[None]))[0]
        outside = np.maximum(np.maximum(self.low - place, place - self.high), 0.0)
        return float(np.linalg.norm(outside))
