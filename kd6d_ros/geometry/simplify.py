"""Coarser meshes by NumPy alone, for a robot: vertices in a cell of a grid become one, where the faces' planes meet.

Reference: Lindstrom, "Out-of-Core Simplification of Large Polygonal Models", SIGGRAPH 2000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray, IntArray

FINEST = 48
"""Cells of the first grid along the longest side."""

COARSER = 0.8
FLAT = 1e-2
"""Directions in which the planes say less than this share of the most leave a vertex where the mean is."""


def merged(vertices: AnyArray, faces: AnyArray) -> Tuple[FloatArray, IntArray]:
    """The same surface with every place a vertex only once (files for rendering repeat them, for colours and normals),
    without the faces that are none."""
    vertices = np.asarray(vertices, dtype=np.float64)
    unit = 1e-6 * max(float(np.ptp(vertices, axis=0).max()), 1e-12)
    _, first, inverse = np.unique(np.round(vertices / unit), axis=0, return_index=True, return_inverse=True)
    return vertices[first], _proper(inverse.reshape(-1)[np.asarray(faces, dtype=np.int64)])


def simplified(vertices: AnyArray, faces: AnyArray, most: int) -> Tuple[FloatArray, IntArray]:
    """Vertices (W, 3) and at most `most` faces (G, 3), from (V, 3) and (F, 3); the unit stays."""
    vertices, faces = merged(vertices, faces)
    out = vertices, faces
    cells = float(FINEST)
    while len(out[1]) > most and cells >= 2:
        out = _clustered(vertices, faces, cells)
        cells *= COARSER
    return out


def _clustered(vertices: FloatArray, faces: IntArray, cells: float) -> Tuple[FloatArray, IntArray]:
    """One vertex for each cell of a grid with this many cells along the longest side."""
    low = vertices.min(axis=0)
    step = max(float(np.ptp(vertices, axis=0).max()), 1e-12) / cells
    _, inverse = np.unique(np.floor((vertices - low) / step), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    count = np.bincount(inverse)
    mean = _sums(inverse, vertices, len(count)) / count[:, None]
    new = inverse[faces]
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # Planes of the faces, weighted by area squared, as seen from the mean of the cluster of each of their corners.
    owner, normal, first = new.T.reshape(-1), np.tile(normal, (3, 1)), np.tile(corners[:, 0], (3, 1))
    height = np.einsum('fd,fd->f', normal, first - mean[owner])
    outer = (normal[:, :, None] * normal[:, None]).reshape(-1, 9)
    hessian = _sums(owner, outer, len(count)).reshape(-1, 3, 3)
    pull = _sums(owner, normal * height[:, None], len(count))
    moved = mean + np.clip(_least_squares(hessian, pull), -step, step)
    return moved, _proper(new)


def _sums(group: IntArray, values: FloatArray, count: int) -> FloatArray:
    """Sums (count, K) of the rows of values (N, K) that belong to one group."""
    columns = [np.bincount(group, column, minlength=count) for column in values.T]
    out: FloatArray = np.stack(columns, axis=1)
    return out


def _least_squares(hessian: FloatArray, pull: FloatArray) -> FloatArray:
    """Shifts (N, 3) that solve hessian (N, 3, 3) @ shift = pull, zero in directions that hardly matter."""
    values, vectors = np.linalg.eigh(hessian)
    usable = values > FLAT * np.maximum(values[:, -1:], 1e-300)
    inverse = np.where(usable, 1.0 / np.where(usable, values, 1.0), 0.0)
    along = np.einsum('nij,ni->nj', vectors, pull)
    out: FloatArray = np.einsum('nij,nj->ni', vectors, inverse * along)
    return out


def _proper(faces: IntArray) -> IntArray:
    """Without faces that became a line, and each face once."""
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    kept = faces[whole]
    _, first = np.unique(np.sort(kept, axis=1), axis=0, return_index=True)
    out: IntArray = kept[np.sort(first)]
    return out
