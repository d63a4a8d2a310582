"""Coverage and likelihood against SciPy and against errors that were drawn from the covariances."""

from __future__ import annotations

import numpy as np
import pytest

from kd6d_ros.evaluation.coverage import (
    CHI_SQUARED,
    LEVELS,
    PARTS,
    PoseErrors,
    constant_covariances,
    coverage,
    negative_log_likelihood,
    rank_correlation,
    summary,
    table,
)

stats = pytest.importorskip('scipy.stats', reason='scipy is not installed: pip install kd6d_ros[train]')


def drawn(count, factor=1.0, seed=0):
    """Poses of two objects whose errors are drawn from their covariances, said `factor` times too wide."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(count, 6, 6)) * np.array([1e-3, 1e-3, 5e-3, 0.02, 0.02, 0.02])[:, None]
    size = np.exp(rng.normal(size=count))[:, None, None]
    covariances = size**2 * (base @ base.transpose(0, 2, 1) + np.diag([1e-3, 1e-3, 5e-3, 0.02, 0.02, 0.02]) ** 2)
    errors = np.einsum('nij,nj->ni', np.linalg.cholesky(covariances), rng.normal(size=(count, 6)))
    names = tuple('mug' if row % 3 else 'can' for row in range(count))
    return PoseErrors(errors, factor**2 * covariances, names, rng.random(count), np.abs(errors[:, 2]) * 10)


def test_the_limits_are_quantiles_of_chi_squared():
    for freedom, limits in CHI_SQUARED.items():
        np.testing.assert_allclose(limits, stats.chi2.ppf(LEVELS, freedom), atol=1e-5)


def test_true_covariances_cover_as_they_say_and_wrong_ones_do_not():
    poses = drawn(20000)
    for part in PARTS:
        np.testing.assert_allclose(coverage(poses, part), LEVELS, atol=0.012)
    assert coverage(drawn(5000, 0.5), 'pose')[1] < 0.5
    assert coverage(drawn(5000, 2.0), 'position')[0] > 0.8


def test_the_likelihood_is_that_of_a_normal_distribution():
    poses = drawn(50)
    expected = -np.mean([
        stats.multivariate_normal.logpdf(error, cov=covariance)
        for error, covariance in zip(poses.errors, poses.covariances, strict=True)
    ])  # fmt: skip
    assert negative_log_likelihood(poses.errors, poses.covariances) == pytest.approx(expected, abs=1e-9)


def test_the_constant_of_an_object_is_the_best_there_is():
    poses = drawn(3000)
    constant = constant_covariances(poses.errors, poses.names)
    assert len({matrix.tobytes() for matrix in constant}) == 2
    best = negative_log_likelihood(poses.errors, constant)
    for factor in (0.9, 1.1):
        assert negative_log_likelihood(poses.errors, factor * constant) > best
    assert negative_log_likelihood(poses.errors, poses.covariances) < best - 0.5


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(3)
    first = rng.normal(size=200)
    second = first + rng.normal(size=200)
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second)[0], abs=1e-9)
    assert np.isnan(rank_correlation(first[:2], second[:2]))


def test_the_summary_has_every_object_and_every_third_of_the_visibility():
    poses = drawn(900)
    record = summary(poses)
    assert record['poses'] == 900
    assert record['wrong'] == pytest.approx((poses.add > 0.1).mean())
    assert record['groups']['can']['poses'] == 300
    thirds = [group['poses'] for name, group in record['groups'].items() if name.startswith('visible')]
    assert thirds == [300, 300, 300]
    assert record['rank_position'] > 0.4
    rows = table(record)
    assert len(rows) == 1 + 2 + 3
    assert rows[0][3].count('/') == 2
