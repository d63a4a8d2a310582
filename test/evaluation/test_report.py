"""Summaries, visibility bins and bootstrap intervals."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kd6d_ros.evaluation.report import (
    TABLE_HEADER,
    bootstrap_intervals,
    closing_lines,
    make_report,
    summarise,
    table_rows,
)
from kd6d_ros.evaluation.scores import InstanceScore


def instance(obj_id=1, image_id=1, visible=0.9, mssd=10, mspd=10, add=True, estimated=True):
    """One instance with `mssd` and `mspd` of ten thresholds hit."""
    ten = np.arange(10)
    error = 0.05 if estimated else np.inf
    return InstanceScore(
        1, image_id, obj_id, visible, estimated, ten < mssd, ten < mspd, add,
        error, 100 * error, error, 0.1 if estimated else np.inf, 0.01 if estimated else np.inf,
        0.95 if estimated else 0.0,
    )  # fmt: skip


MISSED = {'mssd': 0, 'mspd': 0, 'add': False, 'estimated': False}


def test_summary_by_hand():
    summary = summarise([instance(mssd=10, mspd=4), instance(mssd=5, mspd=2, add=False), instance(**MISSED)])
    assert (summary.targets, summary.missing) == (3, 1)
    assert summary.ar_mssd == pytest.approx(15 / 30)
    assert summary.ar_mspd == pytest.approx(6 / 30)
    assert summary.add_recall == pytest.approx(1 / 3)
    assert summary.median_mssd == pytest.approx(0.05)
    assert summary.median_rotation_rad == pytest.approx(0.1)


def test_ar_is_the_mean_of_three_and_unknown_without_vsd():
    with_vsd = replace(instance(mssd=8, mspd=4), hits_vsd=np.arange(100).reshape(10, 10) < 30)
    summary = summarise([with_vsd])
    assert (summary.ar_vsd, summary.ar) == (pytest.approx(0.3), pytest.approx((0.3 + 0.8 + 0.4) / 3))
    report = make_report([instance()], {}, 1, vsd_note='no depth')
    assert np.isnan(report.overall.ar)
    assert 'no AR: AR_VSD was not computed (no depth)' in '\n'.join(closing_lines(report))
    assert 'AR 0.500 = mean of AR_VSD 0.300' in '\n'.join(closing_lines(make_report([with_vsd], {}, 1)))


def test_the_mean_area_weighs_objects_alike():
    scores = [instance(obj_id=1)] * 3 + [instance(obj_id=2, **MISSED)]
    assert make_report(scores, {}, 4).mean_add_auc == pytest.approx((0.95 + 0) / 2)
    assert make_report(scores, {}, 4).overall.add_auc == pytest.approx(0.95 * 3 / 4)


def test_nothing_found_has_no_medians():
    assert np.isnan(summarise([instance(**MISSED)]).median_mssd)
    assert summarise([]).targets == 0
    assert np.isnan(summarise([]).ar_mssd)


def test_mean_over_objects_weighs_objects_alike():
    scores = [instance(obj_id=1)] * 3 + [instance(obj_id=2, add=False)]
    report = make_report(scores, {1: 'mug'}, 4)
    assert report.overall.add_recall == pytest.approx(0.75)
    assert report.mean_add_recall == pytest.approx(0.5)
    assert list(report.by_object) == [1, 2]


def test_visibility_bins_hold_their_lower_end():
    fractions = [0.0, 0.2499, 0.25, 0.5, 0.74, 0.75, 1.0, None]
    report = make_report([instance(visible=fraction) for fraction in fractions], {}, 8)
    counts = {label: summary.targets for label, summary in report.by_visibility.items()}
    assert counts == {'0-25 %': 2, '25-50 %': 1, '50-75 %': 2, '75-100 %': 2, 'unknown': 1}


def test_table_and_words():
    report = make_report([instance(), instance(obj_id=2, **MISSED)], {1: 'mug'}, 5, 4, 0.25)
    rows = table_rows(report)
    assert all(len(row) == len(TABLE_HEADER) for row in rows)
    assert rows[0] == ('mug', 1, 0, '-', '1.000', '1.000', '100.0', '-', '95.0', '5.7', '10.0')
    assert rows[1] == ('object 2', 1, 1, '-', '0.000', '0.000', '0.0', '-', '0.0', '-', '-')
    assert rows[-1][:3] == ('all targets', 2, 1)
    text = '\n'.join(closing_lines(report))
    assert 'AR_MSSD 0.500   AR_MSPD 0.500   mean ADD(-S)-0.1d over objects 50.0 %' in text
    assert '1 of 2 targets have no estimate and count as failures' in text
    assert '4 of 5 estimates are for no target' in text
    assert '0.250 s per image' in text


def test_record_is_plain():
    record = make_report([instance()], {1: 'mug'}, 1, bootstrap=20).record()
    assert record['by_object']['1']['name'] == 'mug'
    assert record['overall']['ar_mssd'] == 1.0
    assert record['intervals']['ar_mssd'] == (1.0, 1.0)
    json.dumps(record)


def test_bootstrap_is_seeded_and_brackets_the_score():
    rng = np.random.default_rng(0)
    scores = [
        instance(obj_id=o, image_id=i, mssd=int(rng.integers(0, 11)), mspd=5, add=bool(rng.random() < 0.6))
        for i in range(60)
        for o in (1, 2)
    ]
    intervals = bootstrap_intervals(scores, 500, seed=3)
    assert intervals == bootstrap_intervals(scores, 500, seed=3)
    assert intervals != bootstrap_intervals(scores, 500, seed=4)
    report = make_report(scores, {}, 120, bootstrap=500, seed=3)
    assert intervals['ar_mssd'][0] < report.overall.ar_mssd < intervals['ar_mssd'][1]
    assert intervals['mean_add_recall'][0] < report.mean_add_recall < intervals['mean_add_recall'][1]
    assert intervals['ar_mspd'] == (pytest.approx(0.5), pytest.approx(0.5))
    # Binomial spread of 120 draws: about 2 * 1.96 * sqrt(0.24 / 120) = 0.175 wide.
    low, high = intervals['mean_add_recall']
    assert 0.12 < high - low < 0.24
    assert '95 % intervals from 500 bootstrap samples' in '\n'.join(closing_lines(report))


def test_bootstrap_draws_images_not_instances():
    """All objects of an image stand and fall together: intervals are wide however many objects there are."""
    scores = [instance(obj_id=o, image_id=i, add=i % 2 == 0) for i in range(10) for o in range(50)]
    low, high = bootstrap_intervals(scores, 400, seed=0)['mean_add_recall']
    assert high - low > 0.4


def test_bootstrap_survives_an_object_that_a_sample_misses():
    scores = [instance(obj_id=1, image_id=i) for i in range(5)] + [instance(obj_id=2, image_id=0, add=False)]
    low, high = bootstrap_intervals(scores, 200, seed=0)['mean_add_recall']
    assert (low, high) == (0.5, 1.0)
