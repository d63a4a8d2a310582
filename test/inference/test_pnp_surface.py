"""PnP on corners and surface points: exact without noise, better than corners alone, robust against either."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.inference.pnp import solve_pose
from kd6d_ros.inference.pnp_surface import LEAST_POINTS, solve_with_surface
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.inference.surface import SurfaceCloud

MATRIX = np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]])
GRID = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
LOW, SIZE = np.array([-0.05, -0.04, -0.06]), np.array([0.10, 0.08, 0.12])
CORNERS = LOW + GRID * SIZE
DIAMETER = float(np.linalg.norm(SIZE))
HALF_TURN = np.diag([-1.0, -1.0, 1.0])
LENSES = {
    'none': (),
    'plumb_bob': (-0.28, 0.07, 0.001, -0.0005, 0.0),
    'rational_polynomial': (0.4, -0.1, 0.0002, 0.0001, 0.01, 0.7, -0.05, 0.02),
    'equidistant': (0.02, -0.01, 0.003, -0.001),
}
PINHOLE = make_camera(MATRIX, 640, 480)


def pose(seed):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    rotation = cv2.Rodrigues(axis / np.linalg.norm(axis) * rng.uniform(0, np.pi))[0]
    depth = rng.uniform(0.4, 1.2)
    return rotation, np.array([rng.uniform(-0.2, 0.2) * depth, rng.uniform(-0.15, 0.15) * depth, depth])


def add(result, rotation, translation):
    """Mean distance of the corners, as a share of the diameter."""
    truth = CORNERS @ rotation.T + translation
    return np.linalg.norm(result.cam_from_obj.apply(CORNERS) - truth, axis=1).mean() / DIAMETER


def corner_cloud(camera, rotation, translation, cells, noise, seed):
    pixels = project(camera, CORNERS @ rotation.T + translation)
    size = np.ptp(pixels, axis=0).max()
    return pixels + np.random.default_rng(seed).normal(0, noise * size, (cells, 8, 2)), size


def surface(camera, rotation, translation, count, noise=0.0, seed=0):
    """`count` points on the faces of the box that look at the camera, moved by `noise` diameters afterwards."""
    rng = np.random.default_rng(seed)
    rows = []
    for axis in range(3):
        for side in (0, 1):
            points = LOW + rng.uniform(0, 1, (200, 3)) * SIZE
            points[:, axis] = LOW[axis] + side * SIZE[axis]
            normal = rotation[:, axis] * (2 * side - 1)
            rows.append(points[(points @ rotation.T + translation) @ normal < 0])
    points = np.concatenate(rows)
    points = points[rng.permutation(len(points))[:count]]
    assert len(points) == count
    pixels = project(camera, points @ rotation.T + translation)
    return SurfaceCloud(points + rng.normal(0, noise * DIAMETER, points.shape), pixels, np.full(count, 0.9))


def joined(cloud, **changes):
    return SurfaceCloud(**{'points': cloud.points, 'pixels': cloud.pixels, 'weights': cloud.weights, **changes})


def bits(result):
    return result.cam_from_obj.matrix().tobytes(), result.inliers.tobytes(), result.rms


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), lens=st.sampled_from(sorted(LENSES)), count=st.sampled_from([8, 40, 200]))
def test_exact_correspondences_give_the_exact_pose(seed, lens, count):
    camera = make_camera(MATRIX, 640, 480, lens, LENSES[lens])
    rotation, translation = pose(seed)
    pixels, size = corner_cloud(camera, rotation, translation, 3, 0.0, 0)
    cloud = surface(camera, rotation, translation, count, seed=seed)
    result = solve_with_surface(CORNERS, pixels, np.ones(3), cloud, camera, 0.06 * size)
    assert add(result, rotation, translation) < 1e-4
    assert result.inliers.shape == (24 + count,)
    assert result.inliers.dtype == np.bool_
    assert result.inliers.all()
    assert result.rms < 0.01


@pytest.mark.parametrize('lens', ['none', 'plumb_bob'])
def test_surface_points_sharpen_the_pose_of_noisy_corners(lens):
    """Corners with 3 % of the size as noise, points with 1 % of the diameter: the median error at least halves."""
    camera = make_camera(MATRIX, 640, 480, lens, LENSES[lens])
    alone, both = [], []
    for seed in range(50):
        rotation, translation = pose(seed)
        pixels, size = corner_cloud(camera, rotation, translation, 10, 0.03, seed)
        # Cells agree with each other in what they get wrong, which no averaging over cells takes away.
        pixels = pixels + np.random.default_rng(seed + 500).normal(0, 0.03 * size, (8, 2))
        cloud = surface(camera, rotation, translation, 60, 0.01, seed)
        limit = max(3.0, 0.06 * size)
        alone.append(add(solve_pose(CORNERS, pixels, np.ones(10), camera, limit), rotation, translation))
        both.append(add(solve_with_surface(CORNERS, pixels, np.ones(10), cloud, camera, limit), rotation, translation))
    assert np.median(both) < 0.5 * np.median(alone)
    assert np.mean(np.array(both) < np.array(alone)) > 0.7
    assert np.median(alone) > 0.02  # the corners left something to gain


def test_corners_of_the_wrong_side_are_outvoted():
    """All corners agree on the object turned by 180 degrees about z; 60 surface points say otherwise."""
    errors = []
    for seed in range(30):
        rotation, translation = pose(seed)
        turned = rotation @ HALF_TURN
        pixels, size = corner_cloud(PINHOLE, turned, translation, 10, 0.005, seed)
        limit = max(3.0, 0.06 * size)
        fooled = solve_pose(CORNERS, pixels, np.ones(10), PINHOLE, limit)
        assert add(fooled, turned, translation) < 0.05
        assert add(fooled, rotation, translation) > 0.2
        cloud = surface(PINHOLE, rotation, translation, 60, 0.005, seed)
        result = solve_with_surface(CORNERS, pixels, np.ones(10), cloud, PINHOLE, limit)
        errors.append(add(result, rotation, translation))
        assert result.inliers[80:].mean() > 0.9
        assert result.inliers[:80].mean() < 0.5
    assert np.median(errors) < 0.02
    assert np.max(errors) < 0.1


def test_wrong_points_against_good_corners_never_look_like_agreement():
    """Surface points of another instance weigh more than corners: what they win must fail the gate."""
    rotation, translation = pose(5)
    pixels, size = corner_cloud(PINHOLE, rotation, translation, 10, 0.003, 5)
    cloud = surface(PINHOLE, rotation, translation, LEAST_POINTS, seed=5)
    moved = joined(cloud, pixels=cloud.pixels + np.array([0.5 * size, 0.0]))
    result = solve_with_surface(CORNERS, pixels, np.ones(10), moved, PINHOLE, 0.06 * size)
    assert add(result, rotation, translation) < 0.02 or result.inliers.mean() < EstimatorSettings().min_inlier_ratio


def test_a_third_of_wrong_surface_points_does_not_spoil_the_pose():
    errors = []
    for seed in range(50):
        rotation, translation = pose(seed)
        pixels, size = corner_cloud(PINHOLE, rotation, translation, 10, 0.02, seed)
        cloud = surface(PINHOLE, rotation, translation, 60, 0.01, seed)
        rng = np.random.default_rng(seed + 9)
        points = cloud.points.copy()
        points[:20] = LOW + rng.uniform(0, 1, (20, 3)) * SIZE  # anywhere in the box, under the wrong pixel
        far = np.linalg.norm(points[:20] - cloud.points[:20], axis=1) > 0.5 * DIAMETER
        result = solve_with_surface(CORNERS, pixels, np.ones(10), joined(cloud, points=points), PINHOLE, 0.06 * size)
        errors.append(add(result, rotation, translation))
        assert result.inliers[80:][:20][far].mean() < 0.5
        assert result.inliers[80:][20:].mean() > 0.9
    assert np.median(errors) < 0.02
    assert np.quantile(errors, 0.9) < 0.06
    assert np.max(errors) < 0.15  # such noise may leave one of fifty in a neighbouring minimum


@pytest.mark.parametrize('count', [0, 1, LEAST_POINTS - 1, None])
def test_too_few_points_change_nothing(count):
    rotation, translation = pose(8)
    pixels, size = corner_cloud(PINHOLE, rotation, translation, 10, 0.03, 8)
    cloud = None if count is None else surface(PINHOLE, rotation, translation, count)
    alone = solve_pose(CORNERS, pixels, np.ones(10), PINHOLE, 0.06 * size)
    result = solve_with_surface(CORNERS, pixels, np.ones(10), cloud, PINHOLE, 0.06 * size)
    assert bits(result) == bits(alone)
    assert result.inliers.shape == (10, 8)


def test_one_more_point_is_enough_to_be_heard():
    rotation, translation = pose(8)
    pixels, size = corner_cloud(PINHOLE, rotation, translation, 10, 0.03, 8)
    cloud = surface(PINHOLE, rotation, translation, LEAST_POINTS)
    alone = solve_pose(CORNERS, pixels, np.ones(10), PINHOLE, 0.06 * size)
    result = solve_with_surface(CORNERS, pixels, np.ones(10), cloud, PINHOLE, 0.06 * size)
    assert result.inliers.shape == (80 + LEAST_POINTS,)
    assert bits(result)[0] != bits(alone)[0]


def test_surface_points_alone_give_the_pose_when_no_corner_is_usable():
    rotation, translation = pose(6)
    cloud = surface(PINHOLE, rotation, translation, 60, seed=6)
    pixels = np.full((3, 8, 2), np.nan)
    assert solve_pose(CORNERS, pixels, np.ones(3), PINHOLE, 4.0) is None
    result = solve_with_surface(CORNERS, pixels, np.ones(3), cloud, PINHOLE, 4.0)
    assert add(result, rotation, translation) < 1e-3
    assert not result.inliers[:24].any()
    assert result.inliers[24:].all()


@pytest.mark.parametrize('part', ['points', 'pixels'])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_numbers_that_overflowed_are_left_out(part, value):
    rotation, translation = pose(4)
    pixels, size = corner_cloud(PINHOLE, rotation, translation, 5, 0.0, 4)
    cloud = surface(PINHOLE, rotation, translation, 40, seed=4)
    values = getattr(cloud, part).copy()
    values[3, 1], values[7] = value, value
    result = solve_with_surface(CORNERS, pixels, np.ones(5), joined(cloud, **{part: values}), PINHOLE, 0.06 * size)
    assert add(result, rotation, translation) < 1e-4
    assert np.flatnonzero(~result.inliers).tolist() == [40 + 3, 40 + 7]
    whole = joined(cloud, **{part: np.full_like(values, value)})
    result = solve_with_surface(CORNERS, pixels, np.ones(5), whole, PINHOLE, 0.06 * size)
    assert add(result, rotation, translation) < 1e-4
    assert not result.inliers[40:].any()


@pytest.mark.parametrize('length', [2.0, 1e6, 1e38])
def test_points_behind_the_camera_or_far_away_are_outliers_like_others(length):
    """An absurd point must not cost the pose that everything else agrees on."""
    rotation, translation = pose(9)
    pixels, size = corner_cloud(PINHOLE, rotation, translation, 10, 0.0, 9)
    cloud = surface(PINHOLE, rotation, translation, 40, seed=9)
    points = cloud.points.copy()
    points[:4] = rotation.T @ [0, 0, -length]
    points[4] = rotation.T @ -translation  # in the centre of projection
    points[5] = rotation.T @ [length, 0, 0]
    result = solve_with_surface(CORNERS, pixels, np.ones(10), joined(cloud, points=points), PINHOLE, 0.06 * size)
    assert add(result, rotation, translation) < 2e-3
    assert not result.inliers[[80, 81, 82, 83, 85]].any()
    assert result.inliers[:80].all()
    assert result.inliers[86:].all()


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.01, 1.0, 1e3]), count=st.integers(0, 60))
def test_nonsense_gives_none_or_a_finite_pose_in_front(seed, scale, count):
    rng = np.random.default_rng(seed)
    cloud = SurfaceCloud(rng.normal(0, scale, (count, 3)), rng.uniform(-100, 700, (count, 2)), np.ones(count))
    result = solve_with_surface(CORNERS, rng.uniform(0, 400, (10, 8, 2)), np.ones(10), cloud, PINHOLE, 5.0)
    if result is not None:
        assert np.isfinite(result.cam_from_obj.matrix()).all()
        assert result.cam_from_obj.translation[2] > 0
        assert result.rms <= 5.0
        assert result.count < 0.5 * result.inliers.size


def test_the_same_clouds_give_the_same_bits():
    rotation, translation = pose(7)
    pixels, size = corner_cloud(PINHOLE, rotation, translation, 10, 0.05, 7)
    cloud = surface(PINHOLE, rotation, translation, 60, 0.02, 7)
    first = solve_with_surface(CORNERS, pixels, np.ones(10), cloud, PINHOLE, 0.06 * size)
    for _ in range(3):
        assert bits(solve_with_surface(CORNERS, pixels, np.ones(10), cloud, PINHOLE, 0.06 * size)) == bits(first)


def test_the_clouds_are_not_written_to():
    rotation, translation = pose(7)
    pixels, size = corner_cloud(PINHOLE, rotation, translation, 10, 0.05, 7)
    cloud = surface(PINHOLE, rotation, translation, 40)
    cloud.points[0] = np.nan
    before = pixels.copy(), cloud.points.copy(), cloud.pixels.copy(), cloud.weights.copy()
    solve_with_surface(CORNERS, pixels, np.ones(10), cloud, PINHOLE, 0.06 * size)
    for old, new in zip(before, (pixels, cloud.points, cloud.pixels, cloud.weights), strict=True):
        np.testing.assert_array_equal(old, new)
