"""Whatever a network says, the estimator answers with poses that pass the gates or with none."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import Detection, LocalPredictions


class Babbler:
    """An engine that answers with noise of a given size, and with NaN and infinity now and then."""

    name = precision = description = 'babbler'
    side_by_side = 1

    def __init__(self, seed, scale, broken):
        self._rng, self._scale, self._broken = np.random.default_rng(seed), scale, broken

    def run(self, image, classes):
        return [self._one(image.shape[2], classes.shape[1]) for _ in image]

    def _one(self, width, count):
        rng = self._rng
        keypoints = (rng.normal(0.5, 0.5, (64, 8, 2)) * width * self._scale).astype(np.float32)
        # Half of the cells agree with each other, so that groups form.
        keypoints[:32] = keypoints[0] * rng.normal(1, 0.01, (32, 8, 2))
        score = rng.uniform(0, 1.2, 64).astype(np.float32)
        if self._broken:
            keypoints[rng.integers(0, 64, 9), 3] = [np.nan, np.inf]
            score[rng.integers(0, 64, 3)] = np.nan
        return LocalPredictions(
            rng.integers(0, count, 64),
            score,
            rng.integers(0, 3, 64),
            np.zeros((64, 2), np.float32),
            keypoints,
        )


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-9, 1e-3, 0.3, 1.0, 30.0, 1e8, 1e30]),
    broken=st.booleans(),
    given_boxes=st.booleans(),
)
def test_noise_never_becomes_a_broken_pose(robot_parts, seed, scale, broken, given_boxes):
    bundle, camera, image = robot_parts
    gates = EstimatorSettings(min_inliers=4, min_inlier_ratio=0.0, min_score=0.0, max_instances=3)
    robot = PoseEstimator(bundle, Babbler(seed, scale, broken), gates)
    boxes = [Detection('mug', 0.9, np.array([200.0, 100, 300, 220]))] if given_boxes else None
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for step in range(2):
            for pose in robot.estimate(image, camera, float(step), boxes):
                assert np.isfinite(pose.cam_from_obj.matrix()).all()
                assert 0.05 <= pose.cam_from_obj.translation[2] <= 10
                assert 0 <= pose.score <= 1.2
                assert 4 <= pose.inliers <= pose.correspondences
                assert np.isfinite(pose.reprojection_error_px)


@pytest.fixture(scope='module')
def robot_parts():
    from kd6d_ros.geometry.cameras import make_camera
    from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec, LevelSpec, NetworkSpec
    from kd6d_ros.types import ObjectModel

    grid = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    levels = tuple(LevelSpec(s, 4.0 * s) for s in (16, 32, 64))
    objects = tuple(ObjectModel(n, i, 0.17, grid * [0.05, 0.04, 0.055]) for i, n in enumerate(('mug', 'cup')))
    bundle = Bundle('noise', objects, NetworkSpec(128, 1.5, (640, 480), 64, levels), DecodeSpec())
    camera = make_camera(np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]]), 640, 480)
    return bundle, camera, np.zeros((480, 640, 3), dtype=np.uint8)
