"""Recalls, errors, jitter and coverage on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kd6d_ros.benchmark.pose_figures import Scene, covariance_coverage, jitter, pose_figures
from kd6d_ros.benchmark.records import PublishedPose, TruthObject
from kd6d_ros.benchmark.scoring import DROPPED, RIGHT, ObjectOutcome
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.transforms import rotation_from_vector
from kd6d_ros.types import ObjectModel, RigidTransform, Symmetries

CAMERA = make_camera([[500, 0, 320], [0, 500, 240], [0, 0, 1]], 640, 480)
POINTS = np.array([[0.05, 0, 0], [-0.05, 0, 0], [0, 0.05, 0], [0, -0.05, 0]])
PLAIN = {'mug': ObjectModel('mug', 1, 0.1, np.zeros((8, 3)))}


def scene(stamps=range(100), models=PLAIN):
    return Scene(models, {'mug': POINTS}, dict.fromkeys(stamps, CAMERA))


def at(x=0.0, turn=0.0, z=1.0):
    return RigidTransform(rotation_from_vector(np.array([0, 0, turn])), [x, 0, z])


def outcome(stamp, true, found=None, visible=1.0, covariance=None, error=None):
    pose = None if found is None else PublishedPose('mug', 'mug_0', found, 0.9, covariance)
    if error is None and found is not None:
        error = float(np.linalg.norm(found.apply(POINTS) - true.apply(POINTS), axis=1).mean())
    truth = TruthObject('mug', true, visible)
    return ObjectOutcome(stamp, stamp, truth, DROPPED if found is None else RIGHT, pose, error)


def test_recalls_count_what_is_missing_and_not_what_is_hidden():
    outcomes = [
        outcome(0, at(), at()),
        outcome(1, at(), at(0.02)),  # 10 px and 20 mm off
        outcome(2, at(), at(turn=np.radians(6))),  # 6 degrees off; a point moves 50 mm * 2 sin 3 deg = 5.2 mm = 2.6 px
        outcome(3, at()),
        outcome(4, at(), at(0.3), visible=0.05),
    ]
    figures = pose_figures(outcomes, scene())
    assert figures['recall_5cm_5deg'] == pytest.approx(2 / 4)
    assert figures['recall_projection_5px'] == pytest.approx(2 / 4)
    chord = 0.05 * 2 * np.sin(np.radians(3))
    assert figures['add_auc'] == pytest.approx((1 + 0.8 + (1 - chord / 0.1) + 0) / 4)
    assert figures['translation_m']['p50'] == pytest.approx(0)
    assert figures['rotation_rad']['p95'] == pytest.approx(np.quantile([0, 0, np.radians(6)], 0.95))
    assert figures['projection_px']['p50'] == pytest.approx(500 * chord)


def test_errors_are_up_to_symmetry():
    half = RigidTransform(np.diag([-1.0, -1, 1]), np.zeros(3))
    models = {'mug': ObjectModel('mug', 1, 0.1, np.zeros((8, 3)), Symmetries((half,)))}
    figures = pose_figures([outcome(0, at(), at(turn=np.pi), error=0.0)], scene(models=models))
    assert figures['rotation_rad']['p50'] == pytest.approx(0, abs=1e-9)
    assert figures['recall_projection_5px'] == 1.0


def test_without_targets_or_poses_there_are_reasons_and_no_numbers():
    figures = pose_figures([outcome(0, at(), visible=0.0)], scene())
    assert figures['add_auc'] is figures['recall_5cm_5deg'] is figures['translation_m'] is None
    assert figures['why']['add_auc'] == 'no image in which an object has to be found'
    assert figures['why']['translation_m'] == 'no pose of a visible object'
    assert 'for 10 images' in figures['why']['jitter']
    assert figures['why']['coverage'] == 'fewer than 20 poses with one'
    without = [outcome(k, at(), at()) for k in range(3)]
    assert pose_figures(without, scene())['why']['coverage'] == 'the bundle has no covariance'


def test_jitter_is_the_scatter_at_rest_and_not_the_offset():
    # Two places in turn, 2 mm apart, all 30 mm beside the truth: standard deviation sqrt(20/19) * 1 mm.
    rest = [outcome(k, at(), at(0.03 + 0.002 * (k % 2))) for k in range(20)]
    found, reason = jitter(rest, scene())
    assert reason == ''
    assert found['translation_m'] == pytest.approx(0.001 * np.sqrt(20 / 19))
    assert found['rotation_rad'] == pytest.approx(0)
    assert found['poses'] == 20


def test_jitter_needs_a_rest():
    moving = [outcome(k, at(0.01 * k), at(0.01 * k)) for k in range(40)]
    assert jitter(moving, scene())[0] is None
    short = [outcome(k, at(), at()) for k in range(9)]
    assert jitter(short, scene())[0] is None
    # A rest before and after a move: each scatters about its own mean.
    both = [outcome(k, at(0.0 if k < 15 else 0.2), at(0.0 if k < 15 else 0.25)) for k in range(30)]
    found, _ = jitter(both, scene())
    assert found['translation_m'] == pytest.approx(0, abs=1e-12)


def test_coverage_of_covariances_that_are_right_and_of_ones_that_are_too_small():
    rng = np.random.default_rng(1)
    sigma = np.array([0.002, 0.003, 0.01, 0.02, 0.03, 0.01])
    rows = []
    for k in range(4000):
        error = rng.normal(size=6) * sigma
        turned = rotation_from_vector(error[3:]) @ at(turn=0.4).rotation
        found = RigidTransform(turned, at().translation + error[:3])
        rows.append((outcome(k, at(turn=0.4), found, covariance=np.diag(sigma**2)), at(turn=0.4)))
    right, _ = covariance_coverage(rows)
    np.testing.assert_allclose(right['pose'], [0.5, 0.9, 0.95], atol=0.03)
    for item, _ in rows:
        item.pose.covariance[...] /= 4
    small, _ = covariance_coverage(rows)
    assert small['pose'][0] < 0.1
