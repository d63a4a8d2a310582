"""Meshes as arrays: checks, diameter, keypoints, normals, surface samples. No file access here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.errors import MeshError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray, Mesh

MIN_DIAMETER = 0.005
MAX_DIAMETER = 10.0
MAX_VERTICES = 10_000_000
_CHUNK = 2_000_000


def validate_mesh(mesh: Mesh, name: str) -> None:
    """Refuse a mesh that cannot be rendered or measured; `name` starts the message (a file or object).

    Raises:
        MeshError: no vertices or faces, NaN, face indices out of range, no extent, or a diameter outside
            5 mm .. 10 m, which is nearly always a wrong unit.
    """
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or len(vertices) == 0:
        raise MeshError(f'{name}: mesh has no vertices (array shape {vertices.shape}, expected (V, 3))')
    if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0:
        raise MeshError(f'{name}: mesh has no faces (array shape {faces.shape}): export it with triangles')
    if len(vertices) > MAX_VERTICES:
        raise MeshError(f'{name}: {len(vertices)} vertices, at most {MAX_VERTICES}: decimate the mesh')
    if not np.isfinite(vertices).all():
        row = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
        raise MeshError(f'{name}: vertex {row} has NaN or infinite coordinates')
    if faces.min() < 0 or faces.max() >= len(vertices):
        wrong = int(faces.min() if faces.min() < 0 else faces.max())
        raise MeshError(f'{name}: a face names vertex {wrong} of {len(vertices)}')
    _check_size(vertices, name)


def _check_size(vertices: FloatArray, name: str) -> None:
    """The bounding-box diagonal bounds the diameter from above within sqrt(3): enough to tell units apart."""
    diagonal = float(np.linalg.norm(vertices.max(axis=0) - vertices.min(axis=0)))
    if diagonal <= 0:
        raise MeshError(f'{name}: mesh has no extent (all vertices coincide)')
    if diagonal > MAX_DIAMETER:
        cure = 'millimetres' if diagonal > 20 else 'centimetres'
        raise MeshError(
            f'{name}: mesh is {diagonal:.4g} m across (allowed {MIN_DIAMETER}..{MAX_DIAMETER:g} m): '
            f'is it in {cure}? give its unit'
        )
    if diagonal < MIN_DIAMETER:
        raise MeshError(
            f'{name}: mesh is {diagonal:.4g} m across (allowed {MIN_DIAMETER}..{MAX_DIAMETER:g} m): '
            'was it scaled to metres twice? give its unit'
        )


def bounding_box_corners(vertices: AnyArray) -> FloatArray:
    """Corners (8, 3) of the axis-aligned box around vertices (V, 3), in the vertices' unit.

    Corner i has the maximum of x if i & 4, of y if i & 2, of z if i & 1, else the minimum. Bundles and
    networks rely on this order.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    ends = np.stack([vertices.min(axis=0), vertices.max(axis=0)])
    bits = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
    corners: FloatArray = ends[bits, np.arange(3)]
    return corners


def diameter(vertices: AnyArray) -> float:
    """Largest distance between two of the vertices (V, 3), exactly, in their unit.

    Only vertices that can still be an end of a longer pair are compared: both distances from the centre
    must add up to at least the longest pair known so far.
    """
    points = np.unique(np.asarray(vertices, dtype=np.float64), axis=0)
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    radius = np.linalg.norm(points, axis=1)
    best = _farthest_pair_bound(points)
    order = np.argsort(-radius, kind='stable')
    points, radius = points[order], radius[order]
    keep = radius + radius[0] >= best
    points, radius = points[keep], radius[keep]
    start = 0
    while start < len(points) and 2 * radius[start] >= best:
        partners = int(np.searchsorted(-radius, radius[start] - best, side='right'))
        rows = max(1, _CHUNK // max(partners, 1))
        block = points[start : start + rows]
        best = max(best, _longest(block, points[:partners]))
        start += rows
    return best


def _farthest_pair_bound(points: FloatArray) -> float:
    """A long pair found by walking to the farthest vertex a few times: a lower bound of the diameter."""
    best, start = 0.0, points[0]
    for _ in range(8):
        distance = np.linalg.norm(points - start, axis=1)
        far = int(np.argmax(distance))
        if distance[far] <= best:
            break
        best, start = float(distance[far]), points[far]
    return best


def _longest(a: FloatArray, b: FloatArray) -> float:
    """Longest distance between rows of a (A, 3) and b (B, 3)."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    row, column = np.unravel_index(int(np.argmax(squared)), squared.shape)
    return float(np.linalg.norm(a[row] - b[column]))


def face_normals(vertices: AnyArray, faces: AnyArray) -> FloatArray:
    """Normals (F, 3) whose length is twice each triangle's area."""
    corner = np.asarray(vertices, dtype=np.float64)[np.asarray(faces)]
    normals: FloatArray = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    return normals


def vertex_normals(vertices: AnyArray, faces: AnyArray) -> FloatArray:
    """Unit normals (V, 3), area-weighted over the faces (F, 3) at each vertex; +z where there is none."""
    flat = face_normals(vertices, faces)
    total = np.zeros((len(vertices), 3))
    faces = np.asarray(faces)
    for corner in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(faces[:, corner], flat[:, axis], minlength=len(vertices))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    unit = total / np.where(length > 0, length, 1.0)
    return np.where(length > 0, unit, np.array([0.0, 0.0, 1.0]))


def surface_points(mesh: Mesh, count: int, rng: np.random.Generator) -> FloatArray:
    """`count` points (count, 3) drawn uniformly by area from the mesh surface, in the mesh's unit.

    Raises:
        MeshError: the surface has no area.
    """
    area = np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1)
    total = area.sum()
    if not total > 0:
        raise MeshError('surface_points: the mesh surface has no area')
    chosen = rng.choice(len(area), size=count, p=area / total)
    u, v = rng.random((2, count, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces[chosen]], 1, 0)
    points: FloatArray = a + u * (b - a) + v * (c - a)
    return points
