from types import SimpleNamespace

import numpy as np
import pytest

from kd6d_ros.errors import CameraError
from kd6d_ros.ros import camera_info
from kd6d_ros.ros.camera_info import CameraInfoReader, camera_from_info

K = [600.0, 0, 320, 0, 610, 240, 0, 0, 1]
P = [500.0, 0, 310, 0, 0, 505, 230, 0, 0, 0, 1, 0]


def info(**change):
    message = SimpleNamespace(
        header=SimpleNamespace(frame_id='cam'),
        width=640,
        height=480,
        distortion_model='plumb_bob',
        d=[0.1, -0.2, 0.001, 0.002, 0.05],
        k=np.array(K),
        p=np.array(P),
        binning_x=0,
        binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False),
    )
    for name, value in change.items():
        setattr(message, name, value)
    return message


def camera(message, rectified=False, width=640, height=480, frame='cam'):
    return camera_from_info(message, width, height, frame, rectified)


def test_raw_uses_k_and_d():
    got = camera(info())
    np.testing.assert_allclose(got.matrix, np.reshape(K, (3, 3)))
    assert got.model == 'plumb_bob'
    np.testing.assert_allclose(got.distortion, [0.1, -0.2, 0.001, 0.002, 0.05])


def test_rectified_uses_p_and_no_distortion():
    got = camera(info(), rectified=True)
    np.testing.assert_allclose(got.matrix, [[500, 0, 310], [0, 505, 230], [0, 0, 1]])
    assert got.model == 'none'


def test_zero_distortion_needs_no_undistortion_but_a_fisheye_stays_one():
    assert camera(info(d=[0.0] * 5)).model == 'none'
    assert camera(info(d=[], distortion_model='')).model == 'none'
    assert camera(info(d=[0.0] * 4, distortion_model='equidistant')).model == 'equidistant'
    assert camera(info(d=[0.1] * 8, distortion_model='rational_polynomial')).model == 'rational_polynomial'


def test_a_region_of_interest_that_is_the_whole_image_is_none():
    whole = SimpleNamespace(x_offset=0, y_offset=0, width=640, height=480, do_rectify=False)
    assert camera(info(roi=whole, binning_x=1, binning_y=1)).width == 640


NAN = [float('nan'), *K[1:]]


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'k': np.zeros(9)}, 'K in CameraInfo has focal lengths 0, 0 px, so the camera is not calibrated: calibrate'),
        ({'k': np.array(NAN)}, 'K in CameraInfo contains NaN or infinite values: calibrate the camera'),
        ({'width': 1280, 'height': 720}, 'CameraInfo is for 1280x720 px but the image has 640x480: remap camera_info'),
        ({'binning_x': 2, 'binning_y': 2}, 'CameraInfo has binning 2x2: switch binning off'),
        (
            {'roi': SimpleNamespace(x_offset=10, y_offset=20, width=100, height=90)},
            r'region of interest \(ROI\) of 100x90 px at 10, 20: switch it off',
        ),
        ({'header': SimpleNamespace(frame_id='other')}, "frame_id 'other' but the image has 'cam': remap camera_info"),
        (
            {'k': np.array([1e300, *K[1:]])},
            r'K in CameraInfo has a focal length of 1e\+300 px, which fits no image of 640x',
        ),
        ({'k': np.array([*K[:4], 1e-300, *K[5:]])}, 'a focal length of 1e-300 px, which fits no image'),
        (
            {'k': np.array([*K[:2], -1e9, *K[3:]])},
            r'a principal point of -1e\+09 px, which fits no image .*: calibrate',
        ),
        ({'distortion_model': 'x' * 5000}, r"unknown distortion model 'x{60}'\.\.\. \(5000 characters\): use one"),
        ({'distortion_model': '\x1b[31m'}, r"unknown distortion model '\\x1b\[31m': use one"),
        ({'distortion_model': 'ftheta'}, "unknown distortion model 'ftheta': use one of none, plumb_bob"),
        ({'distortion_model': ''}, "unknown distortion model ''"),
        ({'d': [0.1, 0.2]}, "distortion model 'plumb_bob' takes 4 or 5 coefficients, got 2"),
        ({'d': []}, 'got 0'),
        ({'d': [float('nan')] * 5}, 'NaN'),
        ({'distortion_model': 'rational_polynomial'}, 'takes 8 coefficients, got 5'),
    ],
)
def test_bad_camera_info_names_the_mistake_and_the_cure(change, text):
    with pytest.raises(CameraError, match=text):
        camera(info(**change))


def test_lenses_from_fisheye_to_telescope_are_taken():
    for focal in (0.06 * 640, 90.0 * 640):
        assert camera(info(k=np.array([focal, 0, 320, 0, focal, 240, 0, 0, 1]))).matrix[0, 0] == focal
    # A cut-out of a larger image.
    assert camera(info(k=np.array([600.0, 0, -2000, 0, 600, 3000, 0, 0, 1]))).matrix[0, 2] == -2000


def test_rectified_with_p_zero():
    with pytest.raises(CameraError, match='image_rectified is true but P in CameraInfo is zero: set image_rectified'):
        camera(info(p=np.zeros(12)), rectified=True)


def test_the_reader_checks_each_content_once_and_notices_changes(monkeypatch):
    calls = []
    real = camera_info.camera_from_info
    monkeypatch.setattr(camera_info, 'camera_from_info', lambda *a: calls.append(1) or real(*a))
    reader = CameraInfoReader(rectified=False)
    first = reader.camera(info(), 640, 480, 'cam')
    assert reader.camera(info(), 640, 480, 'cam') is first
    assert len(calls) == 1
    zoomed = reader.camera(info(k=np.array([700.0, *K[1:]])), 640, 480, 'cam')
    assert zoomed.matrix[0, 0] == 700
    with pytest.raises(CameraError, match='frame_id'):
        reader.camera(info(), 640, 480, 'elsewhere')
    with pytest.raises(CameraError, match='frame_id'):
        reader.camera(info(), 640, 480, 'elsewhere')
