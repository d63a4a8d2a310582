"""Fewer triangles for rendering, with the colours or the texture of the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Tuple

import numpy as np

from kd6d_ros.errors import MeshError
from kd6d_ros.geometry.meshes import face_normals, vertex_normals
from kd6d_ros.types import Mesh

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray, ImageArray, IntArray

_NEIGHBOURS = 24
"""Original triangles considered for one corner of a new one."""


def decimate(mesh: Mesh, faces: int, bake_texture: bool = False) -> Mesh:
    """The mesh with about `faces` triangles; the same mesh when it has no more.

    Vertex colours come from the nearest original vertex. Texture coordinates are looked up on the original
    surface, for each new triangle in one connected place of the picture, so that nothing smears across a
    seam; `bake_texture` asks for the texture's colours at the vertices instead of a texture.

    Raises:
        MeshError: `faces` below 4, or nothing sensible is left.
    """
    if faces < 4:
        raise MeshError(f'decimation to {faces} faces: expected at least 4')
    if len(mesh.faces) <= faces:
        return mesh
    vertices, triangles = _simplified(mesh, faces)
    if mesh.texture is not None and mesh.uv is not None and not bake_texture:
        return _textured(mesh, vertices, triangles)
    colours = mesh.colours if mesh.texture is None else sample_texture(mesh)
    if colours is not None:
        colours = colours[_tree(mesh.vertices).query(vertices)[1]]
    return Mesh(vertices, triangles, colours=colours)


def _simplified(mesh: Mesh, faces: int) -> Tuple[FloatArray, IntArray]:
    """Vertices and faces of the decimated surface."""
    import fast_simplification

    # Unique positions first: files split vertices along seams and the surface would tear there.
    points, joined = np.unique(mesh.vertices, axis=0, return_inverse=True)
    triangles = np.asarray(joined).reshape(-1)[mesh.faces]
    triangles = triangles[_proper(triangles)]
    if len(triangles) > faces:
        share = 1.0 - faces / len(triangles)
        points, triangles = fast_simplification.simplify(
            points.astype(np.float32), triangles.astype(np.int32), target_reduction=share
        )
    triangles = np.asarray(triangles, dtype=np.int64)
    triangles = triangles[_proper(triangles)]
    if len(triangles) < 4:
        raise MeshError(f'decimation to {faces} faces left nothing of the mesh; ask for more faces')
    used, renumbered = np.unique(triangles, return_inverse=True)
    vertices = np.asarray(points, dtype=np.float64)[used]
    # Quadric decimation keeps the volume by moving corners outwards: the box and so the keypoints must not grow.
    vertices = np.clip(vertices, mesh.vertices.min(axis=0), mesh.vertices.max(axis=0))
    return vertices, np.asarray(renumbered, dtype=np.int64).reshape(-1, 3)


def _textured(mesh: Mesh, vertices: FloatArray, triangles: IntArray) -> Mesh:
    """The new surface with texture coordinates from the original one; vertices are split along seams."""
    uv = _corner_uv(mesh, vertices[triangles])
    # Corners at one vertex with the same place in the picture are one vertex of the new mesh.
    key = np.column_stack([triangles.reshape(-1), np.rint(uv.reshape(-1, 2) * 1e5).astype(np.int64)])
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    split = vertices[triangles.reshape(-1)[first]]
    faces = np.asarray(inverse, dtype=np.int64).reshape(-1, 3)
    normals = seamless_normals(split, faces)
    return Mesh(split, faces, normals=normals, uv=uv.reshape(-1, 2)[first], texture=mesh.texture)


def _corner_uv(mesh: Mesh, corners: FloatArray) -> FloatArray:
    """Texture coordinates (F, 3, 2) for the corners (F, 3, 3) of new triangles.

    The original triangle nearest to a new one's centre says where in the picture the new one lies. A corner
    then takes the nearest original point that lies no farther from there than the texture's scale allows.
    """
    old, old_uv = mesh.vertices[mesh.faces], np.asarray(mesh.uv)[mesh.faces]
    tree = _tree(old.mean(axis=1))
    centres = corners.mean(axis=1)
    near = tree.query(centres, k=min(8, len(old)))[1].reshape(len(centres), -1)
    _, distance = _closest(old[near], centres[:, None])
    ours, theirs = np.cross(*_sides(corners)), face_normals(mesh.vertices, mesh.faces)
    # Thin parts have the other side close by: a triangle that faces away is not ours.
    away = (ours[:, None] * theirs[near]).sum(axis=2) < 0
    anchor = near[np.arange(len(near)), np.argmin(np.where(away, distance + 1e3, distance), axis=1)]
    uv_area = np.abs(_cross2(*_sides(old_uv[anchor])))
    scale = np.sqrt(uv_area / np.maximum(np.linalg.norm(theirs[anchor], axis=1), 1e-12))
    middle = old_uv[anchor].mean(axis=1)
    out = np.empty((len(corners), 3, 2))
    for index in range(3):
        points = corners[:, index]
        near = tree.query(points, k=min(_NEIGHBOURS, len(old)))[1].reshape(len(points), -1)
        near = np.concatenate([near, anchor[:, None]], axis=1)
        weights, distance = _closest(old[near], points[:, None])
        uv = (weights[..., None] * old_uv[near]).sum(axis=2)
        allowed = 2.0 * scale * np.linalg.norm(points - centres, axis=1)
        jump = np.linalg.norm(uv - middle[:, None], axis=2) > allowed[:, None]
        jump[:, -1] = False  # the anchor itself always fits
        best = np.argmin(np.where(jump, np.inf, distance), axis=1)
        out[:, index] = uv[np.arange(len(points)), best]
    return out


def _sides(triangles: AnyArray) -> Tuple[AnyArray, AnyArray]:
    return triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]


def _cross2(a: AnyArray, b: AnyArray) -> AnyArray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]  # type: ignore[no-any-return]


def _closest(triangles: AnyArray, points: AnyArray) -> Tuple[AnyArray, AnyArray]:
    """Barycentric weights (..., 3) of the point of each triangle (..., 3, 3) nearest to `points` (..., 3), and
    its distance (...)."""
    a, b, c = triangles[..., 0, :], triangles[..., 1, :], triangles[..., 2, :]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inside = np.stack([1 - v - w, v, w], axis=-1)
    options = [np.where((inside >= 0).all(axis=-1, keepdims=True), inside, np.nan)]
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, side = triangles[..., first, :], triangles[..., second, :] - triangles[..., first, :]
        length = np.maximum((side * side).sum(-1), 1e-30)
        along = np.clip(((points - start) * side).sum(-1) / length, 0, 1)
        weights = np.zeros_like(inside)
        weights[..., first], weights[..., second] = 1 - along, along
        options.append(weights)
    stacked = np.stack(options)
    placed = (stacked[..., None] * triangles).sum(axis=-2)
    distance = np.linalg.norm(placed - points, axis=-1)
    best = np.argmin(np.where(np.isnan(distance), np.inf, distance), axis=0)
    weights = np.take_along_axis(stacked, best[None, ..., None], axis=0)[0]
    return weights, np.take_along_axis(distance, best[None], axis=0)[0]


def _tree(points: AnyArray) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(points)


def _proper(triangles: AnyArray) -> AnyArray:
    """Which triangles have three different corners."""
    a, b, c = triangles.T
    return (a != b) & (b != c) & (a != c)  # type: ignore[no-any-return]


def seamless_normals(vertices: AnyArray, faces: AnyArray) -> FloatArray:
    """Unit normals (V, 3) as if vertices at one place were one: files split them along texture seams."""
    places, joined = np.unique(vertices, axis=0, return_inverse=True)
    joined = np.asarray(joined).reshape(-1)
    return vertex_normals(places, joined[faces])[joined]


def sample_texture(mesh: Mesh) -> ImageArray:
    """Texture colour (V, 3) uint8 at every vertex (nearest texel; coordinates repeat outside 0..1).

    Raises:
        MeshError: the mesh has no texture.
    """
    if mesh.texture is None or mesh.uv is None:
        raise MeshError('the mesh has no texture to sample')
    height, width = mesh.texture.shape[:2]
    # The far edge itself belongs to the picture: only what lies beyond it repeats.
    inside = np.where((mesh.uv < 0) | (mesh.uv > 1), mesh.uv - np.floor(mesh.uv), mesh.uv)
    column = np.minimum((inside[:, 0] * width).astype(np.int64), width - 1)
    row = np.minimum(((1.0 - inside[:, 1]) * height).astype(np.int64), height - 1)
    return mesh.texture[row, column]  # type: ignore[no-any-return]
