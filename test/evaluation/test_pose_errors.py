"""Pose errors against naive loops over the published definitions and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.errors import ShapeError
from kd6d_ros.evaluation import pose_errors
from kd6d_ros.evaluation.nearest import NearestVertex
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.symmetries import symmetry_transforms
from kd6d_ros.geometry.transforms import random_rotation, rotation_from_vector
from kd6d_ros.types import ContinuousSymmetry, RigidTransform, Symmetries

seeds = st.integers(0, 2**32 - 1)
CAMERA = make_camera([[570, 0, 320], [0, 575, 240], [0, 0, 1]], 640, 480)
SQUARE = np.array([[0.1, 0.1, 0], [-0.1, 0.1, 0], [-0.1, -0.1, 0], [0.1, -0.1, 0]])
IDENTITY = [RigidTransform.identity()]
QUARTERS = Symmetries(
    tuple(RigidTransform(rotation_from_vector([0, 0, a * np.pi / 2]), np.zeros(3)) for a in (1, 2, 3))
)


def at(x=0.0, y=0.0, z=1.0, turn=0.0):
    return RigidTransform(rotation_from_vector([0, 0, turn]), [x, y, z])


def naive(estimate, truth, vertices, transforms):
    """ADD, ADI, MSSD, MSPD by the text of the definitions, one vertex at a time."""

    def move(pose, point):
        return [sum(pose.rotation[i][j] * point[j] for j in range(3)) + pose.translation[i] for i in range(3)]

    def pixel(p):
        return [570 * p[0] / p[2] + 320, 575 * p[1] / p[2] + 240]

    est = [move(estimate, v) for v in vertices]
    true = [move(truth, v) for v in vertices]
    add = sum(math.dist(a, b) for a, b in zip(est, true, strict=True)) / len(est)
    adi = sum(min(math.dist(a, b) for a in est) for b in true) / len(true)
    mssd, mspd = math.inf, math.inf
    for s in transforms:
        other = [move(truth, move(s, v)) for v in vertices]
        mssd = min(mssd, max(math.dist(a, b) for a, b in zip(est, other, strict=True)))
        mspd = min(mspd, max(math.dist(pixel(a), pixel(b)) for a, b in zip(est, other, strict=True)))
    return add, adi, mssd, mspd


@settings(max_examples=40)
@given(seeds, st.sampled_from(['none', 'quarters', 'continuous']))
def test_errors_equal_the_definitions(seed, kind):
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-0.1, 0.1, (25, 3))
    axis = ContinuousSymmetry(np.array([0, 0, 1.0]), np.array([0.01, 0.02, 0]))
    symmetries = {'none': Symmetries(), 'quarters': QUARTERS, 'continuous': Symmetries((), (axis,))}[kind]
    transforms = symmetry_transforms(symmetries, 0.3)
    truth = RigidTransform(random_rotation(rng), [*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.5, 1.5)])
    nudge = RigidTransform(rotation_from_vector(rng.normal(size=3) * rng.uniform(0, 1)), np.zeros(3))
    estimate = truth @ nudge
    estimate = RigidTransform(estimate.rotation, estimate.translation + rng.normal(size=3) * 0.02)
    add, adi, mssd, mspd = naive(estimate, truth, vertices, transforms)
    assert pose_errors.add(estimate, truth, vertices) == pytest.approx(add, abs=1e-12)
    assert pose_errors.adi(estimate, truth, vertices) == pytest.approx(adi, abs=1e-9)
    assert pose_errors.mssd(estimate, truth, vertices, transforms) == pytest.approx(mssd, abs=1e-12)
    assert pose_errors.mspd(estimate, truth, CAMERA, vertices, transforms) == pytest.approx(mspd, abs=1e-9)


def test_a_shift_is_the_error_in_every_measure():
    estimate, truth = at(0.03, 0, 1), at(0, 0.04, 1)
    assert pose_errors.add(estimate, truth, SQUARE) == pytest.approx(0.05)
    assert pose_errors.mssd(estimate, truth, SQUARE, IDENTITY) == pytest.approx(0.05)
    # (0.03 * 570, 0.04 * 575) px at one metre = (17.1, 23)
    expected = math.hypot(17.1, 23.0)
    assert pose_errors.mspd(estimate, truth, CAMERA, SQUARE, IDENTITY) == pytest.approx(expected)
    assert pose_errors.reprojection(estimate, truth, CAMERA, SQUARE) == pytest.approx(expected)
    assert pose_errors.translation_error(estimate, truth) == pytest.approx(0.05)


def test_a_quarter_turn_of_a_square():
    estimate, truth = at(turn=np.pi / 2), at()
    # Each corner moves along a side of length 0.2; with the symmetry nothing has moved.
    assert pose_errors.add(estimate, truth, SQUARE) == pytest.approx(0.2)
    assert pose_errors.adi(estimate, truth, SQUARE) == pytest.approx(0.0, abs=1e-7)
    assert pose_errors.mssd(estimate, truth, SQUARE, IDENTITY) == pytest.approx(0.2)
    transforms = symmetry_transforms(QUARTERS)
    assert pose_errors.mssd(estimate, truth, SQUARE, transforms) == pytest.approx(0.0, abs=1e-12)
    assert pose_errors.mspd(estimate, truth, CAMERA, SQUARE, transforms) == pytest.approx(0.0, abs=1e-9)
    assert pose_errors.rotation_error(estimate, truth) == pytest.approx(np.pi / 2)


def test_an_eighth_turn_of_a_square():
    estimate, truth = at(turn=np.pi / 4), at()
    # A corner at radius 0.1 * sqrt 2 turned by 45 degrees: chord 2 r sin(22.5 degrees), to every equivalent.
    chord = 2 * 0.1 * math.sqrt(2) * math.sin(math.pi / 8)
    transforms = symmetry_transforms(QUARTERS)
    assert pose_errors.mssd(estimate, truth, SQUARE, transforms) == pytest.approx(chord)
    assert pose_errors.adi(estimate, truth, SQUARE) == pytest.approx(chord, abs=1e-7)


def test_depth_error_hardly_moves_pixels():
    estimate, truth = at(z=1.1), at(z=1.0)
    assert pose_errors.mssd(estimate, truth, SQUARE, IDENTITY) == pytest.approx(0.1)
    # Corners at (57, 57.5) px from the centre shrink by a factor 1 / 1.1.
    assert pose_errors.mspd(estimate, truth, CAMERA, SQUARE, IDENTITY) == pytest.approx(
        math.hypot(57, 57.5) * (1 - 1 / 1.1)
    )


def test_continuous_symmetry_costs_at_most_half_a_step():
    """BOP turns in 315 steps: the vertex farthest from the axis is at most 1 % of the diameter off."""
    transforms = symmetry_transforms(Symmetries((), (ContinuousSymmetry(np.array([0, 0, 1.0]), np.zeros(3)),)))
    error = pose_errors.mssd(at(turn=1.2345), at(), SQUARE, transforms)
    assert error <= 0.1 * math.sqrt(2) * math.pi / 315 + 1e-12


def test_add_is_never_below_adi():
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(200, 3)) * 0.05
    for _ in range(20):
        estimate = RigidTransform(random_rotation(rng), [0, 0, 1])
        truth = RigidTransform(random_rotation(rng), [0.01, 0, 1])
        assert pose_errors.adi(estimate, truth, vertices) <= pose_errors.add(estimate, truth, vertices) + 1e-9


def test_poses_behind_the_camera_have_infinite_pixel_errors():
    behind, front = at(z=-1.0), at(z=1.0)
    assert pose_errors.mspd(behind, front, CAMERA, SQUARE, IDENTITY) == math.inf
    assert pose_errors.mspd(front, behind, CAMERA, SQUARE, IDENTITY) == math.inf
    assert pose_errors.reprojection(behind, front, CAMERA, SQUARE) == math.inf
    assert pose_errors.mssd(behind, front, SQUARE, IDENTITY) == pytest.approx(2.0)


@settings(max_examples=30)
@given(seeds, st.integers(1, 400), st.booleans())
def test_nearest_vertex_is_exact(seed, count, far):
    rng = np.random.default_rng(seed)
    offset = np.array([5.0, -3, 2]) if far else np.zeros(3)
    vertices = rng.normal(size=(count, 3)) * 0.05 + offset
    points = rng.normal(size=(50, 3)) * 0.08 + offset
    found = NearestVertex(vertices).distances(points)
    expected = np.linalg.norm(points[:, None] - vertices[None], axis=2).min(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_nearest_vertex_with_duplicates_and_without_vertices():
    found = NearestVertex(np.zeros((50, 3))).distances([[0, 0, 2.0]])
    np.testing.assert_allclose(found, [2.0])
    with pytest.raises(ShapeError, match=r'vertices: expected shape \(V, 3\) with V > 0'):
        NearestVertex(np.zeros((0, 3)))


def test_the_difference_of_poses_is_in_the_camera_axes():
    difference = pose_errors.pose_difference(at(0.01, turn=0.3), at(turn=0.1))
    np.testing.assert_allclose(difference, [0.01, 0, 0, 0, 0, 0.2], atol=1e-12)
