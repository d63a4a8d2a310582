"""Who is who: pairing by symmetry-aware distance, canonical poses, pauses, the filter in the estimator."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.geometry.transforms import random_rotation, rotation_angle, rotation_from_vector
from kd6d_ros.inference import gates
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.inference.tracking import Tracker
from kd6d_ros.inference.workspace import Workspace
from kd6d_ros.types import ContinuousSymmetry, Detection, ObjectModel, RigidTransform, Symmetries

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.04, 0.04) for z in (-0.06, 0.06)])
SYMMETRIES = {
    'none': Symmetries(),
    'half_turn': Symmetries((RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3)),)),
    'axis': Symmetries((), (ContinuousSymmetry(np.array([0.0, 0, 1]), np.zeros(3)),)),
}
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20)


def candidate(pose, symmetries='none', track=None):
    model = ObjectModel('mug', 1, 0.17, CORNERS, SYMMETRIES[symmetries])
    box = np.array([0.0, 0, 9, 9])
    return gates.Candidate(model, pose, 0.9, 40, 80, 1.0, box, box, 'tracked', track)


def at(x, rotation=None, z=0.7):
    return RigidTransform(np.eye(3) if rotation is None else rotation, np.array([x, 0.0, z]))


def equivalent(rng, pose, kind):
    if kind == 'half_turn' and rng.random() < 0.5:
        return pose @ SYMMETRIES[kind].discrete[0]
    if kind == 'axis':
        return pose @ RigidTransform(rotation_from_vector([0, 0, rng.uniform(-3, 3)]), np.zeros(3))
    return pose


@few
@given(seeds, st.sampled_from(list(SYMMETRIES)), st.integers(2, 5))
def test_ids_follow_their_instances_in_whatever_order_and_equivalent_they_come(seed, kind, count):
    rng = np.random.default_rng(seed)
    tracker = Tracker(EstimatorSettings(max_instances=5))
    truth = [at(0.2 * index, random_rotation(rng)) for index in range(count)]
    tracker.advance(0.0)
    ids = [track.instance_id for track, _ in tracker.commit([candidate(item, kind) for item in truth])]
    assert sorted(ids) == [f'mug_{n}' for n in range(count)]
    last = {}
    for step in range(1, 6):
        tracker.advance(step / 30)
        truth = [
            RigidTransform(
                rotation_from_vector(rng.normal(size=3) * 0.01) @ item.rotation,
                item.translation + rng.normal(size=3) * 0.003,
            )
            for item in truth
        ]
        order = rng.permutation(count)
        out = tracker.commit([candidate(equivalent(rng, truth[i], kind), kind) for i in order])
        assert [track.instance_id for track, _ in out] == [ids[i] for i in order]
        for track, pose in out:
            before = last.get(track.instance_id, pose)
            assert rotation_angle(before.rotation, pose.rotation) < 0.12
            last[track.instance_id] = pose


def test_two_that_touch_are_told_apart_by_how_they_are_turned():
    """Their origins are nearer to the other's last place than to their own; only the rotation tells."""
    quarter = rotation_from_vector([0, 0, np.pi / 2])
    tracker = Tracker(EstimatorSettings(max_instances=2))
    tracker.advance(0.0)
    first = tracker.commit([candidate(at(-0.01)), candidate(at(0.01, quarter))])
    tracker.advance(1 / 30)
    second = tracker.commit([candidate(at(-0.005, quarter)), candidate(at(0.005))])
    assert [item[0].instance_id for item in second] == [item[0].instance_id for item in reversed(first)]
    # For an object that looks the same after that turn, the nearer place decides.
    tracker = Tracker(EstimatorSettings(max_instances=2))
    tracker.advance(0.0)
    first = tracker.commit([candidate(at(-0.01), 'axis'), candidate(at(0.01, quarter), 'axis')])
    tracker.advance(1 / 30)
    second = tracker.commit([candidate(at(-0.005, quarter), 'axis'), candidate(at(0.005), 'axis')])
    assert [item[0].instance_id for item in second] == [item[0].instance_id for item in first]


def test_regions_that_found_each_other_s_object_do_not_swap_ids():
    tracker = Tracker(EstimatorSettings(max_instances=2))
    tracker.advance(0.0)
    tracker.commit([candidate(at(0.0)), candidate(at(0.15))])
    tracker.advance(1 / 30)
    swapped = tracker.commit([candidate(at(0.15), track=0), candidate(at(0.0), track=1)])
    assert [track.instance_id for track, _ in swapped] == ['mug_1', 'mug_0']


def test_a_candidate_out_of_reach_stays_with_the_track_whose_region_gave_it():
    tracker = Tracker(EstimatorSettings(max_instances=2))
    tracker.advance(0.0)
    tracker.commit([candidate(at(0.0))])
    tracker.advance(0.5)
    assert tracker.commit([candidate(at(0.4), track=0)])[0][0].instance_id == 'mug_0'


@few
@given(seeds)
def test_a_new_instance_of_a_symmetric_object_has_the_same_pose_again_and_again(seed):
    rng = np.random.default_rng(seed)
    truth = at(0.1, random_rotation(rng))
    poses = []
    for _ in range(3):
        tracker = Tracker(EstimatorSettings())
        tracker.advance(0.0)
        poses.append(tracker.commit([candidate(equivalent(rng, truth, 'axis'), 'axis')])[0][1])
    for pose in poses[1:]:
        np.testing.assert_allclose(pose.matrix(), poses[0].matrix(), atol=1e-6)


def test_a_pause_is_noticed_once_and_only_when_it_cost_something():
    tracker = Tracker(EstimatorSettings(tracking_timeout_s=1.0))
    assert tracker.advance(10.0) == 'new'
    assert tracker.advance(20.0) == 'new'
    tracker.commit([candidate(at(0.0))])
    assert tracker.advance(20.5) == 'new'
    assert tracker.advance(25.0) == 'pause'
    assert tracker.tracks == []
    assert tracker.advance(30.0) == 'new'
    # An object that is gone while images go on is no pause.
    tracker.commit([candidate(at(0.0))])
    assert [tracker.advance(30.0 + step / 10) for step in range(1, 15)] == ['new'] * 14


def test_a_jump_is_refused_by_the_filter_and_followed_when_it_stays(bundle, camera, image, fake):
    robot = PoseEstimator(bundle, fake, EstimatorSettings(objects=('mug',), filter=True))
    here, there = at(-0.15), at(0.15)
    seen = []
    for step in range(12):
        fake.scene = [('mug', there if step in (3, 7, 8, 9, 10, 11) else here)]
        poses = robot.estimate(image, camera, step / 30)
        seen.append(round(float(poses[0].cam_from_obj.translation[0]), 2) if poses else None)
        assert all(pose.instance_id == 'mug_0' for pose in poses)
        assert robot.report.counts().get(gates.OUTLIER, 0) == (0 if poses else 1)
    assert seen == [-0.15] * 3 + [None] + [-0.15] * 3 + [None, None] + [0.15] * 3


def test_after_a_pause_the_report_says_so_and_the_whole_image_is_searched(bundle, camera, image, fake):
    robot = PoseEstimator(bundle, fake, EstimatorSettings(objects=('mug',)))
    fake.scene = [('mug', at(0.0))]
    robot.estimate(image, camera, 0.0)
    assert len(robot.estimate(image, camera, 60.0)) == 1
    assert robot.report.note.startswith('the images paused for longer than tracking_timeout_s')
    assert robot.report.mode == 'frame'


def test_an_object_outside_the_workspace_is_not_published_and_has_its_own_reason(bundle, camera, image, fake):
    robot = PoseEstimator(bundle, fake, EstimatorSettings(objects=('off',)))
    # The centre of its 3D box counts; the origin lies outside the body.
    centre = np.array([0.14, 0.06, -0.14])
    fake.scene = [('off', RigidTransform(np.eye(3), np.array([0.0, 0, 0.8]) - centre))]
    # A frame whose z points up: y of the camera points down.
    up = RigidTransform(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([0.0, 0.0, 1.0]))
    for low, high, passes in (
        ([-0.1, 0.7, 0.9], [0.1, 0.9, 1.1], True),
        ([-0.1, 0.7, 1.05], [0.1, 0.9, 1.1], False),
        ([0.1, 0.7, 0.9], [0.3, 0.9, 1.1], False),
    ):
        robot.reset()
        robot.workspace = Workspace(np.array(low), np.array(high), up)
        poses = robot.estimate(image, camera, 1.0)
        assert bool(poses) is passes
        assert (gates.WORKSPACE in robot.report.counts()) is not passes
    rejection = next(item for item in robot.report.rejections if item.reason == gates.WORKSPACE)
    assert rejection.value == pytest.approx(0.1, abs=0.01)
    robot.reset()
    robot.workspace = None
    assert len(robot.estimate(image, camera, 1.0)) == 1


def test_boxes_that_are_none_are_counted(bundle, camera, image, fake):
    robot = PoseEstimator(bundle, fake, EstimatorSettings(objects=('mug',)))
    boxes = [[np.nan, 0, 1, 1], [5.0, 5, 5, 9], [9.0, 5, 5, 9], [np.inf, 0, 1, 1], [900.0, 900, 950, 950]]
    assert robot.estimate(image, camera, 0.0, [Detection('mug', 0.9, np.array(box)) for box in boxes]) == []
    assert robot.report.counts() == {gates.BAD_BOX: 4, gates.OUTSIDE: 1}


def test_settings_of_the_filter_have_ranges():
    assert EstimatorSettings().filter is False
    assert replace(EstimatorSettings(), filter_time_s=0.5).filter_time_s == 0.5
