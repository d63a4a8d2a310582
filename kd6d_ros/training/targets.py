"""Which cells learn what: positives per object by the level allocation, the rest of the mask ignored.

Reference: Hu et al., CVPR 2021 (sampling inside the visible mask, Gaussian in log-scale over the levels).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd6d_ros.inference.allocation import allocate_cells

if TYPE_CHECKING:
    from kd6d_ros.networks.spec import NetworkSpec
    from kd6d_ros.training.recipe import AssignmentRecipe
    from kd6d_ros.types import AnyArray, Float32Array, IntArray

IGNORE = -1


class LabelledObject(NamedTuple):
    """One object in a window: class index, label value in the window's instance map, corners in window
    pixels (8, 2) and in the camera frame (8, 3) [m], diameter [m]."""

    class_index: int
    label: int
    corners_px: Float32Array
    corners_m: Float32Array
    diameter: float

    @property
    def size_px(self) -> float:
        """Longer side of the corners' box [window px]: what the level allocation goes by."""
        return float((self.corners_px.max(0) - self.corners_px.min(0)).max())


class Cells(NamedTuple):
    """Cells of a window in the network's order: integer pixel (A, 2) x y nearest to the centre, level (A,)."""

    pixel: IntArray
    level: IntArray


class CellTargets(NamedTuple):
    """score (A, C) int8 of {1, 0, IGNORE}; positives: cell (P,) and the object (P,) each belongs to."""

    score: AnyArray
    cell: IntArray
    owner: IntArray


@lru_cache(maxsize=8)
def window_cells(spec: NetworkSpec, size: int) -> Cells:
    """Cells of a square window of `size` pixels, in the order of ``KeypointNetwork.grid``."""
    pixels, levels = [], []
    for index, stride in enumerate(spec.strides):
        count = -(-size // stride)
        centre = np.minimum((np.arange(count) * stride + stride // 2), size - 1)
        yy, xx = np.meshgrid(centre, centre, indexing='ij')
        pixels.append(np.stack([xx, yy], -1).reshape(-1, 2))
        levels.append(np.full(count * count, index))
    return Cells(np.concatenate(pixels).astype(np.int64), np.concatenate(levels).astype(np.int64))


def assign_cells(
    labels: AnyArray,
    objects: list[LabelledObject],
    cells: Cells,
    spec: NetworkSpec,
    recipe: AssignmentRecipe,
    rng: np.random.Generator,
) -> CellTargets:
    """Draw positives for each object from the cells whose centre lies in its visible mask.

    labels (S, S) is the window's instance map. Unselected in-mask cells are ignored for the object's own
    class only: for the other classes they are negatives.
    """
    score = np.zeros((len(cells.level), spec.classes), np.int8)
    at_cell = labels[cells.pixel[:, 1], cells.pixel[:, 0]]
    chosen, owners = [], []
    for index, item in enumerate(objects):
        inside = np.flatnonzero(at_cell == item.label)
        score[inside, item.class_index] = IGNORE
        picks = _draw(inside, cells, item, spec, recipe, rng)
        if picks.size == 0:  # thin objects miss the centres of their own level
            picks = rng.permutation(inside)[: recipe.cells_per_object]
        if picks.size == 0:
            picks = _nearest_cell(labels, item, cells, spec)
        score[picks, item.class_index] = 1
        chosen.append(picks)
        owners.append(np.full(len(picks), index, np.int64))
    none = np.zeros(0, np.int64)
    return CellTargets(score, np.concatenate([none, *chosen]), np.concatenate([none, *owners]))


def _draw(
    inside: IntArray,
    cells: Cells,
    item: LabelledObject,
    spec: NetworkSpec,
    recipe: AssignmentRecipe,
    rng: np.random.Generator,
) -> IntArray:
    wanted = allocate_cells(item.size_px, spec.anchor_sizes, recipe.cells_per_object, recipe.sharpness)
    picks = []
    for level, count in enumerate(wanted):
        candidates = inside[cells.level[inside] == level]
        picks.append(rng.permutation(candidates)[:count])
    return np.concatenate(picks)


def _nearest_cell(labels: AnyArray, item: LabelledObject, cells: Cells, spec: NetworkSpec) -> IntArray:
    """An object too thin to hold any centre still gets the cell nearest to its visible centroid."""
    ys, xs = np.nonzero(labels == item.label)
    if len(xs) == 0:
        return np.zeros(0, np.int64)
    level = int(np.argmax(allocate_cells(item.size_px, spec.anchor_sizes, 10)))
    candidates = np.flatnonzero(cells.level == level)
    offset = cells.pixel[candidates] - np.array([xs.mean(), ys.mean()])
    nearest = candidates[int(np.argmin((offset**2).sum(1)))]
    return np.array([nearest], np.int64)
