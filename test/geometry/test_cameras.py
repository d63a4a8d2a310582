"""Cameras against OpenCV and against themselves."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.errors import CameraError, ShapeError
from kd6d_ros.geometry import cameras

K = np.array([[615.3, 0, 318.7], [0, 614.9, 243.1], [0, 0, 1]])

# Shapes and sizes of real calibrations: a colour camera with mild distortion, a RealSense colour stream, a ZED
# (rational, as its SDK reports), an Azure Kinect (rational, large cancelling terms), a wide action camera as
# radial-tangential, and two fisheyes (T265-like and action camera).
LENSES = {
    'pinhole': ('none', ()),
    'webcam': ('plumb_bob', (0.0725, -0.1573, 0.00041, -0.00122, 0.0)),
    'realsense': ('plumb_bob', (0.1469, -0.4701, -0.00087, 0.00056, 0.4231)),
    'barrel': ('plumb_bob', (-0.3728, 0.1487, 0.00072, -0.00019)),
    'action': ('plumb_bob', (-0.2652, 0.0789, 0.00023, -0.00011, -0.0111)),
    'zed': ('rational_polynomial', (-1.7, 2.76, -0.00024, 0.00031, 0.129, -1.58, 2.57, 0.46)),
    'kinect': ('rational_polynomial', (0.51, -2.73, 0.00077, -0.00025, 1.59, 0.39, -2.55, 1.52)),
    'fisheye_t265': ('equidistant', (-0.0069, 0.0442, -0.0418, 0.0078)),
    'fisheye_action': ('equidistant', (0.0422, 0.0113, -0.0098, 0.0021)),
}


def camera_of(lens):
    model, coefficients = LENSES[lens]
    focal = 0.6 if model == 'equidistant' else 1.0
    matrix = K * np.array([[focal, 1, 1], [1, focal, 1], [1, 1, 1]])
    return cameras.make_camera(matrix, 640, 480, model, coefficients)


def opencv_project(camera, points):
    zero = np.zeros(3)
    if camera.model == 'equidistant':
        pixels, _ = cv2.fisheye.projectPoints(points[:, None], zero, zero, camera.matrix, camera.distortion)
    else:
        distortion = camera.distortion if camera.distortion.size else None
        pixels, _ = cv2.projectPoints(points, zero, zero, camera.matrix, distortion)
    return pixels.reshape(-1, 2)


def image_pixels():
    """Centre, borders and corners of the image and some pixels between them."""
    x, y = np.meshgrid(np.linspace(-0.5, 639.5, 17), np.linspace(-0.5, 479.5, 13))
    return np.stack([x.ravel(), y.ravel()], axis=1)


@pytest.mark.parametrize('lens', LENSES)
def test_project_equals_opencv_over_the_image(lens):
    camera = camera_of(lens)
    rng = np.random.default_rng(3)
    points = cameras.back_project(camera, image_pixels(), rng.uniform(0.2, 3.0, 17 * 13))
    np.testing.assert_allclose(cameras.project(camera, points), opencv_project(camera, points), atol=1e-8)


@pytest.mark.parametrize('lens', LENSES)
def test_every_image_pixel_undistorts_and_projects_back(lens):
    camera = camera_of(lens)
    pixels = image_pixels()
    normalised = cameras.undistort_points(camera, pixels)
    assert np.isfinite(normalised).all()
    points = np.concatenate([normalised, np.ones((len(pixels), 1))], axis=1) * 0.7
    np.testing.assert_allclose(opencv_project(camera, points), pixels, atol=1e-6)


@pytest.mark.parametrize('lens', ['webcam', 'realsense', 'barrel', 'kinect'])
def test_undistort_equals_converged_opencv(lens):
    camera = camera_of(lens)
    middle = image_pixels()
    middle = middle[np.abs(middle - camera.matrix[:2, 2]).max(axis=1) < 180]
    map_once = cv2.undistortPoints(middle[:, None], camera.matrix, camera.distortion).reshape(-1, 2)
    # OpenCV stops after five fixed-point steps; near the centre that is already accurate.
    np.testing.assert_allclose(cameras.undistort_points(camera, middle), map_once, atol=2e-4)


def test_fisheye_undistort_equals_opencv():
    camera = camera_of('fisheye_t265')
    pixels = image_pixels()
    expected = cv2.fisheye.undistortPoints(pixels[:, None], camera.matrix, camera.distortion).reshape(-1, 2)
    np.testing.assert_allclose(cameras.undistort_points(camera, pixels), expected, atol=1e-5)


# Found by a general root finder on OpenCV's projection: pixel corners of the image -> x/z, y/z.
CORNERS = {
    'realsense': ([-0.51371963, -0.39176811], [0.51585361, 0.38090598]),
    'action': ([-0.59294397, -0.45300409], [0.59449985, 0.43818305]),
    'kinect': ([-0.50463326, -0.38574257], [0.50716778, 0.37361068]),
    'fisheye_t265': ([-1.51690357, -1.15838999], [1.50390679, 1.10896146]),
}


@pytest.mark.parametrize('lens', CORNERS)
def test_golden_values_at_the_corners_of_the_image(lens):
    found = cameras.undistort_points(camera_of(lens), [[-0.5, -0.5], [639.5, 479.5]])
    np.testing.assert_allclose(found, CORNERS[lens], atol=2e-8)


def test_hand_computed_radial_distortion():
    camera = cameras.make_camera(np.diag([100.0, 100.0, 1.0]), 640, 480, 'plumb_bob', [0.1, 0.01, 0, 0, 0])
    # x/z = 0.5, r^2 = 0.25: 0.5 * (1 + 0.1 * 0.25 + 0.01 * 0.0625) = 0.5128125
    np.testing.assert_allclose(cameras.project(camera, [[1.0, 0.0, 2.0]]), [[51.28125, 0.0]], atol=1e-12)


def test_hand_computed_equidistant_without_coefficients():
    camera = cameras.make_camera(np.diag([100.0, 100.0, 1.0]), 640, 480, 'equidistant', [0, 0, 0, 0])
    # 45 degrees off the axis: radius = focal * pi / 4
    np.testing.assert_allclose(cameras.project(camera, [[0.0, 3.0, 3.0]]), [[0.0, 25 * np.pi]], atol=1e-12)


@pytest.mark.parametrize('lens', LENSES)
def test_points_behind_the_camera_have_no_image(lens):
    camera = camera_of(lens)
    pixels = cameras.project(camera, [[0.1, 0, -1], [0, 0, 0], [0.1, 0.1, 0], [np.nan, 0, 1], [0, 0, 1]])
    assert np.isnan(pixels[:4]).all()
    np.testing.assert_allclose(pixels[4], camera.matrix[:2, 2])


def test_points_beyond_the_turning_point_do_not_fold_back():
    camera = camera_of('action')
    slanted = np.array([[2.4, 0.0, 1.0]])
    folded = opencv_project(camera, slanted)[0]
    assert np.isfinite(folded).all()
    assert np.isnan(cameras.project(camera, slanted)).all()


def test_pixels_that_nothing_reaches_are_nan():
    camera = camera_of('action')
    far = cameras.undistort_points(camera, [[5000.0, 240.0], [320.0, 240.0], [np.nan, 0.0]])
    assert np.isnan(far[0]).all()
    assert np.isfinite(far[1]).all()
    assert np.isnan(far[2]).all()
    fisheye = camera_of('fisheye_t265')
    reach = cameras.undistort_points(fisheye, [[318.7 + 0.6 * 615.3 * 2.0, 243.1]])
    assert np.isnan(reach).all()


@given(
    st.floats(-0.45, 0.3), st.floats(-0.3, 0.3), st.floats(-0.01, 0.01), st.floats(-0.01, 0.01),
    st.floats(-0.2, 0.2), st.floats(0.0, 0.6), st.floats(-np.pi, np.pi),
)  # fmt: skip
def test_undistort_inverts_distort_for_any_coefficients(k1, k2, p1, p2, k3, radius, angle):
    camera = cameras.make_camera(K, 640, 480, 'plumb_bob', [k1, k2, p1, p2, k3])
    point = np.array([[radius * np.cos(angle), radius * np.sin(angle), 1.0]])
    pixel = cameras.project(camera, point)
    back = cameras.undistort_points(camera, pixel)
    # Tangential terms can make the map two-to-one at its rim; what comes back must map to the pixel.
    known = np.isfinite(back).all(axis=1)
    again = cameras.project(camera, np.concatenate([back, np.ones((1, 1))], axis=1))
    np.testing.assert_allclose(again[known], pixel[known], atol=1e-5)
    if np.isfinite(pixel).all() and radius < 0.4:
        np.testing.assert_allclose(back, point[:, :2], atol=1e-6)


@given(st.sampled_from(sorted(LENSES)), st.integers(0, 2**32 - 1))
def test_back_project_inverts_project(lens, seed):
    camera = camera_of(lens)
    rng = np.random.default_rng(seed)
    pixels = rng.uniform([0, 0], [639, 479], (20, 2))
    depth = rng.uniform(0.1, 5.0, 20)
    points = cameras.back_project(camera, pixels, depth)
    np.testing.assert_allclose(points[:, 2], depth)
    np.testing.assert_allclose(cameras.project(camera, points), pixels, atol=1e-6)


def test_unit_rays_are_unit_and_point_at_the_pixel():
    camera = camera_of('kinect')
    rays = cameras.unit_rays(camera, image_pixels())
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(cameras.project(camera, 2.5 * rays), image_pixels(), atol=1e-6)


def test_undistorted_pixels_keep_the_same_matrix():
    camera = camera_of('barrel')
    straight = cameras.make_camera(camera.matrix, 640, 480)
    point = np.array([[0.2, -0.15, 1.0]])
    moved = cameras.undistorted_pixels(camera, cameras.project(camera, point))
    np.testing.assert_allclose(moved, cameras.project(straight, point), atol=1e-7)
    pixels = np.array([[3.0, 4.0]])
    same = cameras.undistorted_pixels(straight, pixels)
    np.testing.assert_array_equal(same, pixels)
    assert same is not pixels


def test_no_points_give_no_pixels():
    for lens in LENSES:
        camera = camera_of(lens)
        assert cameras.project(camera, np.zeros((0, 3))).shape == (0, 2)
        assert cameras.undistort_points(camera, np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'matrix': np.zeros((3, 3))}, 'K is zero: the camera is not calibrated'),
        ({'matrix': K * np.nan}, 'K contains NaN'),
        ({'matrix': np.diag([-600.0, 600.0, 1.0])}, 'focal lengths must be positive, got fx=-600'),
        ({'matrix': np.diag([600.0, 0.0, 1.0])}, 'focal lengths must be positive'),
        ({'matrix': K + np.array([[0, 5, 0], [0, 0, 0], [0, 0, 0]])}, 'has skew'),
        ({'matrix': np.diag([600.0, 600.0, 2.0])}, 'last row of camera matrix K must be 0 0 1'),
        ({'matrix': np.ones(8)}, 'must be 3x3 or 9 numbers'),
        ({'matrix': [['a'] * 3] * 3}, 'is not made of numbers'),
        ({'width': 0}, 'camera size 0x480 px'),
        ({'height': 100000}, 'each side must be within 1..32768'),
        ({'width': float('nan')}, 'each side must be within'),
        ({'model': 'fisheye'}, "unknown distortion model 'fisheye': use one of none, plumb_bob"),
        ({'model': 'plumb_bob', 'distortion': [0.1]}, "'plumb_bob' takes 4 or 5 coefficients, got 1"),
        ({'model': 'rational_polynomial', 'distortion': [0.1] * 5}, 'takes 8 coefficients, got 5'),
        ({'model': 'equidistant', 'distortion': []}, 'takes 4 coefficients, got 0'),
        ({'model': 'none', 'distortion': [0.1, 0, 0, 0]}, "'none' takes 0 coefficients, got 4"),
        ({'model': 'plumb_bob', 'distortion': [np.nan] * 5}, 'contains NaN'),
        ({'model': 'plumb_bob', 'distortion': [0.1] * 8}, 'takes 4 or 5 coefficients, got 8'),
    ],
)
def test_bad_cameras_are_refused(change, message):
    arguments = {'matrix': K, 'width': 640, 'height': 480, 'model': 'none', 'distortion': ()}
    with pytest.raises(CameraError, match=message) as caught:
        cameras.make_camera(**{**arguments, **change})
    assert '\n' not in str(caught.value)


def test_zero_coefficients_beyond_the_model_are_dropped():
    camera = cameras.make_camera(K, 640, 480, 'rational_polynomial', [0.1] * 8 + [0.0] * 6)
    assert camera.distortion.shape == (8,)
    assert cameras.make_camera(K, 640, 480, 'none', [0.0] * 5).distortion.shape == (0,)


def test_cameras_are_read_only_copies():
    matrix = K.copy()
    camera = cameras.make_camera(matrix, 640, 480)
    matrix[0, 0] = 1
    assert camera.matrix[0, 0] == K[0, 0]
    with pytest.raises(ValueError, match='read-only'):
        camera.matrix[0, 0] = 1


def test_wrong_shapes_are_named():
    camera = camera_of('pinhole')
    with pytest.raises(ShapeError, match=r'points: expected shape \(N, 3\), got \(3,\)'):
        cameras.project(camera, np.zeros(3))
    with pytest.raises(ShapeError, match=r'pixels: expected shape \(N, 2\)'):
        cameras.undistort_points(camera, np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r'depth: expected shape \(2,\), got \(1,\)'):
        cameras.back_project(camera, np.zeros((2, 2)), np.zeros(1))
