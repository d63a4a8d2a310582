"""Matching and recall by BOP's rules, on cases small enough to count by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.errors import DatasetError
from kd6d_ros.evaluation.records import Estimate, EvaluationObject, EvaluationTarget, GroundTruth
from kd6d_ros.evaluation.result_table import ResultTable
from kd6d_ros.evaluation.scores import (
    MSPD_THRESHOLDS,
    MSSD_THRESHOLDS,
    ScoreOptions,
    iterate_scores,
    match_greedily,
    score_targets,
)
from kd6d_ros.evaluation.visible_surface import VisibleSurface
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.types import RigidTransform, Symmetries

CUBE = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.05, 0.05) for z in (-0.05, 0.05)])
DIAMETER = 0.2  # a round number instead of the cube's, so that thresholds are easy to read
HALF_TURN = RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
OBJECTS = {
    1: EvaluationObject(1, DIAMETER, CUBE),
    2: EvaluationObject(2, DIAMETER, CUBE, Symmetries((HALF_TURN,))),
}


def pose(x=0.0, y=0.0, z=1.0, rotation=None):
    return RigidTransform(np.eye(3) if rotation is None else rotation, [x, y, z])


def target(truths, obj_id=1, count=None, image_id=1, width=640):
    camera = make_camera([[500, 0, width / 2], [0, 500, 240], [0, 0, 1]], width, 480)
    records = tuple(GroundTruth(*truth) if isinstance(truth, tuple) else GroundTruth(truth) for truth in truths)
    return EvaluationTarget(1, image_id, obj_id, count or len(truths), camera, records)


def estimate(at, score=0.5, obj_id=1, image_id=1):
    return Estimate(1, image_id, obj_id, score, at)


def test_thresholds_are_bops():
    assert MSSD_THRESHOLDS == (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
    assert MSPD_THRESHOLDS == (5, 10, 15, 20, 25, 30, 35, 40, 45, 50)


def test_a_perfect_estimate_hits_everything():
    (score,) = score_targets([target([pose()])], [estimate(pose())], OBJECTS)
    assert score.hits_mssd.all()
    assert score.hits_mspd.all()
    assert score.hit_add
    assert score.estimated
    assert score.mssd == pytest.approx(0, abs=1e-12)


def test_a_shift_counts_above_its_threshold_only():
    # 25 mm of 200 mm diameter = 0.125: hit from 0.15 on. In pixels 0.025 * 500 / 0.95 = 13.2 at the near face.
    (score,) = score_targets([target([pose()])], [estimate(pose(x=0.025))], OBJECTS)
    np.testing.assert_array_equal(score.hits_mssd, [False, False] + [True] * 8)
    np.testing.assert_array_equal(score.hits_mspd, [False, False] + [True] * 8)
    assert not score.hit_add
    assert score.mssd == pytest.approx(0.125)
    assert score.add == pytest.approx(0.125)
    assert score.mspd == pytest.approx(0.025 * 500 / 0.95)
    assert score.translation == pytest.approx(0.025)
    assert score_targets([target([pose()])], [estimate(pose(x=0.0199))], OBJECTS)[0].hit_add


def test_an_error_at_the_threshold_is_a_miss():
    errors = np.array([[0.1]])
    assert not match_greedily(errors, 0.1)[0]
    assert match_greedily(errors, 0.1000001)[0]


def test_pixels_scale_with_the_width_of_the_image():
    wide = target([pose()], width=1280)
    (score,) = score_targets([wide], [estimate(pose(x=0.025))], OBJECTS)
    assert score.mspd == pytest.approx(0.025 * 500 / 0.95 / 2)
    assert score.hits_mspd.sum() == 9


def test_area_under_the_curve_by_hand():
    """A shift of 25 mm is found at every threshold from 25 mm on: three quarters of the way to 100 mm."""
    at = [target([pose()], image_id=image) for image in (1, 2, 3)]
    found = [estimate(pose(x=0.025), image_id=1), estimate(pose(x=0.11), image_id=2), estimate(pose(), image_id=3)]
    scores = score_targets(at, found, OBJECTS)
    assert [score.auc_add for score in scores] == [pytest.approx(0.75), 0.0, pytest.approx(1.0)]
    thresholds = np.linspace(0, 0.1, 20001)[1:]
    curve = np.mean([[error < limit for limit in thresholds] for error in (0.025, 0.11, 0.0)])
    assert np.mean([score.auc_add for score in scores]) == pytest.approx(curve, abs=1e-4)


def test_add_s_of_a_plain_object_on_request():
    turned = pose(rotation=HALF_TURN.rotation)
    table = ResultTable([estimate(turned)])
    (without,) = iterate_scores([target([pose()])], table, OBJECTS)
    (score,) = iterate_scores([target([pose()])], table, OBJECTS, ScoreOptions(add_s=True))
    assert (without.hit_add_s, without.auc_add_s) == (None, None)
    # The cube's corners fall on each other, though each is another one.
    assert (score.hit_add, score.hit_add_s) == (False, True)
    assert score.auc_add_s == pytest.approx(1.0, abs=1e-6)
    (missing,) = iterate_scores([target([pose()])], ResultTable([]), OBJECTS, ScoreOptions(add_s=True))
    assert (missing.hit_add_s, missing.auc_add_s) == (False, 0.0)


def test_vsd_is_matched_for_every_tolerance_and_threshold():
    """The estimate renders a plane 30 mm behind the truth's: 0.15 of the diameter, so wrong up to that tau."""
    camera = target([pose()]).camera
    plane = np.zeros((camera.height, camera.width), np.float32)
    plane[200:280, 280:360] = 1.0

    def render(obj_id, at, camera):
        return plane * at.translation[2]

    surface = VisibleSurface(render, lambda scene_id, image_id: np.zeros_like(plane))
    options = ScoreOptions(surface)
    (score,) = iterate_scores([target([pose()])], ResultTable([estimate(pose(z=1.0301))]), OBJECTS, options)
    np.testing.assert_array_equal(score.hits_vsd.all(axis=1), [False] * 3 + [True] * 7)
    assert not score.hits_vsd[:3].any()
    (missing,) = iterate_scores([target([pose()])], ResultTable([]), OBJECTS, options)
    assert missing.hits_vsd.shape == (10, 10)
    assert not missing.hits_vsd.any()


def test_a_missing_estimate_is_a_failure():
    (score,) = score_targets([target([pose()])], [], OBJECTS)
    assert not score.estimated
    assert not score.hits_mssd.any()
    assert not score.hits_mspd.any()
    assert not score.hit_add
    assert score.mssd == float('inf')


def test_only_the_best_scored_estimates_count():
    good, bad = estimate(pose(), 0.4), estimate(pose(x=0.5), 0.6)
    (score,) = score_targets([target([pose()])], [good, bad], OBJECTS)
    assert not score.hits_mssd.any()
    (score,) = score_targets([target([pose()])], [good, estimate(pose(x=0.5), 0.3)], OBJECTS)
    assert score.hits_mssd.all()


def test_equal_scores_keep_the_order_of_the_file():
    good, bad = estimate(pose()), estimate(pose(x=0.5))
    assert score_targets([target([pose()])], [good, bad], OBJECTS)[0].hit_add
    assert not score_targets([target([pose()])], [bad, good], OBJECTS)[0].hit_add


def test_estimates_elsewhere_do_not_help():
    others = [estimate(pose(), obj_id=2), estimate(pose(), image_id=2)]
    assert not score_targets([target([pose()])], others, OBJECTS)[0].estimated


def test_instances_are_matched_one_to_one():
    two = target([pose(x=-0.2), pose(x=0.2)])
    both = score_targets([two], [estimate(pose(x=0.2), 0.9), estimate(pose(x=-0.2), 0.8)], OBJECTS)
    assert [score.hit_add for score in both] == [True, True]
    same = score_targets([two], [estimate(pose(x=0.2), 0.9), estimate(pose(x=0.2), 0.8)], OBJECTS)
    assert sorted(score.hit_add for score in same) == [False, True]


def test_only_the_most_visible_instances_are_targets():
    truths = [(pose(x=-0.2), 0.1), (pose(x=0.2), 0.9)]
    (score,) = score_targets([target(truths, count=1)], [estimate(pose(x=-0.2))], OBJECTS)
    assert score.visible_fraction == 0.9
    assert not score.hit_add
    (score,) = score_targets([target(truths, count=1)], [estimate(pose(x=0.2))], OBJECTS)
    assert score.hit_add


def test_one_estimate_for_two_instances_leaves_one_missing():
    truths = [(pose(x=-0.2), 0.5), (pose(x=0.2), 0.9)]
    scores = score_targets([target(truths)], [estimate(pose(x=-0.2))], OBJECTS)
    assert [score.visible_fraction for score in scores] == [0.9, 0.5]
    assert [score.hit_add for score in scores] == [False, True]
    assert [score.estimated for score in scores] == [True, False]


def test_greedy_matching_follows_the_score_not_the_best_total():
    # The first estimate takes the second instance, which alone would have suited the other estimate.
    errors = np.array([[0.3, 0.2], [0.9, 0.1]])
    np.testing.assert_array_equal(match_greedily(errors, 0.5), [False, True])
    np.testing.assert_array_equal(match_greedily(errors[::-1], 0.5), [True, True])


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(1, 5), st.floats(0, 1.2))
def test_greedy_matching_equals_a_plain_loop(seed, estimates, truths, threshold):
    errors = np.random.default_rng(seed).random((estimates, truths))
    taken = set()
    for row in errors:
        best, lowest = None, threshold
        for column, error in enumerate(row):
            if column not in taken and error < lowest:
                best, lowest = column, error
        if best is not None:
            taken.add(best)
    np.testing.assert_array_equal(match_greedily(errors, threshold), [c in taken for c in range(truths)])


def test_symmetric_objects_are_scored_up_to_symmetry():
    turned = pose(rotation=HALF_TURN.rotation)
    (plain,) = score_targets([target([pose()], obj_id=1)], [estimate(turned, obj_id=1)], OBJECTS)
    (symmetric,) = score_targets([target([pose()], obj_id=2)], [estimate(turned, obj_id=2)], OBJECTS)
    assert not plain.hit_add
    assert plain.rotation == pytest.approx(np.pi)
    assert symmetric.hits_mssd.all()
    assert symmetric.hits_mspd.all()
    assert symmetric.hit_add
    assert symmetric.rotation == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ('targets', 'message'),
    [
        ([target([pose()], obj_id=7)], r'target \(scene 1, image 1, object 7\): the object is not among'),
        ([target([pose()], count=2)], 'asks for 2 instances, the ground truth has 1'),
        ([target([pose()]), target([pose()])], 'is listed twice'),
    ],
)
def test_targets_that_cannot_be_scored(targets, message):
    with pytest.raises(DatasetError, match=message):
        score_targets(targets, [], OBJECTS)
