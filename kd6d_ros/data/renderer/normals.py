"""Vertex normals for meshes that carry none, and whether a mesh has an inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray


def vertex_normals(vertices: AnyArray, faces: AnyArray) -> FloatArray:
    """Area-weighted unit normals (V, 3)."""
    corners = np.asarray(vertices, np.float64)[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 0, normals / np.maximum(length, 1e-30), [0.0, 0.0, 1.0])


def is_closed(vertices: AnyArray, faces: AnyArray) -> bool:
    """Whether nearly every edge joins two faces of opposite sense and the faces look outwards: then back
    faces are never seen and need not be drawn. Equal positions count as one vertex."""
    _, joined = np.unique(np.round(vertices, 7), axis=0, return_inverse=True)
    triangles = np.asarray(joined).reshape(-1)[faces].astype(np.int64)
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    start, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    edges, opposite = start << 32 | end, end << 32 | start
    if len(edges) == 0 or np.isin(edges, opposite).mean() < 0.998:
        return False
    corners = np.asarray(vertices, np.float64)[faces]
    corners = corners - corners[0, 0]
    volume = np.einsum('ij,ij->', corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return bool(volume > 0)
