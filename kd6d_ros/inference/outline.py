"""The outline of a mesh under a pose: where its silhouette ends in the image, and which points of the mesh are there.

An edge of the mesh lies on an outline where one of its two faces looks to the camera and the other does not. Of those
edges the ones before the object itself are left out: beyond the outline there must be no object any more. The same
edges give the silhouette: how often they wind around a pixel is how many faces it lies on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Tuple

import numpy as np

from kd6d_ros.geometry.simplify import simplified

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray, Mesh

    MeshEdges = Tuple[AnyArray, ...]

NEAREST = 1e-3
"""A mesh that comes nearer to the camera plane than this [m] has no outline."""

MOST_FACES = 2000
"""A finer mesh is simplified, as every face is looked at for each outline. With a third of it
the outlines of LM-O's objects are up to 1 % too wide or too narrow (standard deviation over views), and so is the
distance."""

FARTHEST_PX = 1e4
"""A mesh that reaches farther beside the picture than this has none either."""

BEYOND_PX = 2.0
"""How far outside of an edge there must be no object any more [px]."""


@dataclass(frozen=True, eq=False)
class OutlinePoints:
    """points (N, 3) [m, object frame], their pixels (N, 2) and the outward normals (N, 2) there; silhouette (H, W)
    uint8, 255 where the object is."""

    points: FloatArray
    pixels: FloatArray
    normals: FloatArray
    silhouette: AnyArray


class OutlineModel:
    """The edges of one mesh with the faces on both sides of them, ready to be seen from anywhere."""

    def __init__(self, mesh: Mesh) -> None:
        """`mesh`: a valid one (``validate_mesh``)."""
        vertices, faces = simplified(mesh.vertices, mesh.faces, MOST_FACES)
        self._vertices = np.array(vertices, np.float64, order='C')
        corners = self._vertices[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1)
        proper = length > 1e-9 * float(length.max())
        self._faces, self._normals = faces[proper], normals[proper] / length[proper, None]
        self._offsets = np.einsum('fd,fd->f', self._normals, corners[proper, 0])
        self._edges, self._sides, self._opposite, self._owned, forward = _edges(self._faces)
        self._forward = forward.reshape(3, -1)

    @property
    def arrays(self) -> MeshEdges:
        """Vertices (V, 3); normals (F, 3) and offsets (F,) of the faces' planes; edges, sides and opposite (E, 2);
        owned (3 F,) and forward (3, F), see ``_edges``."""
        kinds = (np.float64, np.float64, np.float64, np.int64, np.int64, np.int64, np.int64, np.float64)
        every = (
            self._vertices, self._normals, self._offsets, self._edges, self._sides, self._opposite, self._owned,
            self._forward,
        )  # fmt: skip
        return tuple(np.require(array, kind, 'C') for array, kind in zip(every, kinds, strict=True))

    def seen(
        self, rotation: FloatArray, translation: FloatArray, matrix: FloatArray, size: Tuple[int, int], count: int
    ) -> Optional[OutlinePoints]:
        """At most `count` points spread evenly over the outline.

        Args:
            rotation, translation: camera from object.
            matrix: (3, 3) of a camera without distortion and skew.
            size: width and height of the silhouette [px].

        Returns:
            None when the mesh comes too near to the camera, or none of it is seen.
        """
        moved = self._vertices @ rotation.T + translation
        if moved[:, 2].min() <= NEAREST:
            return None
        pixels = moved[:, :2] / moved[:, 2:] * np.diag(matrix)[:2] + matrix[:2, 2]
        if not (np.abs(pixels) < FARTHEST_PX).all():
            return None
        front = self._normals @ (-translation @ rotation) > self._offsets
        # Edges between two front faces are passed once in each direction and cancel out, whatever the mesh is like.
        turns = np.bincount(self._owned, (front * self._forward).reshape(-1), len(self._edges))
        rim = np.flatnonzero(turns)
        silhouette = _silhouette(pixels[self._edges[rim]], turns[rim], size)
        sides = front[self._sides] & (self._sides >= 0)
        chosen = np.flatnonzero(sides[:, 0] != sides[:, 1])
        ends = self._edges[chosen]
        opposite = self._opposite[chosen, np.where(sides[chosen, 0], 0, 1)]
        length = np.linalg.norm(pixels[ends[:, 1]] - pixels[ends[:, 0]], axis=1)
        real = length > 1e-6
        if not real.any():
            return None
        row, share = _spread(length[real], count)
        ends, opposite = ends[real][row], opposite[real][row]
        points, at, normals = self._on_edges(ends, opposite, share, pixels, moved[:, 2])
        free = ~_inside(silhouette, at + BEYOND_PX * normals)
        return OutlinePoints(points[free], at[free], normals[free], silhouette)

    def _on_edges(
        self, ends: AnyArray, opposite: AnyArray, share: FloatArray, pixels: FloatArray, depth: FloatArray
    ) -> Tuple[FloatArray, FloatArray, FloatArray]:
        """Points of the object, pixels and outward normals at `share` (N,) of the edges `ends` (N, 2)."""
        first, second = pixels[ends[:, 0]], pixels[ends[:, 1]]
        at = first + share[:, None] * (second - first)
        # Half-way in the image is not half-way on the edge.
        near, far = depth[ends[:, 0]], depth[ends[:, 1]]
        along = (share * near / (share * near + (1 - share) * far))[:, None]
        points = (1 - along) * self._vertices[ends[:, 0]] + along * self._vertices[ends[:, 1]]
        step = (second - first) / np.linalg.norm(second - first, axis=1, keepdims=True)
        normals = np.stack([step[:, 1], -step[:, 0]], axis=1)
        inward = np.einsum('nd,nd->n', pixels[opposite] - first, normals) > 0
        normals[inward] *= -1
        return points, at, normals


def _edges(faces: AnyArray) -> Tuple[AnyArray, AnyArray, AnyArray, AnyArray, FloatArray]:
    """Edges (E, 2), the faces (E, 2) on both sides (-1: none) and the third vertex (E, 2) of each, of an edge with more
    than two faces the first two count; and for the three edges of every face (3 F,), first edges first: which one it
    is, and 1 or -1 whether the face passes it from its first end to its second one or back."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    third = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    owner = np.tile(np.arange(len(faces)), 3)
    edges, inverse, count = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    order = np.argsort(inverse, kind='stable')
    first = np.cumsum(count) - count
    second = np.where(count > 1, first + 1, first)
    one, two = order[first], order[second]
    sides = np.stack([owner[one], np.where(count > 1, owner[two], -1)], axis=1)
    forward = np.where(directed[:, 0] < directed[:, 1], 1.0, -1.0)
    return edges, sides, np.stack([third[one], third[two]], axis=1), inverse, forward


def _spread(length: FloatArray, count: int) -> Tuple[AnyArray, FloatArray]:
    """For `count` places evenly over lines of these lengths, end to end: the line, and the share of it."""
    ends = np.cumsum(length)
    place = (np.arange(count) + 0.5) / count * ends[-1]
    row = np.minimum(np.searchsorted(ends, place, side='right'), len(length) - 1)
    share: FloatArray = np.clip(1.0 - (ends[row] - place) / length[row], 0.0, 1.0)
    return row, share


def _silhouette(ends: FloatArray, turns: AnyArray, size: Tuple[int, int]) -> AnyArray:
    """(H, W) uint8: 255 where the area touches the pixel whose rim has the parts `ends` (N, 2, 2) [px], each passed
    `turns` times."""
    out: AnyArray = (winding_numbers(ends[:, 0], ends[:, 1], turns, size) != 0).astype(np.uint8) * 255
    column, row = _touched(ends)
    within = (column >= 0) & (column < size[0]) & (row >= 0) & (row < size[1])
    out[row[within], column[within]] = 255
    return out


def _touched(ends: FloatArray) -> AnyArray:
    """Columns and rows (2, N) of the pixels on straight parts `ends` (P, 2, 2), one for each column or row, whichever
    a part has more of."""
    start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
    count = np.maximum(np.ceil(np.abs(step).max(axis=1)), 1.0)
    pixels = count.astype(np.int64) + 1
    part = np.repeat(np.arange(len(pixels)), pixels)
    number = np.arange(len(part)) - np.repeat(np.cumsum(pixels) - pixels, pixels)
    out: AnyArray = np.rint(start[part] + step[part] * (number / count[part])[:, None]).astype(np.int64).T
    return out


def winding_numbers(start: FloatArray, end: FloatArray, turns: AnyArray, size: Tuple[int, int]) -> AnyArray:
    """How often closed lines wind around each pixel's centre.

    Args:
        start, end: (N, 2) [px] of straight parts, in any order.
        turns: (N,) whole numbers, how often each part is passed from `start` to `end`.
        size: width and height of the answer [px].

    Returns:
        (H, W) whole numbers: the parts to the left of a pixel in its row, downward ones less upward ones.
    """
    width, height = size
    down = end[:, 1] > start[:, 1]
    top, bottom = np.where(down[:, None], start, end), np.where(down[:, None], end, start)
    first, last = np.clip(np.ceil([top[:, 1], bottom[:, 1]]), 0, height).astype(np.int64)
    rows = last - first
    part = np.repeat(np.arange(len(rows)), rows)
    row = np.arange(len(part)) - np.repeat(np.cumsum(rows) - rows - first, rows)
    lean = (bottom[:, 0] - top[:, 0]) / np.maximum(bottom[:, 1] - top[:, 1], 1e-12)
    column = np.clip(np.ceil(top[part, 0] + (row - top[part, 1]) * lean[part]), 0, width).astype(np.int64)
    signed = np.where(down, turns, -turns)[part]
    crossed = np.bincount(row * (width + 1) + column, signed, height * (width + 1)).reshape(height, width + 1)
    out: AnyArray = np.rint(np.cumsum(crossed, axis=1)[:, :width]).astype(np.int64)
    return out


def _inside(silhouette: AnyArray, pixels: FloatArray) -> AnyArray:
    """Whether the silhouette covers pixels (N, 2); outside of the picture it covers nothing."""
    column, row = np.round(pixels).astype(np.int64).T
    height, width = silhouette.shape
    within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    covered: AnyArray = within & (silhouette[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)] > 0)
    return covered
