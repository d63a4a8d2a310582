"""Causes of wrong poses, on poses that are wrong in a known way."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.evaluation.error_sources import (
    DISTANCE,
    NO_POSE,
    PARTS,
    PLACE,
    POSITION,
    RIGHT,
    ROTATION,
    SEVERAL,
    TargetErrors,
    find_cause,
    groups,
    summarise,
    with_true,
)
from kd6d_ros.evaluation.pose_errors import add
from kd6d_ros.types import RigidTransform

VERTICES = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.04, 0.04) for z in (-0.06, 0.06)])
DIAMETER = float(np.linalg.norm(VERTICES[-1] - VERTICES[0]))
TRUTH = RigidTransform(cv2.Rodrigues(np.array([0.4, -0.3, 0.2]))[0], np.array([0.1, -0.05, 0.9]))


def right(pose):
    return add(pose, TRUTH, VERTICES) < 0.1 * DIAMETER


def off(distance=1.0, across=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0)):
    place = TRUTH.translation * distance + np.array(across)
    return RigidTransform(cv2.Rodrigues(np.array(turn, dtype=float))[0] @ TRUTH.rotation, place)


@pytest.mark.parametrize(('pose', 'cause'), [
    (off(), RIGHT),
    (off(distance=1.005, turn=(0.02, 0, 0)), RIGHT),
    (off(distance=1.1), DISTANCE),
    (off(distance=0.7), DISTANCE),
    (off(across=(0.03, 0, 0)), PLACE),
    (off(distance=1.1, across=(0.05, 0, 0)), POSITION),
    (off(turn=(0, 0.8, 0)), ROTATION),
    (off(distance=1.2, turn=(0, 0.8, 0)), SEVERAL),
])  # fmt: skip
def test_the_part_that_is_wrong_is_named(pose, cause):
    found, with_part = find_cause(pose, TRUTH, right)
    assert found == cause
    assert set(with_part) == set(PARTS)
    if cause in PARTS:
        assert with_part[cause]
        assert not right(pose)


def test_position_puts_right_what_distance_or_place_would():
    _, with_part = find_cause(off(distance=1.1), TRUTH, right)
    assert with_part == {DISTANCE: True, PLACE: False, POSITION: True, ROTATION: False}


@given(st.floats(0.5, 2.0), st.tuples(*[st.floats(-0.2, 0.2)] * 3), st.tuples(*[st.floats(-3.0, 3.0)] * 3))
def test_parts_come_from_the_truth_and_the_rest_stays(distance, across, turn):
    pose = off(distance, across, turn)
    far, true_far = np.linalg.norm(pose.translation), np.linalg.norm(TRUTH.translation)
    ray, true_ray = pose.translation / far, TRUTH.translation / true_far
    of_distance, of_place = (with_true(part, pose, TRUTH).translation for part in (DISTANCE, PLACE))
    np.testing.assert_allclose(of_distance, ray * true_far, atol=1e-12)
    np.testing.assert_allclose(of_place, true_ray * far, atol=1e-12)
    np.testing.assert_allclose(with_true(POSITION, pose, TRUTH).translation, TRUTH.translation)
    for part in (DISTANCE, PLACE, POSITION):
        np.testing.assert_allclose(with_true(part, pose, TRUTH).rotation, pose.rotation)
    turned = with_true(ROTATION, pose, TRUTH)
    np.testing.assert_allclose(turned.rotation, TRUTH.rotation)
    np.testing.assert_allclose(turned.translation, pose.translation)


ONE = TargetErrors(1, 2, 5, 'mug', 0.8, 60.0, 0.9, 0.8, RIGHT, dict.fromkeys(PARTS, True),
                   {'given': True, 'whole': True}, 0.04, 0.03, 0.9)  # fmt: skip


def test_groups_hold_every_target_once_of_each_kind_and_none_is_empty():
    items = [
        ONE, replace(ONE, name='cup', obj_id=1, visible=0.3, size_px=30.0, distance=0.5, box_iou=0.2, corners=0.15),
        replace(ONE, visible=None, size_px=120.0, distance=1.5, box_iou=None, corners=None, mask_iou=None),
    ]  # fmt: skip
    found = dict(groups(items))
    assert found['all'] == items
    assert list(found)[1:3] == ['cup', 'mug']  # by their ids
    assert found['mug'] == [items[0], items[2]]
    assert found['visible 25 to 50 %'] == [items[1]]
    assert found['visible from 75 % on'] == [items[0]]
    assert found['smaller than 40 px'] == [items[1]]
    assert found['from 95 px on'] == [items[2]]
    assert found['box overlaps by less than 0.5'] == [items[1]]
    assert found['corners off by 10 to 20 %'] == [items[1]]
    assert sum(len(members) for label, members in found.items() if label.endswith(' m') or ' m ' in label) == 3
    assert all(found.values())
    assert groups([]) == []


def test_shares_are_of_all_targets_of_a_group():
    lost = replace(ONE, cause=NO_POSE, right_with={}, boxes={'given': False, 'whole': True}, corners=None)
    far = replace(
        ONE, cause=DISTANCE, right_with={DISTANCE: True, POSITION: True}, boxes={'given': False, 'whole': False}
    )
    group = summarise([ONE, lost, far, replace(ONE, corners=0.2)])
    assert group['targets'] == 4
    assert group['recall'] == 0.5
    assert group['causes'][RIGHT] == 0.5
    assert group['causes'][NO_POSE] == group['causes'][DISTANCE] == 0.25
    assert sum(group['causes'].values()) == pytest.approx(1.0)
    assert group['recall_with_true'] == {DISTANCE: 0.75, PLACE: 0.5, POSITION: 0.75, ROTATION: 0.5}
    assert group['recall_with_box'] == {'given': 0.5, 'whole': 0.75}
    assert group['median_corners'] == 0.04
    assert summarise([lost])['median_corners'] is None
