"""The optional filter: smooths noise, refuses jumps, follows what stays, does not care about q and -q or symmetry."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.geometry.transforms import random_rotation, rotation_angle, rotation_from_vector
from kd6d_ros.inference.pose_filter import LONGEST_GAP_S, PoseFilter
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import ContinuousSymmetry, ObjectModel, RigidTransform, Symmetries

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.04, 0.04) for z in (-0.06, 0.06)])
AXIS = ContinuousSymmetry(np.array([0.0, 0, 1]), np.zeros(3))
HALF_TURN = RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20)


def make(symmetries=None, **settings):
    return PoseFilter(
        ObjectModel('mug', 1, 0.17, CORNERS, symmetries or Symmetries()), EstimatorSettings(filter=True, **settings)
    )


def pose(rotation=None, translation=(0.0, 0.0, 0.7)):
    return RigidTransform(np.eye(3) if rotation is None else rotation, np.asarray(translation, dtype=float))


def noisy(rng, true, radians=0.02, metres=0.002):
    rotation = rotation_from_vector(rng.normal(size=3) * radians)
    return RigidTransform(rotation @ true.rotation, true.translation + rng.normal(size=3) * metres)


@pytest.mark.parametrize('seed', range(3))
def test_noise_shrinks_by_what_the_time_constant_says(seed):
    rng = np.random.default_rng(seed)
    true = pose(random_rotation(rng))
    run = make(filter_time_s=0.2)
    raw, smooth = [], []
    for step in range(600):
        measured = noisy(rng, true)
        out = run.update(measured, true, step / 30)
        if step > 60:
            raw.append(
                [
                    np.linalg.norm(measured.translation - true.translation),
                    rotation_angle(measured.rotation, true.rotation),
                ]
            )
            smooth.append(
                [np.linalg.norm(out.translation - true.translation), rotation_angle(out.rotation, true.rotation)]
            )
    # Variance of a first-order low pass: share / (2 - share), share = 1 - exp(-dt / T).
    share = 1 - np.exp(-1 / 30 / 0.2)
    ratio = np.sqrt(np.mean(np.square(smooth), axis=0) / np.mean(np.square(raw), axis=0))
    np.testing.assert_allclose(ratio, np.sqrt(share / (2 - share)), rtol=0.25)


@few
@given(seeds, st.sampled_from(['none', 'half_turn', 'axis']))
def test_a_result_lies_between_the_old_and_the_new_pose_on_the_shortest_way(seed, kind):
    symmetries = {'none': Symmetries(), 'half_turn': Symmetries((HALF_TURN,)), 'axis': Symmetries((), (AXIS,))}[kind]
    rng = np.random.default_rng(seed)
    first = pose(random_rotation(rng))
    run = make(symmetries)
    run.update(first, first, 0.0)
    moved = noisy(rng, first, 0.1, 0.005)
    step = rotation_angle(first.rotation, moved.rotation)
    symmetry = {
        'none': RigidTransform.identity(),
        'half_turn': HALF_TURN,
        'axis': pose(rotation_from_vector([0, 0, 2.0]), (0, 0, 0)),
    }
    out = run.update(moved @ symmetry[kind], first, 0.05)
    assert out is not None
    assert rotation_angle(first.rotation, out.rotation) <= step + 1e-6
    between = np.linalg.norm(out.translation - first.translation) / np.linalg.norm(
        moved.translation - first.translation
    )
    assert between == pytest.approx(1 - np.exp(-0.5))


@few
@given(seeds)
def test_a_rotation_through_all_hemispheres_has_no_jump(seed):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    run = make(filter_time_s=0.05)
    seen, last = [], None
    for step in range(90):
        true = pose(rotation_from_vector(axis * 0.15 * step))
        seen.append(run.update(true, last or true, step / 30))
        last = true
    steps = [rotation_angle(a.rotation, b.rotation) for a, b in pairwise(seen)]
    assert max(steps) < 0.16
    assert min(steps[30:]) > 0.14


@pytest.mark.parametrize('wrong', [pose(translation=(0.2, 0, 0.7)), pose(rotation_from_vector([2.0, 0, 0]))])
def test_one_outlier_is_refused_and_leaves_no_trace(wrong):
    run, true = make(), pose()
    for step in range(5):
        run.update(true, true, step / 30)
    assert run.update(wrong, true, 5 / 30) is None
    out = run.update(true, true, 6 / 30)
    np.testing.assert_allclose(out.matrix(), true.matrix(), atol=1e-12)


def test_outliers_that_agree_are_a_new_place_and_those_that_do_not_are_not():
    run, true, rng = make(filter_reset_count=3), pose(), np.random.default_rng(0)
    run.update(true, true, 0.0)
    there = pose(translation=(0.3, 0, 0.7))
    got = [run.update(noisy(rng, there), true, step / 30) for step in (1, 2, 3)]
    assert [item is None for item in got] == [True, True, False]
    assert np.linalg.norm(got[-1].translation - there.translation) < 0.02
    run = make(filter_reset_count=3)
    run.update(true, true, 0.0)
    for step in range(1, 10):
        assert run.update(pose(translation=(0.3 * step, 0, 0.7)), true, step / 30) is None


def test_after_a_gap_and_when_time_goes_back_it_starts_anew():
    for stamp in (LONGEST_GAP_S + 0.1, -5.0):
        run = make()
        run.update(pose(), pose(), 0.0)
        there = pose(translation=(0.5, 0, 0.7))
        assert run.update(there, pose(), stamp) is there
