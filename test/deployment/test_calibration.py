"""Fitting covariances: errors drawn from a known law are covered as they should be; the gradient is a gradient."""

from __future__ import annotations

import numpy as np
import pytest

optimize = pytest.importorskip('scipy.optimize', reason='scipy is not installed: pip install kd6d_ros[train]')

from kd6d_ros.data.pose_samples import PoseSample  # noqa: E402
from kd6d_ros.deployment import calibration  # noqa: E402
from kd6d_ros.errors import ConfigError  # noqa: E402
from kd6d_ros.inference.covariance import COLUMNS, CovarianceModel  # noqa: E402
from kd6d_ros.inference.evidence import FEATURES, Evidence  # noqa: E402
from kd6d_ros.types import ObjectModel, RigidTransform, Symmetries  # noqa: E402

TRUE = CovarianceModel(
    np.zeros(len(COLUMNS)), np.ones(len(COLUMNS)), np.array([-6.0, -4.5, -3.5]),
    np.array([[0.8, 0, 0.3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0.5, 0, -0.4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
              [0, 0, 0.6, 0, 0, 0.2, 0, 0, 0, 0, 0, 0, 0]]),
    {'mug': np.zeros(3), 'can': np.array([0.3, 0.7, -0.5])},
    0.9,
    {'mug': np.array([[0.0, 0.0, 0.0], [0.6, 0.0, -0.9], [0.0, 0.5, 0.0]])},
)  # fmt: skip


CORNERS = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.1, 0.1)])
OBJECTS = (
    ObjectModel('mug', 1, 0.2, CORNERS),
    ObjectModel(
        'can', 2, 0.2, CORNERS, Symmetries(discrete=(RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3)),))
    ),
)


def drawn(count, seed, wrong=0.0):
    """Published poses whose errors follow TRUE, but for a share of wrong ones whose errors are five times as large."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        factor = rng.normal(size=(12, 6)) * np.array([300, 300, 60, 20, 20, 20])
        evidence = Evidence(rng.normal(size=len(FEATURES)), factor.T @ factor, factor.T @ factor)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pose = RigidTransform(turn * np.linalg.det(turn), [*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.4, 1.0)])
        name = 'mug' if rng.random() < 0.6 else 'can'
        covariance = TRUE.predict(evidence, pose, name)
        error = np.linalg.cholesky(covariance) @ rng.normal(size=6) * (5.0 if rng.random() < wrong else 1.0)
        out.append(PoseSample(name, pose, evidence, None, error, rng.random(), 0.0))
    return out


def test_errors_of_a_known_law_are_covered():
    model = calibration.fit(drawn(1200, 1), OBJECTS)
    record = calibration.evaluate(drawn(1200, 2), model)
    for part, shares in record['coverage'].items():
        np.testing.assert_allclose(shares, (0.5, 0.9, 0.95), atol=0.045, err_msg=part)
    assert record['nll'] < record['nll_best_constant'] - 0.5
    assert record['nll'] < calibration.evaluate(drawn(1200, 2), TRUE)['nll'] + 0.15
    assert record['groups']['can']['coverage']['pose'][1] == pytest.approx(0.9, abs=0.06)


def test_heavy_tails_are_shared_between_the_levels():
    """Where no factor gives every level its share, the worst of the deviations is as small as it can be."""
    model = calibration.fit(drawn(1500, 6, wrong=0.08), OBJECTS)
    record = calibration.evaluate(drawn(1500, 7, wrong=0.08), model)
    for part in ('position', 'rotation'):
        half, most, nearly = record['coverage'][part]
        assert half > 0.5
        assert nearly < 0.95
        assert most == pytest.approx(0.9, abs=0.04)


def test_how_position_and_rotation_go_together_is_found():
    assert calibration.fit(drawn(1200, 8), OBJECTS).coupling == pytest.approx(TRUE.coupling, abs=0.05)


def test_sides_that_are_measured_worse_are_found():
    model = calibration.fit(drawn(1500, 9), OBJECTS)
    np.testing.assert_allclose(model.views['mug'], TRUE.views['mug'], atol=0.2)
    assert list(model.views) == ['mug'], 'the sides of an object with symmetries cannot be told apart'


def test_a_few_wrong_poses_do_not_widen_all_others():
    clean = calibration.fit(drawn(800, 3), OBJECTS)
    mixed = calibration.fit(drawn(800, 3, wrong=0.03), OBJECTS)
    assert np.all(mixed.offset - clean.offset < 0.35)


def test_the_gradient_is_that_of_the_objective(monkeypatch):
    seen = {}

    def look(function, start, arguments, **options):
        seen['at'] = start + 0.1 * np.random.default_rng(0).normal(size=len(start))
        seen['numeric'] = optimize.approx_fprime(seen['at'], lambda x: function(x, *arguments)[0], 1e-7)
        seen['given'] = function(seen['at'], *arguments)[1]
        return optimize.OptimizeResult(x=start)

    monkeypatch.setattr(calibration.optimize, 'minimize', look)
    calibration.fit(drawn(150, 4), OBJECTS)
    np.testing.assert_allclose(seen['given'], seen['numeric'], atol=2e-5)


def test_too_few_poses_are_refused():
    with pytest.raises(ConfigError, match='only 20 published poses'):
        calibration.fit(drawn(20, 5), OBJECTS)
