"""Tracks are poses in one camera's frame, so images of another camera start anew. Needs no ROS."""

from types import SimpleNamespace

import numpy as np
import pytest

from kd6d_ros.errors import ImageError
from kd6d_ros.ros.pipeline import Frame, FramePipeline


class Estimator:
    report = SimpleNamespace(stages={}, note='', rejections=())
    can_find = True

    def __init__(self):
        self.resets = 0

    def reset(self):
        self.resets += 1

    def estimate(self, image, camera, stamp, detections=None):
        return []


def frame(number, frame_id, focal=600.0, model='plumb_bob', d=(0.0,) * 5):
    header = SimpleNamespace(frame_id=frame_id, stamp=SimpleNamespace(sec=number, nanosec=0))
    info = SimpleNamespace(
        header=header,
        width=64,
        height=48,
        distortion_model=model,
        d=list(d),
        k=[focal, 0, 32, 0, focal, 24, 0, 0, 1],
        r=[0.0] * 9,
        p=[0.0] * 12,
        binning_x=0,
        binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False),
    )
    return Frame(SimpleNamespace(header=header), info, False, 0.0)


def test_another_frame_resets_the_tracks():
    estimator = Estimator()
    image = np.zeros((48, 64, 3), np.uint8)
    pipeline = FramePipeline(estimator, lambda message, most: image, False, 10**6, 1.0)
    resets = []
    for number, frame_id in enumerate(['left', 'left', 'right', 'right', 'left'], 1):
        pipeline.process(frame(number, frame_id))
        resets.append(estimator.resets)
    assert resets == [0, 0, 1, 1, 2]


def test_another_camera_info_resets_the_tracks_and_autofocus_does_not():
    estimator = Estimator()
    pipeline = FramePipeline(estimator, lambda message, most: np.zeros((48, 64, 3), np.uint8), False, 10**6, 1.0)
    frames = [
        frame(1, 'cam'),
        frame(2, 'cam', focal=606.0),
        frame(3, 'cam', focal=700.0),
        frame(4, 'cam', focal=700.0),
        frame(5, 'cam', focal=700.0, d=(0.1, 0, 0, 0, 0)),
    ]
    outcomes = [pipeline.process(item) for item in frames]
    assert [item.reset for item in outcomes] == [False, False, True, False, True]
    assert outcomes[2].note == 'CameraInfo changed by 16% of the focal length: tracking reset'
    assert outcomes[4].note == 'the image changed to 64x48 px, plumb_bob: tracking reset'
    assert estimator.resets == 2
    # Time that goes back resets, too.
    assert pipeline.process(frame(1, 'cam', focal=700.0, d=(0.1, 0, 0, 0, 0))).reset


def test_a_compressed_image_is_only_unpacked_when_camera_info_is_of_its_size(monkeypatch):
    import cv2

    from kd6d_ros.errors import CameraError
    from kd6d_ros.ros import pipeline as module

    pipeline = FramePipeline(Estimator(), lambda message, most: pytest.fail('raw'), False, 10**6, 1.0)

    def compressed(number, width):
        item = frame(number, 'cam')
        data = cv2.imencode('.png', np.zeros((48, width, 3), np.uint8))[1].tobytes()
        return Frame(SimpleNamespace(header=item.message.header, format='png', data=data), item.info, True, 0.0)

    assert pipeline.process(compressed(1, 64)).image.shape == (48, 64, 3)
    monkeypatch.setattr(module, 'decode_compressed', lambda *_: pytest.fail('unpacked'))
    with pytest.raises(CameraError, match='CameraInfo is for 64x48 px but the image has 1000x48'):
        pipeline.process(compressed(2, 1000))


def test_a_stamp_with_too_many_nanoseconds_is_refused():
    pipeline = FramePipeline(Estimator(), lambda message, most: np.zeros((48, 64, 3), np.uint8), False, 10**6, 1.0)
    item = frame(1, 'cam')
    item.message.header.stamp.nanosec = 4 * 10**9
    with pytest.raises(ImageError, match='image stamp has 4000000000 nanoseconds, a second or more: correct'):
        pipeline.process(item)


def test_a_refused_image_of_the_future_does_not_keep_out_those_of_now():
    def decode(message, most):
        if message.broken:
            raise ImageError('broken')
        return np.zeros((48, 64, 3), np.uint8)

    pipeline = FramePipeline(Estimator(), decode, False, 10**6, 1.0)
    for nanosec, broken in ((0, False), (900, True), (500, False)):
        item = frame(1, 'cam')
        item.message.header.stamp.nanosec, item.message.broken = nanosec, broken
        if broken:
            with pytest.raises(ImageError, match='broken'):
                pipeline.process(item)
        else:
            assert pipeline.process(item).poses == []


def test_an_image_whose_workspace_is_unknown_is_refused():
    estimator = Estimator()
    known = {1: 'box'}

    def workspace(frame_id, stamp):
        assert frame_id == 'cam'
        if stamp // 10**9 not in known:
            raise ImageError('no transform')
        return known[stamp // 10**9]

    image = np.zeros((48, 64, 3), np.uint8)
    pipeline = FramePipeline(estimator, lambda message, most: image, False, 10**6, 1.0, workspace)
    pipeline.process(frame(1, 'cam'))
    assert estimator.workspace == 'box'
    with pytest.raises(ImageError):
        pipeline.process(frame(2, 'cam'))
