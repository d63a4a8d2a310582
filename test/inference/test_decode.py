"""Cells become clouds: threshold, several instances, outliers, allocation over levels."""

from dataclasses import replace

import numpy as np
import pytest

from kd6d_ros.inference.decode import box_iou, decode_instances
from kd6d_ros.types import LocalPredictions

CORNERS = np.array([[x, y] for x in (0, 40, 60, 100) for y in (0, 80)], dtype=float)


def cells(rows):
    """rows of (class, score, level, keypoints (8, 2)), padded with two empty cells as the graph does."""
    rows = [*rows, (0, 0.0, 0, np.zeros((8, 2))), (0, 0.0, 0, np.zeros((8, 2)))]
    return LocalPredictions(
        np.array([r[0] for r in rows]),
        np.array([r[1] for r in rows], dtype=np.float32),
        np.array([r[2] for r in rows]),
        np.zeros((len(rows), 2), dtype=np.float32),
        np.array([r[3] for r in rows], dtype=np.float32),
    )


def votes(count, at, score=0.8, level=1, class_index=0, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [(class_index, score - 0.01 * i, level, CORNERS + at + rng.normal(0, spread, (8, 2))) for i in range(count)]


def test_nothing_above_the_threshold_gives_nothing(bundle):
    assert decode_instances(cells([]), 0, bundle.network, bundle.decode) == []
    low = cells(votes(5, (10, 10), score=0.09))
    assert decode_instances(low, 0, bundle.network, bundle.decode) == []


def test_only_the_asked_class_counts(bundle):
    mixed = cells(votes(4, (10, 10)) + votes(6, (300, 10), class_index=1))
    cloud = decode_instances(mixed, 1, bundle.network, bundle.decode)[0]
    assert cloud.class_index == 1
    assert cloud.scores.shape == (6,)
    assert cloud.corners == pytest.approx(CORNERS + np.array([300, 10]), abs=2)


def test_two_instances_come_apart_in_order_of_support(bundle):
    both = cells(votes(4, (10, 10), 0.9) + votes(9, (200, 30), 0.8, seed=1))
    clouds = decode_instances(both, 0, bundle.network, bundle.decode, max_instances=3)
    assert len(clouds) == 2
    assert clouds[0].box() == pytest.approx([200, 30, 300, 110], abs=2)
    assert clouds[1].box() == pytest.approx([10, 10, 110, 90], abs=2)
    assert clouds[1].score == pytest.approx(0.9, abs=1e-6)
    assert len(decode_instances(both, 0, bundle.network, bundle.decode, max_instances=1)) == 1


def test_a_confident_but_lonely_cell_loses_and_is_no_instance_of_its_own(bundle):
    lonely = (0, 0.99, 1, CORNERS[::-1] + np.array([12, 8]))
    clouds = decode_instances(
        cells([lonely, *votes(6, (10, 10), 0.6)]), 0, bundle.network, bundle.decode, max_instances=3
    )
    assert len(clouds) == 1
    assert clouds[0].score == pytest.approx(0.6, abs=1e-6)
    assert clouds[0].corners == pytest.approx(CORNERS + np.array([10, 10]), abs=2)


def test_levels_share_the_cells_by_the_size_of_the_object(bundle):
    """Size 100 px between anchors 64 and 128: most from level 2, few from level 0, and the best of each."""
    rows = []
    for level in (0, 1, 2):
        rows += votes(10, (10, 10), 0.9 - 0.1 * level, level, seed=level)
    cloud = decode_instances(cells(rows), 0, bundle.network, bundle.decode)[0]
    per_level = [np.sum((cloud.scores > 0.9 - 0.1 * k - 0.095) & (cloud.scores <= 0.9 - 0.1 * k)) for k in range(3)]
    assert len(cloud.scores) == 10
    assert per_level[2] > per_level[1] > per_level[0]
    assert per_level[2] == 5


def test_missing_cells_of_a_level_are_filled_from_the_others(bundle):
    cloud = decode_instances(cells(votes(12, (10, 10), level=0)), 0, bundle.network, bundle.decode)[0]
    assert len(cloud.scores) == bundle.decode.cells_per_object
    assert cloud.scores.min() >= 0.8 - 0.095


def test_cells_with_nan_or_without_extent_are_left_out(bundle):
    broken = CORNERS.copy()
    broken[2, 1] = np.nan
    rows = [(0, 0.99, 1, broken), (0, 0.98, 1, np.full((8, 2), 5.0)), *votes(3, (10, 10))]
    cloud = decode_instances(cells(rows), 0, bundle.network, bundle.decode)[0]
    assert len(cloud.scores) == 3
    assert np.isfinite(cloud.keypoints).all()


def test_threshold_of_the_bundle_is_used(bundle):
    strict = replace(bundle.decode, score_threshold=0.78)
    cloud = decode_instances(cells(votes(8, (10, 10))), 0, bundle.network, strict)[0]
    assert len(cloud.scores) == 2


def test_box_iou():
    assert box_iou([0, 0, 2, 2], [1, 0, 3, 2]) == pytest.approx(1 / 3)
    assert box_iou([0, 0, 2, 2], [2, 0, 3, 2]) == 0
