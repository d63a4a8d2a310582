"""Mesh checks and measures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.errors import MeshError
from kd6d_ros.geometry import meshes
from kd6d_ros.types import Mesh


def box(size=(0.1, 0.2, 0.3), low=(0.0, 0.0, 0.0)):
    bits = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], dtype=float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [tri for a, b, c, d in quads for tri in ((a, b, c), (a, c, d))]
    return Mesh(np.asarray(low) + bits * np.asarray(size), np.array(faces, dtype=np.int64))


def brute_force_diameter(points):
    return max(np.linalg.norm(points - point, axis=1).max() for point in points)


def test_corner_order_is_fixed():
    corners = meshes.bounding_box_corners(box((1, 2, 3), (10, 20, 30)).vertices[[7, 0, 3, 4]])
    expected = [[10, 20, 30], [10, 20, 33], [10, 22, 30], [10, 22, 33],
                [11, 20, 30], [11, 20, 33], [11, 22, 30], [11, 22, 33]]  # fmt: skip
    np.testing.assert_array_equal(corners, expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from(['cloud', 'sphere', 'line', 'grid']))
def test_diameter_is_exact(seed, count, kind):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3))
    if kind == 'sphere':
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    elif kind == 'line':
        points[:, 1:] = 0
    elif kind == 'grid':
        points = np.round(points * 2) / 2
    points += rng.normal(size=3)
    assert meshes.diameter(points) == pytest.approx(brute_force_diameter(points), abs=1e-9)


def test_diameter_of_a_box_is_its_diagonal():
    assert meshes.diameter(box().vertices) == pytest.approx(np.sqrt(0.14), abs=1e-15)


def test_diameter_of_many_points_on_a_sphere(monkeypatch):
    """The worst case: no vertex can be left out. Small chunks make it cross chunk borders."""
    monkeypatch.setattr(meshes, '_CHUNK', 50_000)
    rng = np.random.default_rng(4)
    points = rng.normal(size=(1500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert meshes.diameter(points) == pytest.approx(brute_force_diameter(points), abs=1e-12)


def test_normals_of_a_box_point_outward():
    mesh = box((1, 1, 1), (-0.5, -0.5, -0.5))
    flat = meshes.face_normals(mesh.vertices, mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), 1.0)
    centres = mesh.vertices[mesh.faces].mean(axis=1)
    assert ((flat * centres).sum(axis=1) > 0).all()
    normals = meshes.vertex_normals(mesh.vertices, mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)
    assert ((normals * mesh.vertices).sum(axis=1) > 0.5).all()


def test_unused_vertices_get_a_normal():
    vertices = np.concatenate([box().vertices, [[9.0, 9, 9]]])
    np.testing.assert_array_equal(meshes.vertex_normals(vertices, box().faces)[8], [0, 0, 1])


def test_surface_points_lie_on_the_surface_by_area():
    mesh = box((0.1, 0.2, 0.4))
    points = meshes.surface_points(mesh, 20000, np.random.default_rng(0))
    assert points.shape == (20000, 3)
    high = np.array([0.1, 0.2, 0.4])
    on_face = np.abs(np.stack([points, points - high])) < 1e-12
    assert on_face.any(axis=(0, 2)).all()
    # The two x faces hold 0.2 * 0.4 of 2 * (0.02 + 0.04 + 0.08) / 2 of the area.
    share = on_face[:, :, 0].any(axis=0).mean()
    assert share == pytest.approx(0.08 / 0.14, abs=0.015)
    np.testing.assert_array_equal(points, meshes.surface_points(mesh, 20000, np.random.default_rng(0)))


def test_a_good_mesh_passes():
    meshes.validate_mesh(box(), 'box')


def mesh_with(vertices=None, faces=None):
    good = box()
    return Mesh(good.vertices if vertices is None else vertices, good.faces if faces is None else faces)


NAN_VERTEX = box().vertices.copy()
NAN_VERTEX[5, 1] = np.nan


@pytest.mark.parametrize(
    ('mesh', 'message'),
    [
        (mesh_with(faces=np.zeros((0, 3), dtype=int)), 'mug.ply: mesh has no faces'),
        (mesh_with(vertices=np.zeros((0, 3))), 'mug.ply: mesh has no vertices'),
        (mesh_with(vertices=NAN_VERTEX), 'mug.ply: vertex 5 has NaN'),
        (mesh_with(faces=np.array([[0, 1, 8]])), 'a face names vertex 8 of 8'),
        (mesh_with(faces=np.array([[0, 1, -1]])), 'a face names vertex -1 of 8'),
        (mesh_with(vertices=np.full((8, 3), 0.3)), 'mesh has no extent'),
        (box((100.0, 60.0, 80.0)), r'mug.ply: mesh is 141\.4 m across .*is it in millimetres\? give its unit'),
        (box((10.0, 6.0, 8.0)), r'14\.14 m across .*is it in centimetres'),
        (box((1e-4, 6e-5, 8e-5)), r'0\.0001414 m across .*scaled to metres twice'),
    ],
)
def test_bad_meshes_are_refused(mesh, message):
    with pytest.raises(MeshError, match=message) as caught:
        meshes.validate_mesh(mesh, 'mug.ply')
    assert '\n' not in str(caught.value)


def test_a_surface_without_area_is_refused():
    with pytest.raises(MeshError, match='surface has no area'):
        meshes.surface_points(mesh_with(vertices=np.zeros((8, 3))), 3, np.random.default_rng(0))
