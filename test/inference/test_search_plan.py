"""Who is searched for when: images that follow each other quickly share the work."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from kd6d_ros.inference.engines.fake import FakeEngine
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import RigidTransform

SIZE = 128
"""Side of a crop of the fake bundle; the whole frame is larger."""


class DoubtfulEngine(FakeEngine):
    """Scores what it sees in the whole frame below the gate, in a crop above it."""

    def run(self, image, classes):
        self.score = 0.9 if image.shape[1:3] == (SIZE, SIZE) else 0.4
        return super().run(image, classes)


def at(x, y=0.0, z=0.7):
    return RigidTransform(cv2.Rodrigues(np.array([0.4, 0.8, 0.2]))[0], np.array([x, y, z], dtype=float))


def error(poses, truth):
    return np.linalg.norm(poses[0].cam_from_obj.translation - truth.translation)


@pytest.fixture
def engine(bundle, camera):
    return DoubtfulEngine(bundle, camera)


def look(robot, engine, image, camera, stamp):
    """(poses, whole frames that the network saw, crops that it saw) of one image."""
    before = len(engine.runs)
    poses = robot.estimate(image, camera, stamp)
    sizes = [run[1:3] == (SIZE, SIZE) for run in engine.runs[before:] for _ in range(run[0])]
    return poses, sizes.count(False), sizes.count(True)


def test_while_an_object_stays_away_no_image_is_searched_and_measured(bundle, camera, image, fake):
    robot = PoseEstimator(bundle, fake, EstimatorSettings(objects=('mug',), tracking_timeout_s=0.4))
    fake.scene = [('mug', at(0.0))]
    assert len(robot.estimate(image, camera, 0.0)) == 1
    fake.scene = []
    robot.estimate(image, camera, 1 / 30)
    work = [look(robot, fake, image, camera, step / 30)[1:] for step in range(2, 20)]
    assert set(work) == {(1, 0), (0, 1)}
    # Once the track is forgotten there is nothing to measure, and every image is searched.
    assert work[:4] == [(0, 1), (1, 0), (0, 1), (1, 0)]
    assert work[-4:] == [(1, 0)] * 4


def test_a_doubtful_find_is_measured_in_the_next_image_as_it_is_there(bundle, camera, image, engine):
    robot = PoseEstimator(bundle, engine, EstimatorSettings(objects=('mug',)))
    assert robot.estimate(image, camera, 0.0) == []
    engine.scene = [('mug', at(0.0))]
    poses, frames, crops = look(robot, engine, image, camera, 1 / 30)
    assert (poses, frames, crops, robot.report.mode) == ([], 1, 0, 'frame')
    there = at(0.01, 0.005, 0.72)
    engine.scene = [('mug', there)]
    poses, frames, crops = look(robot, engine, image, camera, 2 / 30)
    assert (frames, crops, robot.report.mode) == (0, 1, 'found')
    assert error(poses, there) < 0.002
    robot.estimate(image, camera, 3 / 30)
    assert robot.report.mode == 'tracked'


def test_a_find_that_passes_the_gates_is_measured_at_once(bundle, camera, image, fake):
    robot = PoseEstimator(bundle, fake, EstimatorSettings(objects=('mug',)))
    robot.estimate(image, camera, 0.0)
    fake.scene = [('mug', at(0.1))]
    poses, frames, crops = look(robot, fake, image, camera, 1 / 30)
    assert (len(poses), frames, crops) == (1, 1, 1)


@pytest.mark.parametrize(
    ('settings', 'period'), [({}, 0.3), ({'track': False}, 1 / 30), ({'refine_crops': 2}, 0.3)], ids=str
)
def test_images_without_a_next_one_soon_do_everything_at_once(bundle, camera, image, engine, settings, period):
    robot = PoseEstimator(bundle, engine, EstimatorSettings(objects=('mug',), **settings))
    assert robot.estimate(image, camera, 0.0) == []
    engine.scene = [('mug', at(0.1))]
    poses, frames, crops = look(robot, engine, image, camera, period)
    assert (len(poses), frames, crops) == (1, 1, settings.get('refine_crops', 1))


def test_what_was_just_lost_is_searched_and_measured_at_once(bundle, camera, image, engine):
    robot = PoseEstimator(bundle, engine, EstimatorSettings(objects=('mug',), search_period_s=0.5))
    engine.scene = [('mug', at(-0.2))]
    for step in range(16):
        assert len(robot.estimate(image, camera, step / 30)) == 1
    engine.scene = [('mug', at(0.2))]
    poses, frames, crops = look(robot, engine, image, camera, 16 / 30)
    assert (len(poses), frames, crops, robot.report.mode) == (1, 1, 2, 'tracked+frame')
    # Lost again before a search is due: the find waits.
    engine.scene = [('mug', at(-0.2))]
    assert look(robot, engine, image, camera, 17 / 30) == ([], 1, 1)
    poses, frames, crops = look(robot, engine, image, camera, 18 / 30)
    assert (len(poses), frames, crops, robot.report.mode) == (1, 0, 2, 'tracked+found')


def test_no_more_finds_are_measured_at_a_time_than_cost_a_search(bundle, camera, image):
    bundle = replace(bundle, network=replace(bundle.network, frame_size=(160, 128)))
    engine = DoubtfulEngine(bundle, camera)
    robot = PoseEstimator(bundle, engine, EstimatorSettings(min_inliers=4))
    robot.estimate(image, camera, 0.0)
    engine.scene = [('mug', at(-0.2)), ('off', at(-0.05, 0.05)), ('brick', at(0.15, 0.12))]
    work = [look(robot, engine, image, camera, step / 30) for step in range(1, 5)]
    assert [frames for _, frames, _ in work] == [1, 0, 0, 0]
    assert [len(poses) for poses, _, _ in work] == [0, 1, 2, 3]


def test_a_missing_object_beside_a_tracked_one_is_measured_in_the_image_after_the_search(bundle, camera, image, engine):
    robot = PoseEstimator(bundle, engine, EstimatorSettings(objects=('mug', 'brick'), search_period_s=0.2))
    engine.scene = [('mug', at(-0.15))]
    assert len(robot.estimate(image, camera, 0.0)) == 1
    engine.scene = [('mug', at(-0.15)), ('brick', at(0.15))]
    found = [look(robot, engine, image, camera, step / 20) for step in range(1, 6)]
    assert [(len(poses), frames, crops) for poses, frames, crops in found] == [
        (1, 0, 1), (1, 0, 1), (1, 0, 1), (1, 1, 1), (2, 0, 2)
    ]  # fmt: skip


@pytest.mark.parametrize('stamp', [0.01, 5.0], ids=['time goes back', 'pause'])
def test_finds_of_another_time_are_not_measured(bundle, camera, image, engine, stamp):
    robot = PoseEstimator(bundle, engine, EstimatorSettings(objects=('mug',)))
    robot.estimate(image, camera, 0.1)
    engine.scene = [('mug', at(0.0))]
    assert robot.estimate(image, camera, 0.13) == []
    engine.scene = []
    assert look(robot, engine, image, camera, stamp) == ([], 1, 0)
