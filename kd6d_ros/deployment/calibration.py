"""Fitting a bundle's covariance to the errors of its published poses on renders.

Maximum likelihood under Student's t (so that a few wrong poses do not set the scale of the good ones), then one factor
for all covariances such that the share LEVEL of the poses lies within its ellipsoid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import optimize, stats

from kd6d_ros.errors import ConfigError
from kd6d_ros.evaluation.coverage import PoseErrors, summary
from kd6d_ros.inference.covariance import (
    COLUMNS,
    GROUP_OF_AXIS,
    CovarianceModel,
    columns,
    group_means,
    ray_geometry,
    standardised,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.data.pose_samples import PoseSample
    from kd6d_ros.types import AnyArray, FloatArray

FREEDOM = 8.0
"""Degrees of freedom of the t distribution."""
LEVEL = 0.9
PENALTY = 0.01
"""Of the squared weights, beside the mean negative log-likelihood."""
LEAST_POSES = 100
LEAST_SPREAD = 1e-3
"""A column that varies less than this is left out: its weight stays zero."""


class _Data(NamedTuple):
    """rows (N, 10) standardised; error (N, 6) and whitener (N, 6, 6), the inverse Cholesky factor of the inverse
    Hessian, in the ray frame; group (N, 3) mean log deviations of that inverse; own (N,) object number or -1."""

    rows: FloatArray
    error: FloatArray
    whitener: FloatArray
    group: FloatArray
    own: AnyArray


def fit(samples: Sequence[PoseSample], objects: Sequence[str]) -> CovarianceModel:
    """The model for these poses; every object of `objects` has its own offset, if there are several.

    Raises:
        ConfigError: too few poses.
    """
    usable = [(item, ray_geometry(item.evidence.hessian, item.pose.translation)) for item in samples]
    pairs = [(item, geometry) for item, geometry in usable if geometry is not None]
    if len(pairs) < LEAST_POSES:
        raise ConfigError(f'only {len(pairs)} published poses: a covariance needs {LEAST_POSES}; give more images')
    raw = np.array([columns(item.evidence, geometry[0]) for item, geometry in pairs])
    mean, scale = raw.mean(0), raw.std(0)
    scale[scale < LEAST_SPREAD] = 1.0  # what never changed here says nothing, whatever it is on the robot
    count = len(objects) if len(objects) > 1 else 0
    data = _Data(
        standardised(raw, mean, scale),
        np.array([geometry[1] @ item.error for item, geometry in pairs]),
        np.linalg.inv(np.linalg.cholesky(np.array([geometry[0] for _, geometry in pairs]))),
        np.array([group_means(geometry[0]) for _, geometry in pairs]),
        np.array([objects.index(item.name) if count else -1 for item, _ in pairs]),
    )
    free = np.concatenate([_start(data.error), np.zeros(3 * len(COLUMNS) + 3 * count)])
    found = optimize.minimize(_objective, free, (data, count), method='L-BFGS-B', jac=True).x
    offset, weights, own = _unpack(found, count)
    squared = (_whitened(found, data, count)[0] ** 2).sum(1)
    factor = 0.5 * np.log(np.quantile(squared, LEVEL) / stats.chi2.ppf(LEVEL, 6))
    return CovarianceModel(mean, scale, offset + factor, weights, dict(zip(objects, own, strict=False)))


def evaluate(samples: Sequence[PoseSample], model: CovarianceModel) -> dict[str, Any]:
    """Coverage, likelihood and ranks of `model` on other poses, see ``evaluation.coverage.summary``."""
    found = [(item, model.predict(item.evidence, item.pose.translation, item.name)) for item in samples]
    pairs = [(item, covariance) for item, covariance in found if covariance is not None]
    record = summary(PoseErrors(
        np.array([item.error for item, _ in pairs]), np.array([covariance for _, covariance in pairs]),
        tuple(item.name for item, _ in pairs), np.array([item.visible for item, _ in pairs]),
        np.array([item.add for item, _ in pairs]),
    ))  # fmt: skip
    record['without_covariance'] = len(samples) - len(pairs)
    return record


def _start(error: FloatArray) -> FloatArray:
    """(3,) logarithms of the median absolute errors."""
    size = np.median(np.abs(error), axis=0)
    return np.array([np.log(np.maximum(size[group == GROUP_OF_AXIS], 1e-6)).mean() for group in range(3)])


def _unpack(free: FloatArray, objects: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    weights = free[3 : 3 + 3 * len(COLUMNS)].reshape(3, len(COLUMNS))
    return free[:3], weights, free[3 + weights.size :].reshape(objects, 3)


def _whitened(free: FloatArray, data: _Data, objects: int) -> tuple[FloatArray, FloatArray]:
    """Errors (N, 6) in units of their predicted deviations, and how far each axis is stretched (N, 6), as logarithm."""
    offset, weights, own = _unpack(free, objects)
    log_size = offset + data.rows @ weights.T
    if objects:
        log_size = log_size + own[data.own]
    stretch = (np.clip(log_size, -30, 30) - data.group)[:, GROUP_OF_AXIS]
    return np.einsum('nij,nj->ni', data.whitener, data.error * np.exp(-stretch)), stretch


def _objective(free: FloatArray, data: _Data, objects: int) -> tuple[float, FloatArray]:
    """Mean negative log-likelihood, up to a constant, with the penalty; and its gradient."""
    white, stretch = _whitened(free, data, objects)
    _, weights, own = _unpack(free, objects)
    squared = (white**2).sum(1)
    value = (stretch.sum(1) + (FREEDOM + 6) / 2 * np.log1p(squared / FREEDOM)).mean()
    pull = (FREEDOM + 6) / (FREEDOM + squared)  # twice the derivative by the squared distance
    turned = np.einsum('nij,ni->nj', data.whitener, white) * data.error * np.exp(-stretch)
    by_axis = (1.0 - pull[:, None] * turned) / len(white)
    by_group = np.stack([by_axis[:, group == GROUP_OF_AXIS].sum(1) for group in range(3)], 1)
    by_object = np.zeros_like(own)
    if objects:
        np.add.at(by_object, data.own, by_group)
    gradient = np.concatenate([
        by_group.sum(0), (by_group.T @ data.rows + 2 * PENALTY * weights).ravel(),
        (by_object + 2 * PENALTY * own).ravel(),
    ])  # fmt: skip
    return float(value + PENALTY * ((weights**2).sum() + (own**2).sum())), gradient
