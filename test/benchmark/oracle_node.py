"""The real node with an estimator that knows the truth: answers from a bag's ground truth, by stamp.

The bundle parameter is 'BAG' or 'BAG:wrong' (a decimetre beside), 'BAG:slow' (drops images).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from kd6d_ros.benchmark.bag_source import BagSource, find_topics, read_ground_truth
from kd6d_ros.inference.records import FrameReport
from kd6d_ros.ros.factory import Loaded
from kd6d_ros.ros.main import main
from kd6d_ros.types import ObjectModel, PoseEstimate, RigidTransform

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.04)])


class Oracle:
    can_find = True

    def __init__(self, truth, option):
        self.truth, self.option, self.report = truth, option, FrameReport()

    def reset(self):
        pass

    def estimate(self, image, camera, stamp, detections=None):
        if self.option == 'slow':
            time.sleep(0.15)
        nearest = min(self.truth, key=lambda ns: abs(ns * 1e-9 - stamp))
        shift = np.array([0.1 if self.option == 'wrong' else 0.001, 0.0, 0.0])
        poses = []
        for number, item in enumerate(self.truth[nearest]):
            pose = RigidTransform(item.cam_from_obj.rotation, item.cam_from_obj.translation + shift)
            name = item.object_name
            poses.append(PoseEstimate(name, f'{name}_{number}', pose, 0.9, 40, 80, 0.5, None))
        return poses


def factory(values, settings):
    bag, _, option = values['bundle'].partition(':')
    with BagSource(Path(bag)) as source:
        truth = read_ground_truth(source, find_topics(source).truth)
    names = sorted({item.object_name for objects in truth.values() for item in objects})
    models = {name: ObjectModel(name, 1, 0.13, CORNERS) for name in names}
    return Loaded(models, Oracle(truth, option), 'oracle', 'oracle', lambda chosen: Oracle(truth, option))


if __name__ == '__main__':
    sys.exit(main(factory=factory))
