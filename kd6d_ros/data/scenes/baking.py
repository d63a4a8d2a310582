"""Few triangles, all the colour: decimate a mesh and bake its colours into a texture atlas.

A software rasteriser pays per triangle, a scan has 50,000 of them and its colours sit in the vertices. Each
decimated face gets half a square cell of the atlas, whose texels take the colour of the nearest point of the
original surface that looks the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data.mesh_files import decimate
from kd6d_ros.types import Mesh

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray, ImageArray

SAMPLES = 120_000
CREASE_COS = 0.55
NORMAL_WEIGHT = 0.03
"""Length, in diagonals of the mesh, that a unit change of normal counts when looking for the nearest point."""


def bake(mesh: Mesh, faces: int, texels: int = 10) -> Mesh:
    """A mesh of about `faces` triangles with a texture of `texels` texels along each edge.

    The result has three vertices of its own per face, normals that keep creases sharper than about 57
    degrees, and no vertex colours. A mesh that has few faces already is returned as it is.
    """
    if len(mesh.faces) <= faces:
        return mesh
    from scipy.spatial import cKDTree

    small = decimate(Mesh(mesh.vertices, mesh.faces), faces)
    triangles = small.faces[_spatial_order(small.vertices[small.faces].mean(axis=1))]
    corners = small.vertices[triangles]
    weight = NORMAL_WEIGHT * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    points, normals, colours = _surface_samples(mesh)
    tree = cKDTree(np.hstack([points, weight * normals]))
    face_normals = _face_normals(corners)
    uv, rows, columns, owner, bary = _atlas_layout(len(corners), texels)
    wanted = np.einsum('nk,nkd->nd', bary, corners[owner])
    _, nearest = tree.query(np.hstack([wanted, weight * face_normals[owner]]), workers=1)
    size = int(max(rows.max(), columns.max())) + 1
    texture: ImageArray = np.full((size, size, 3), 128, np.uint8)
    texture[rows, columns] = colours[nearest]
    uv = np.stack([uv[..., 0] / size, 1.0 - uv[..., 1] / size], axis=-1).reshape(-1, 2)
    return Mesh(
        corners.reshape(-1, 3),
        np.arange(3 * len(corners)).reshape(-1, 3),
        normals=_crease_normals(small.vertices, triangles, face_normals).reshape(-1, 3),
        uv=uv,
        texture=texture,
    )


def _face_normals(corners: FloatArray) -> FloatArray:
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30))


def _spatial_order(centres: FloatArray) -> AnyArray:
    """Faces along a Morton curve, so that neighbours in the atlas are neighbours on the object."""
    low, extent = centres.min(axis=0), np.ptp(centres, axis=0).max()
    cells = np.minimum((centres - low) / max(extent, 1e-12) * 64, 63).astype(np.int64)
    code = np.zeros(len(centres), np.int64)
    for bit in range(6):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(code, kind='stable')


def _surface_samples(mesh: Mesh) -> tuple[FloatArray, FloatArray, ImageArray]:
    """SAMPLES points on the surface, spread by area: positions, face normals, colours (uint8)."""
    rng = np.random.Generator(np.random.PCG64(7))
    corners = np.asarray(mesh.vertices)[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = np.searchsorted(np.cumsum(area) / area.sum(), (np.arange(SAMPLES) + 0.5) / SAMPLES)
    face = np.minimum(face, len(corners) - 1)
    root, second = np.sqrt(rng.random(SAMPLES)), rng.random(SAMPLES)
    bary = np.stack([1.0 - root, root * (1.0 - second), root * second], axis=1)
    points = np.einsum('nk,nkd->nd', bary, corners[face])
    return points, _face_normals(corners)[face], _colours_at(mesh, face, bary)


def _colours_at(mesh: Mesh, face: AnyArray, bary: FloatArray) -> ImageArray:
    if mesh.texture is not None and mesh.uv is not None:
        uv = np.einsum('nk,nkd->nd', bary, np.asarray(mesh.uv)[mesh.faces[face]])
        height, width = mesh.texture.shape[:2]
        column = np.minimum(((uv[:, 0] % 1.0) * width).astype(int), width - 1)
        row = np.minimum(((1.0 - uv[:, 1] % 1.0) * height).astype(int), height - 1)
        return np.asarray(mesh.texture[np.clip(row, 0, height - 1), column, :3], np.uint8)
    if mesh.colours is not None:
        colours = np.einsum('nk,nkd->nd', bary, np.asarray(mesh.colours, np.float64)[mesh.faces[face]][..., :3])
        return np.asarray(colours + 0.5, np.uint8)
    return np.full((len(face), 3), 190, np.uint8)


def _atlas_layout(faces: int, texels: int) -> tuple[FloatArray, AnyArray, AnyArray, AnyArray, FloatArray]:
    """Two faces share a square cell of (texels + 2)^2. Returns uv (F, 3, 2) in texels (y down) and for each
    texel its row, column, face and barycentric weights (clipped to the triangle)."""
    cell = texels + 2
    grid = int(np.ceil(np.sqrt((faces + 1) // 2)))
    lower = np.array([[0.5, 0.5], [cell - 1.5, 0.5], [0.5, cell - 1.5]])
    shapes = np.stack([lower, cell - lower])
    index = np.arange(faces)
    origin = np.stack([index // 2 % grid, index // 2 // grid], axis=1) * cell
    uv: FloatArray = shapes[index % 2] + origin[:, None]
    y, x = np.mgrid[0:cell, 0:cell].reshape(2, -1)
    half = (x + y + 1 > cell).astype(int)
    weights = np.empty((cell * cell, 3))
    for kind, (a, b, c) in enumerate(shapes):
        inverse = np.linalg.inv(np.stack([b - a, c - a], axis=1))
        chosen = half == kind
        bc = (np.stack([x, y], axis=1)[chosen] + 0.5 - a) @ inverse.T
        weights[chosen] = np.concatenate([1.0 - bc.sum(axis=1, keepdims=True), bc], axis=1)
    weights = np.clip(weights, 0.0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    owner = 2 * np.arange((faces + 1) // 2)[:, None] + half
    first = np.arange((faces + 1) // 2)
    rows = (first // grid * cell)[:, None] + y
    columns = (first % grid * cell)[:, None] + x
    valid = (owner < faces).ravel()
    bary = np.broadcast_to(weights, (*owner.shape, 3)).reshape(-1, 3)
    return uv, rows.ravel()[valid], columns.ravel()[valid], owner.ravel()[valid], bary[valid]


def _crease_normals(vertices: FloatArray, triangles: AnyArray, face_normals: FloatArray) -> FloatArray:
    """Normals (F, 3, 3) per corner: the mean of the faces around its vertex that look a similar way."""
    order = np.argsort(triangles.ravel(), kind='stable')
    owner = order // 3
    starts = np.searchsorted(triangles.ravel()[order], np.arange(len(vertices) + 1))
    area = np.linalg.norm(
        np.cross(
            vertices[triangles[:, 1]] - vertices[triangles[:, 0]],
            vertices[triangles[:, 2]] - vertices[triangles[:, 0]],
        ),
        axis=1,
    )
    normals = np.empty((len(triangles), 3, 3))
    for vertex in range(len(vertices)):
        around = order[starts[vertex] : starts[vertex + 1]]
        faces = owner[starts[vertex] : starts[vertex + 1]]
        n = face_normals[faces]
        near = (n @ n.T > CREASE_COS) * area[faces]
        mean = near @ n
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        normals[faces, around % 3] = np.where(length > 1e-12, mean / np.maximum(length, 1e-12), n)
    return normals
