"""Paired differences of two result files on the same targets."""

import numpy as np
import pytest

from kd6d_ros.errors import ShapeError
from kd6d_ros.evaluation.paired import difference_lines, paired_differences
from kd6d_ros.evaluation.report import bootstrap_intervals
from kd6d_ros.evaluation.scores import InstanceScore


def instance(image_id, good):
    ten = np.full(10, good)
    return InstanceScore(1, image_id, 1, 0.9, True, ten, ten, good, 0.05, 5.0, 0.05, 0.1, 0.01)


HARD = np.arange(100) < 50
SCORES = [instance(image, bool(good)) for image, good in enumerate(HARD)]
OTHERS = [instance(image, bool(good) and image % 25 != 0) for image, good in enumerate(HARD)]


def test_the_difference_and_its_interval():
    found = paired_differences(SCORES, OTHERS, 300, 0)
    assert list(found) == ['ar_mssd', 'ar_mspd', 'mean_add_recall']
    item = found['mean_add_recall']
    assert item.value == pytest.approx(0.02)
    assert 0.0 <= item.low < item.value < item.high <= 0.06
    low, high = bootstrap_intervals(SCORES, 300, 0)['mean_add_recall']
    assert item.high - item.low < 0.5 * (high - low)  # what is hard for both cancels out
    assert 'mean_add_recall minus that of --against: +2.00 [' in difference_lines(found)[2]


def test_equal_files_differ_by_nothing():
    for item in paired_differences(SCORES, SCORES, 20, 1).values():
        assert (item.value, item.low, item.high) == (0, 0, 0)


def test_other_targets_are_refused():
    with pytest.raises(ShapeError, match='different targets'):
        paired_differences(SCORES, OTHERS[:-1], 10, 0)
