"""Procedural distractor shapes of unit size (radius or half edge 0.5 m), with normals and uv."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data.renderer.normals import vertex_normals
from kd6d_ros.types import Mesh

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray

    Rng = np.random.Generator


def plane(half_size: float, repeats: float) -> Mesh:
    """A square in z = 0 with normal +z; the texture repeats `repeats` times along an edge."""
    square = np.array([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]]) * half_size
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) * repeats
    return Mesh(square, np.array([[0, 1, 2], [0, 2, 3]]), normals=np.tile([0.0, 0.0, 1.0], (4, 1)), uv=uv)


def _grid(rows: int, columns: int) -> AnyArray:
    """Faces of a (rows + 1) x (columns + 1) vertex grid."""
    index = np.arange((rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


def box() -> Mesh:
    """A cube with flat faces, each carrying the whole texture."""
    vertices: list[AnyArray] = []
    normals: list[AnyArray] = []
    uv: list[list[float]] = []
    faces: list[list[int]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            u, v = np.roll(np.eye(3), -axis - 1, axis=0)[:2][:: int(sign)]
            base = len(vertices)
            for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
                vertices.append(0.5 * normal + (a - 0.5) * u + (b - 0.5) * v)
                normals.append(normal)
                uv.append([a, b])
            faces += [[base, base + 1, base + 2], [base, base + 2, base + 3]]
    return Mesh(np.array(vertices), np.array(faces), normals=np.array(normals), uv=np.array(uv, float))


def revolved(profile: AnyArray, columns: int = 24) -> Mesh:
    """Turn a profile (n, 2) of (radius, z) about z. Sharp profiles repeat their points."""
    angle = np.linspace(0.0, 2.0 * np.pi, columns + 1)
    radius, z = profile[:, :1], profile[:, 1:]
    vertices = np.stack(
        [radius * np.cos(angle), radius * np.sin(angle), np.repeat(z, columns + 1, axis=1)], axis=-1
    ).reshape(-1, 3)
    u, v = np.meshgrid(angle / (2.0 * np.pi), np.linspace(0.0, 1.0, len(profile)))
    faces = _grid(len(profile) - 1, columns)
    normals = vertex_normals(vertices, faces).reshape(len(profile), columns + 1, 3)
    seam = normals[:, 0] + normals[:, -1]
    normals[:, 0] = normals[:, -1] = seam / np.maximum(np.linalg.norm(seam, axis=1, keepdims=True), 1e-9)
    return Mesh(vertices, faces, normals=normals.reshape(-1, 3), uv=np.stack([u.ravel(), v.ravel()], -1))


def cylinder() -> Mesh:
    """Closed, diameter and height 1."""
    return revolved(np.array([[0, -0.5], [0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [0.5, 0.5], [0, 0.5]], float))


def cone(rng: Rng) -> Mesh:
    top = rng.uniform(0.0, 0.45)
    return revolved(np.array([[0, -0.5], [0.5, -0.5], [0.5, -0.5], [top, 0.5], [top, 0.5], [0, 0.5]]))


def sphere() -> Mesh:
    angle = np.linspace(-np.pi / 2, np.pi / 2, 13)
    return revolved(0.5 * np.stack([np.cos(angle), np.sin(angle)], -1))


def vase(rng: Rng) -> Mesh:
    """A random smooth profile: bottles, bowls, knobs."""
    z = np.linspace(-0.5, 0.5, 12)
    knots = rng.uniform(0.12, 0.5, 5)
    radius = np.interp(z, np.linspace(-0.5, 0.5, 5), knots)
    radius[0] = radius[-1] = 0.0
    return revolved(np.stack([radius, z], -1), 20)


def blob(rng: Rng) -> Mesh:
    """A lumpy ball: a sphere pushed along a few random waves."""
    base = sphere()
    vertices = base.vertices.copy()
    for _ in range(5):
        wave = rng.normal(0.0, 5.0, 3)
        vertices = vertices * (1.0 + 0.14 * np.sin(base.vertices @ wave + rng.uniform(0, 6.28))[:, None])
    return Mesh(vertices, base.faces, normals=vertex_normals(vertices, base.faces), uv=base.uv)


def torus(rng: Rng) -> Mesh:
    minor = rng.uniform(0.05, 0.18)
    angle = np.linspace(0.0, 2.0 * np.pi, 13)
    return revolved(np.stack([0.5 - minor + minor * np.cos(angle), minor * np.sin(angle)], -1))


def shape_pool(rng: Rng, count: int = 24) -> list[Mesh]:
    """`count` shapes, boxes and cylinders most often."""
    makers = (lambda _: box(), lambda _: cylinder(), lambda _: sphere(), cone, vase, blob, torus)
    order = [0, 1, 4, 5, 2, 0, 3, 6]
    return [makers[order[i % len(order)]](rng) for i in range(count)]
