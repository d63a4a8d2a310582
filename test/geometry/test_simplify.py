"""Coarser meshes keep their size and place."""

import numpy as np
import pytest

from kd6d_ros.geometry.simplify import merged, simplified


def ball(radius=0.05, rows=60, columns=120):
    """A closed UV sphere whose poles and seam repeat vertices, as files for rendering do."""
    polar, around = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns), indexing='ij')
    vertices = radius * np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1
    ).reshape(-1, 3)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def test_repeated_vertices_become_one():
    vertices, faces = ball(rows=10, columns=20)
    points, triangles = merged(vertices, faces)
    assert len(points) == 8 * 19 + 2
    assert len(triangles) == 2 * 19 * 7 + 2 * 19
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


@pytest.mark.parametrize('most', [200, 700])
def test_a_ball_stays_a_ball(most):
    points, triangles = simplified(*ball(), most)
    assert 0.3 * most < len(triangles) <= most
    corners = points[triangles]
    centres = np.linalg.norm(corners.mean(axis=1), axis=1)
    assert np.abs(np.linalg.norm(points[np.unique(triangles)], axis=1) / 0.05 - 1).max() < 0.04
    assert centres.min() > 0.9 * 0.05
    volume = np.einsum('fd,fd->f', corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert abs(volume) == pytest.approx(4 / 3 * np.pi * 0.05**3, rel=0.06)


def test_the_corners_of_a_box_stay_corners():
    grid = np.linspace(-1, 1, 30)
    u, v = (item.ravel() for item in np.meshgrid(grid, grid))
    index = np.arange(900).reshape(30, 30)
    a, b, c, d = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    square = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    sides, faces = [], []
    for axis in range(3):
        for end in (-1.0, 1.0):
            side = np.empty((900, 3))
            side[:, axis], side[:, (axis + 1) % 3], side[:, (axis + 2) % 3] = end, u, v
            sides.append(side * [0.04, 0.03, 0.02])
            faces.append(square + 900 * len(faces))
    points, triangles = simplified(np.concatenate(sides), np.concatenate(faces), 400)
    assert len(triangles) <= 400
    used = points[np.unique(triangles)]
    np.testing.assert_allclose(used.max(axis=0), [0.04, 0.03, 0.02], rtol=1e-6)
    np.testing.assert_allclose(used.min(axis=0), [-0.04, -0.03, -0.02], rtol=1e-6)
    for corner in np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * [0.04, 0.03, 0.02]:
        assert np.linalg.norm(used - corner, axis=1).min() < 1e-6


def test_a_small_mesh_is_left_as_it_is():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    points, triangles = simplified(vertices, faces, 100)
    np.testing.assert_array_equal(
        np.sort(points[triangles].reshape(-1, 9), axis=0), np.sort(vertices[faces].reshape(-1, 9), axis=0)
    )
