"""Tracks are poses in one camera's frame, so images of another frame start anew. Needs no ROS."""

from types import SimpleNamespace

import numpy as np

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


def frame(number, frame_id):
    header = SimpleNamespace(frame_id=frame_id, stamp=SimpleNamespace(sec=number, nanosec=0))
    info = SimpleNamespace(
        header=header,
        width=64,
        height=48,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[600.0, 0, 32, 0, 600, 24, 0, 0, 1],
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
