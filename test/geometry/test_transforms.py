"""Rotations, quaternions and rigid transforms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.errors import ShapeError
from kd6d_ros.geometry import transforms
from kd6d_ros.types import RigidTransform

seeds = st.integers(0, 2**32 - 1)


def random_transform(rng):
    return RigidTransform(transforms.random_rotation(rng), rng.normal(size=3))


def test_rotation_from_vector_by_hand():
    quarter = transforms.rotation_from_vector([0, 0, np.pi / 2])
    np.testing.assert_allclose(quarter, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-15)


@given(seeds, st.sampled_from([0.0, 1e-13, 1e-9, 1e-5, 0.3, 2.0, np.pi - 1e-7, np.pi - 1e-12, np.pi]))
def test_rotation_vectors_round_trip_at_all_angles(seed, angle):
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    rotation = transforms.rotation_from_vector(axis * angle)
    vector = transforms.vector_from_rotation(rotation)
    assert np.linalg.norm(vector) <= np.pi + 1e-12
    np.testing.assert_allclose(transforms.rotation_from_vector(vector), rotation, atol=2e-8)
    np.testing.assert_allclose(np.linalg.norm(vector), angle, atol=2e-8)


def test_quaternions_are_x_y_z_w():
    quarter = transforms.rotation_from_vector([np.pi / 2, 0, 0])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(transforms.quaternion_xyzw(quarter), [half, 0, 0, half], atol=1e-12)
    np.testing.assert_allclose(transforms.quaternion_xyzw(np.eye(3)), [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(transforms.rotation_from_xyzw([half, 0, 0, half]), quarter, atol=1e-12)


@given(seeds)
def test_quaternions_round_trip(seed):
    rotation = transforms.random_rotation(np.random.default_rng(seed))
    quaternion = transforms.quaternion_xyzw(rotation)
    assert quaternion[3] >= 0
    np.testing.assert_allclose(np.linalg.norm(quaternion), 1, atol=1e-12)
    np.testing.assert_allclose(transforms.rotation_from_xyzw(quaternion), rotation, atol=1e-12)
    np.testing.assert_allclose(transforms.rotation_from_xyzw(-3 * quaternion), rotation, atol=1e-12)


@given(seeds)
def test_quaternions_equal_transforms3d_in_our_order(seed):
    quaternions = pytest.importorskip('transforms3d.quaternions')
    rotation = transforms.random_rotation(np.random.default_rng(seed))
    w, x, y, z = quaternions.mat2quat(rotation)
    np.testing.assert_allclose(transforms.quaternion_xyzw(rotation), [x, y, z, w], atol=1e-9)
    np.testing.assert_allclose(transforms.rotation_from_xyzw([x, y, z, w]), rotation, atol=1e-12)


def test_zero_quaternion_is_refused():
    with pytest.raises(ShapeError, match='quaternion: its norm is zero'):
        transforms.rotation_from_xyzw([0, 0, 0, 0])
    with pytest.raises(ShapeError, match='quaternion: contains NaN'):
        transforms.rotation_from_xyzw([0, 0, np.nan, 1])


@given(seeds, st.floats(0, np.pi))
def test_rotation_angle_is_exact_at_both_ends(seed, angle):
    rng = np.random.default_rng(seed)
    base = transforms.random_rotation(rng)
    axis = rng.normal(size=3)
    turned = base @ transforms.rotation_from_vector(axis / np.linalg.norm(axis) * angle)
    np.testing.assert_allclose(transforms.rotation_angle(base, turned), angle, atol=1e-9)


def test_transform_distance():
    a = RigidTransform(np.eye(3), [0, 0, 1])
    b = RigidTransform(transforms.rotation_from_vector([0, 0.25, 0]), [0.3, 0, 1.4])
    assert transforms.transform_distance(a, b) == pytest.approx((0.5, 0.25))


@given(seeds)
def test_nearest_rotation_repairs_rounding(seed):
    rng = np.random.default_rng(seed)
    rotation = transforms.random_rotation(rng)
    repaired = transforms.nearest_rotation(np.round(rotation, 3))
    RigidTransform(repaired, np.zeros(3))
    assert transforms.rotation_angle(repaired, rotation) < 2e-3
    np.testing.assert_allclose(np.linalg.det(transforms.nearest_rotation(-rotation)), 1, atol=1e-9)


def test_random_rotations_cover_all_directions():
    rng = np.random.default_rng(0)
    rotations = np.array([transforms.random_rotation(rng) for _ in range(4000)])
    # Entries of uniform rotations have mean 0 and variance 1/3.
    assert np.abs(rotations.mean(axis=0)).max() < 0.04
    assert np.abs((rotations**2).mean(axis=0) - 1 / 3).max() < 0.03
    cosines = (np.trace(rotations, axis1=1, axis2=2) - 1) / 2
    assert cosines.mean() == pytest.approx(-0.5, abs=0.05)


def test_look_at_is_an_optical_frame():
    cam_from_world = transforms.look_at([2.0, 0, 1.0], [0, 0, 1.0])
    # In front of the camera is +z, up in the world is -y, and right of a camera looking along -x is +y.
    np.testing.assert_allclose(
        cam_from_world.apply([[0, 0, 1], [1, 0, 2], [1, 1, 1]]), [[0, 0, 2], [0, -1, 1], [1, 0, 1]], atol=1e-12
    )


@given(seeds)
def test_look_at_centres_the_target(seed):
    rng = np.random.default_rng(seed)
    eye, target = rng.normal(size=(2, 3))
    camera = transforms.look_at(eye, target)
    seen = camera.apply(target[None])[0]
    np.testing.assert_allclose(seen, [0, 0, np.linalg.norm(target - eye)], atol=1e-9)
    above = camera.apply(target[None] + [0, 0, 1e-3])[0]
    assert above[1] <= seen[1] + 1e-9


@pytest.mark.parametrize('eye', [[0, 0, 3.0], [0, 0, -3.0]])
def test_look_straight_along_up(eye):
    camera = transforms.look_at(eye, [0, 0, 0])
    np.testing.assert_allclose(camera.apply([[0, 0, 0]]), [[0, 0, 3]], atol=1e-12)


def test_look_at_itself_is_refused():
    with pytest.raises(ShapeError, match='eye and target coincide'):
        transforms.look_at([1, 2, 3], [1, 2, 3])


@given(seeds, st.floats(0, 1))
def test_interpolate_moves_at_constant_speed(seed, fraction):
    rng = np.random.default_rng(seed)
    a, b = random_transform(rng), random_transform(rng)
    middle = transforms.interpolate(a, b, fraction)
    whole = transforms.transform_distance(a, b)
    part = transforms.transform_distance(a, middle)
    np.testing.assert_allclose(part, [fraction * whole[0], fraction * whole[1]], atol=1e-7)
    end = transforms.transform_distance(transforms.interpolate(a, b, 1.0), b)
    np.testing.assert_allclose(end, [0, 0], atol=1e-7)


@given(seeds)
def test_rigid_transforms_form_a_group(seed):
    rng = np.random.default_rng(seed)
    a, b, points = random_transform(rng), random_transform(rng), rng.normal(size=(5, 3))
    np.testing.assert_allclose((a @ b).apply(points), a.apply(b.apply(points)), atol=1e-12)
    np.testing.assert_allclose((a @ a.inverse()).matrix(), np.eye(4), atol=1e-12)
    np.testing.assert_allclose((a @ b).matrix(), a.matrix() @ b.matrix(), atol=1e-12)
