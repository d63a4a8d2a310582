"""What a BOP dataset holds, in this package's units (metres, x0 y0 x1 y1 boxes in pixel-centre coordinates).

BOP boxes ``x y w h`` span pixel centres (w = last column - first column), so x1 = x + w is the centre of the
last column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from kd6d_ros.types import RigidTransform, Symmetries

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray


@dataclass(frozen=True, eq=False)
class Annotation:
    """One annotated object instance of an image; `index` is its place in scene_gt (and in mask names).

    box_object (4,) spans the whole silhouette and may leave the image, box_visible (4,) the visible part;
    both are None when the dataset has no scene_gt_info, box_visible also when nothing is visible.
    visible_fraction in [0, 1]; pixels_all, pixels_visible are counts; all None without scene_gt_info.
    """

    obj_id: int
    cam_from_obj: RigidTransform
    index: int
    box_object: Optional[FloatArray] = None
    box_visible: Optional[FloatArray] = None
    visible_fraction: Optional[float] = None
    pixels_all: Optional[int] = None
    pixels_visible: Optional[int] = None


@dataclass(frozen=True)
class Target:
    """One line of a target list: `count` instances of `obj_id` are to be found in the image."""

    scene_id: int
    image_id: int
    obj_id: int
    count: int = 1


@dataclass(frozen=True, eq=False)
class BopDetection:
    """A detector's box (4,) = x0 y0 x1 y1 [px] for an object, score in [0, 1], `seconds` it took or None."""

    obj_id: int
    score: float
    box: FloatArray
    seconds: Optional[float] = None


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """Entry of models_info.json: diameter [m], bounding box (2, 3) = least and largest corner [m], symmetries."""

    diameter: float
    box: FloatArray
    symmetries: Symmetries
