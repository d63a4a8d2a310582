"""What the evaluation compares: objects, targets with their ground truth, and estimates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional, Tuple

from kd6d_ros.types import Camera, RigidTransform, Symmetries

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray


@dataclass(frozen=True, eq=False)
class EvaluationObject:
    """An object to be scored: diameter [m], vertices (V, 3) [m] of its (evaluation) mesh, symmetries."""

    obj_id: int
    diameter: float
    vertices: FloatArray
    symmetries: Symmetries = field(default_factory=Symmetries)
    name: str = ''


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """One annotated instance; visible_fraction in [0, 1], or None where the dataset does not say."""

    cam_from_obj: RigidTransform
    visible_fraction: Optional[float] = None


@dataclass(frozen=True, eq=False)
class EvaluationTarget:
    """`count` instances of an object to be found in one image.

    `truths` are all annotated instances of the object in the image; the `count` most visible are scored.
    """

    scene_id: int
    image_id: int
    obj_id: int
    count: int
    camera: Camera
    truths: Tuple[GroundTruth, ...]


@dataclass(frozen=True, eq=False)
class Estimate:
    """One estimated pose. `seconds` is the time spent on its whole image, -1 when unknown (as in BOP)."""

    scene_id: int
    image_id: int
    obj_id: int
    score: float
    cam_from_obj: RigidTransform
    seconds: float = -1.0
