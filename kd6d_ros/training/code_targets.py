"""What a dense network learns: the class and the surface code under each pixel of its map."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data.code_maps import CodeLookup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.training.surface_targets import SurfaceTargets
    from kd6d_ros.types import AnyArray, ObjectModel


def fingerprints(books: Sequence[CodeBook]) -> list[str]:
    """What tells the codes of each object from others."""
    return [hashlib.sha256(book.grid.tobytes()).hexdigest() for book in books]


class CodeTargets:
    """Codes of the surface points that ``surface_targets`` found, class by class.

    The points are those of the canonical pose (``FramePack``), so one image of a symmetric object has one code map.
    """

    def __init__(self, books: Sequence[CodeBook], objects: Sequence[ObjectModel]) -> None:
        self.lookup = CodeLookup(books)
        self.fingerprints = fingerprints(books)
        self.centre = np.array([(o.keypoints.min(0) + o.keypoints.max(0)) / 2 for o in objects])
        self.diameter = np.array([o.diameter for o in objects])

    def codes(self, surface: SurfaceTargets) -> AnyArray:
        """Codes (G,) uint16; 0 where there is no class."""
        owner = np.maximum(surface.classes.astype(np.int64), 0)
        points = surface.points * self.diameter[owner, None] + self.centre[owner]
        return self.lookup.codes(surface.classes, points)
