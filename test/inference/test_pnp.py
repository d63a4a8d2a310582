"""PnP on clouds: exact without noise, robust with it, undistorted for real lenses, deterministic."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.inference.pnp import corner_jacobian, solve_pose

MATRIX = np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]])
GRID = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
POINTS = [-0.05, -0.04, -0.06] + GRID * [0.10, 0.08, 0.12]
LENSES = {
    'none': (),
    'plumb_bob': (-0.28, 0.07, 0.001, -0.0005, 0.0),
    'rational_polynomial': (0.4, -0.1, 0.0002, 0.0001, 0.01, 0.7, -0.05, 0.02),
    'equidistant': (0.02, -0.01, 0.003, -0.001),
}


def pose(seed):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    rotation = cv2.Rodrigues(axis / np.linalg.norm(axis) * rng.uniform(0, np.pi))[0]
    depth = rng.uniform(0.4, 1.2)
    return rotation, np.array([rng.uniform(-0.2, 0.2) * depth, rng.uniform(-0.15, 0.15) * depth, depth])


def add(result, rotation, translation):
    """Mean distance of the corners, as a share of the diagonal."""
    truth = POINTS @ rotation.T + translation
    return np.linalg.norm(result.cam_from_obj.apply(POINTS) - truth, axis=1).mean() / 0.1755


def cloud(camera, rotation, translation, cells, noise, seed):
    pixels = project(camera, POINTS @ rotation.T + translation)
    size = np.ptp(pixels, axis=0).max()
    rng = np.random.default_rng(seed)
    return pixels + rng.normal(0, noise * size, (cells, 8, 2)), size


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), lens=st.sampled_from(sorted(LENSES)))
def test_exact_correspondences_give_the_exact_pose(seed, lens):
    camera = make_camera(MATRIX, 640, 480, lens, LENSES[lens])
    rotation, translation = pose(seed)
    pixels, size = cloud(camera, rotation, translation, 3, 0.0, 0)
    result = solve_pose(POINTS, pixels, np.ones(3), camera, 0.06 * size)
    assert add(result, rotation, translation) < 1e-4
    assert result.count == 24
    assert result.rms < 0.01


@pytest.mark.parametrize('outliers', [0, 3])
def test_noise_and_outlier_cells(outliers):
    """1.5 % of the object's size as noise, 3 of 10 cells far off: 95 % of 60 poses within 0.1 d."""
    camera = make_camera(MATRIX, 640, 480)
    errors = []
    for seed in range(60):
        rotation, translation = pose(seed)
        pixels, size = cloud(camera, rotation, translation, 10, 0.015, seed)
        rng = np.random.default_rng(seed + 1)
        pixels[:outliers] += rng.normal(0, 0.3 * size, (outliers, 8, 2))
        result = solve_pose(POINTS, pixels, np.ones(10), camera, max(3.0, 0.06 * size))
        errors.append(add(result, rotation, translation))
    assert np.mean(np.array(errors) < 0.1) >= 0.95
    assert np.median(errors) < 0.03


def test_better_than_ransac_on_drawn_samples():
    """The reason for structured samples: same clouds, OpenCV's RANSAC-EPnP with refinement on inliers."""
    camera = make_camera(MATRIX, 640, 480)
    ours, drawn = [], []
    for seed in range(60):
        rotation, translation = pose(seed)
        pixels, size = cloud(camera, rotation, translation, 10, 0.03, seed)
        limit = max(3.0, 0.06 * size)
        ours.append(add(solve_pose(POINTS, pixels, np.ones(10), camera, limit), rotation, translation))
        cv2.setRNGSeed(0)
        world, flat = np.tile(POINTS, (10, 1)), pixels.reshape(-1, 2)
        _, vector, shift, _ = cv2.solvePnPRansac(
            world, flat, MATRIX, None, reprojectionError=limit, flags=cv2.SOLVEPNP_EPNP
        )
        moved = POINTS @ cv2.Rodrigues(vector)[0].T + shift.ravel()
        truth = POINTS @ rotation.T + translation
        drawn.append(np.linalg.norm(moved - truth, axis=1).mean() / 0.1755)
    assert np.median(ours) < np.median(drawn)


@pytest.mark.skipif(not hasattr(cv2, 'SOLVEPNP_SQPNP'), reason='needs OpenCV 4.5.3 for flat objects')
def test_flat_objects():
    camera = make_camera(MATRIX, 640, 480)
    flat = POINTS * [1, 1, 0]
    errors = []
    for seed in range(40):
        rotation, translation = pose(seed)
        pixels = project(camera, flat @ rotation.T + translation)
        size = np.ptp(pixels, axis=0).max()
        noisy = pixels + np.random.default_rng(seed).normal(0, 0.003 * size, (10, 8, 2))
        result = solve_pose(flat, noisy, np.ones(10), camera, max(3.0, 0.06 * size))
        truth = flat @ rotation.T + translation
        errors.append(np.linalg.norm(result.cam_from_obj.apply(flat) - truth, axis=1).mean() / 0.128)
    assert np.mean(np.array(errors) < 0.05) >= 0.95


def test_one_corner_wrong_in_every_cell_is_no_inlier():
    camera = make_camera(MATRIX, 640, 480)
    rotation, translation = pose(3)
    pixels, size = cloud(camera, rotation, translation, 10, 0.002, 3)
    pixels[:, 5] += [0.5 * size, 0]
    result = solve_pose(POINTS, pixels, np.ones(10), camera, 0.06 * size)
    assert not result.inliers[:, 5].any()
    assert result.inliers[:, :5].all()
    assert add(result, rotation, translation) < 0.02


def test_unusable_pixels_are_left_out_and_too_few_give_none():
    camera = make_camera(MATRIX, 640, 480)
    rotation, translation = pose(4)
    pixels, size = cloud(camera, rotation, translation, 5, 0.0, 4)
    pixels[:, 6:] = np.nan
    result = solve_pose(POINTS, pixels, np.ones(5), camera, 0.06 * size)
    assert add(result, rotation, translation) < 1e-3
    assert result.count == 30
    pixels[:, 3:] = np.nan
    assert solve_pose(POINTS, pixels, np.ones(5), camera, 0.06 * size) is None


def test_nonsense_gives_none_or_few_inliers():
    camera = make_camera(MATRIX, 640, 480)
    rng = np.random.default_rng(0)
    for _ in range(20):
        result = solve_pose(POINTS, rng.uniform(0, 400, (10, 8, 2)), np.ones(10), camera, 5.0)
        assert result is None or result.count < 20


def test_the_same_cloud_gives_the_same_bits():
    camera = make_camera(MATRIX, 640, 480)
    rotation, translation = pose(7)
    pixels, size = cloud(camera, rotation, translation, 10, 0.05, 7)
    first = solve_pose(POINTS, pixels, np.ones(10), camera, 0.06 * size)
    for _ in range(3):
        again = solve_pose(POINTS, pixels, np.ones(10), camera, 0.06 * size)
        assert (again.cam_from_obj.matrix() == first.cam_from_obj.matrix()).all()


def test_jacobian_is_the_derivative():
    camera = make_camera(MATRIX, 640, 480)
    rotation, translation = pose(11)
    jacobian = corner_jacobian(POINTS, rotation, translation, np.array([572.0, 573.0]))

    def moved(step):
        return project(camera, POINTS @ (cv2.Rodrigues(step[:3])[0] @ rotation).T + translation + step[3:])

    for axis in range(6):
        step = np.zeros(6)
        step[axis] = 1e-6
        numeric = (moved(step) - moved(-step)) / 2e-6
        assert jacobian[:, :, axis] == pytest.approx(numeric, abs=1e-4)
