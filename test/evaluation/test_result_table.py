"""Estimates by target, in the order of their scores."""

import numpy as np
import pytest

from kd6d_ros.evaluation.records import Estimate
from kd6d_ros.evaluation.result_table import ResultTable
from kd6d_ros.geometry.transforms import random_rotation
from kd6d_ros.types import RigidTransform

RNG = np.random.default_rng(5)


def estimate(scene, image, obj, score, x=0.0, seconds=-1.0):
    return Estimate(scene, image, obj, score, RigidTransform(random_rotation(RNG), [x, 0, 1]), seconds)


def test_estimates_come_back_as_they_were_best_first():
    rows = [estimate(2, 7, 1, 0.1, 1), estimate(1, 7, 1, 0.5, 2), estimate(2, 7, 1, 0.9, 3), estimate(2, 7, 5, 0.3, 4)]
    table = ResultTable(iter(rows))
    assert len(table) == 4
    found = table.of((2, 7, 1))
    assert [item.cam_from_obj.translation[0] for item in found] == [3, 1]
    np.testing.assert_array_equal(found[0].cam_from_obj.rotation, rows[2].cam_from_obj.rotation)
    assert (found[0].scene_id, found[0].image_id, found[0].obj_id, found[0].score) == (2, 7, 1, 0.9)
    assert len(table.of((2, 7, 1), most=1)) == 1
    assert table.of((2, 8, 1)) == table.of((3, 7, 1)) == table.of((0, 0, 0)) == []


def test_equal_scores_keep_their_order():
    table = ResultTable([estimate(1, 1, 1, 0.5, x) for x in range(50)])
    assert [item.cam_from_obj.translation[0] for item in table.of((1, 1, 1))] == list(range(50))


def test_estimates_beside_the_targets_are_counted():
    table = ResultTable(
        [estimate(1, 1, 1, 0.5), estimate(1, 1, 1, 0.4), estimate(1, 2, 1, 0.5), estimate(1, 1, 2, 0.5)]
    )
    assert table.beside({(1, 1, 1)}) == 2
    assert table.beside({(1, 1, 1), (1, 2, 1), (1, 1, 2)}) == 0


def test_seconds_count_once_per_image():
    rows = [
        estimate(1, 1, 1, 0.5, seconds=0.2),
        estimate(1, 1, 2, 0.5, seconds=0.2),
        estimate(1, 2, 1, 0.5, seconds=0.6),
    ]
    assert ResultTable(rows).seconds_per_image() == pytest.approx(0.4)
    assert ResultTable([*rows, estimate(2, 1, 1, 0.1)]).seconds_per_image() is None


def test_an_empty_table():
    table = ResultTable([])
    assert (len(table), table.of((1, 1, 1)), table.beside(set()), table.seconds_per_image()) == (0, [], 0, None)
