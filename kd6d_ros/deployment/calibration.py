"""Fitting a bundle's covariance to the errors of its published poses on renders.

Maximum likelihood under Student's t (so that a few wrong poses do not set the scale of the good ones), also of how
strongly position and rotation go together. Then one factor for all positions and one for all rotations, such that the
coverage at all levels, of pose, position and rotation, is as near to what it should be as two factors bring it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import optimize, stats

from kd6d_ros.errors import ConfigError
from kd6d_ros.evaluation.coverage import CHI_SQUARED, LEVELS, PoseErrors, summary
from kd6d_ros.inference.covariance import (
    COLUMNS,
    GROUP_OF_AXIS,
    CovarianceModel,
    columns,
    group_means,
    loosened,
    ray_geometry,
    standardised,
    viewing_direction,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.data.pose_samples import PoseSample
    from kd6d_ros.types import AnyArray, FloatArray, ObjectModel

FREEDOM = 30.0
"""Degrees of freedom of the t distribution."""
COUPLINGS = (1.0, 0.98, 0.95, 0.93, 0.9, 0.8)
"""Of position and rotation, to choose from."""
TOLERATED = (0.05, 0.03, 0.02)
"""How far from LEVELS the coverage may be: one level's deviation is weighed against another's by it."""
FACTORS = np.linspace(-0.4, 0.4, 33)
"""Of the standard deviations, as logarithms, to choose from, about those that hold LEVEL of the poses."""
LEVEL = 0.9
PENALTY = 0.01
"""Of the squared weights, beside the mean negative log-likelihood."""
PARTS = 5
"""Into so many parts are the poses cut for the factors."""
LEAST_POSES = 100
LEAST_SPREAD = 1e-3
"""A column that varies less than this is left out: its weight stays zero."""


class _Data(NamedTuple):
    """rows (N, 13) standardised; view (N, 3) viewing direction, zero for objects with symmetries; error (N, 6) and
    whitener (N, 6, 6), the inverse Cholesky factor of the loosened inverse Hessian, in the ray frame; group (N, 3) mean
    log deviations of that inverse; own (N,) object number."""

    rows: FloatArray
    view: FloatArray
    error: FloatArray
    whitener: FloatArray
    group: FloatArray
    own: AnyArray


class _Free(NamedTuple):
    """What is fitted, by GROUPS: offset (3,), weights (3, 13), objects (O, 3) and views (O, 3, 3) for O objects. One
    object needs no offset of its own: it stays zero."""

    offset: FloatArray
    weights: FloatArray
    objects: FloatArray
    views: FloatArray

    def flat(self) -> FloatArray:
        return np.concatenate([part.ravel() for part in self])


def fit(samples: Sequence[PoseSample], objects: Sequence[ObjectModel]) -> CovarianceModel:
    """The model for these poses; every object of `objects` has its own offset, if there are several, and weights of
    its own for the side that is seen.

    Raises:
        ConfigError: too few poses.
    """
    usable = [(item, ray_geometry(item.evidence.hessian, item.pose.translation)) for item in samples]
    pairs = [(item, geometry) for item, geometry in usable if geometry is not None]
    if len(pairs) < LEAST_POSES:
        raise ConfigError(f'only {len(pairs)} published poses: a covariance needs {LEAST_POSES}; give more images')
    raw = np.array([columns(item.evidence, *geometry) for item, geometry in pairs])
    mean, scale = raw.mean(0), raw.std(0)
    scale[scale < LEAST_SPREAD] = 1.0  # what never changed here says nothing, whatever it is on the robot
    names = [model.name for model in objects]
    turning = {model.name: not model.symmetries for model in objects}
    spread = np.array([geometry[0] for _, geometry in pairs])
    common = {
        'rows': standardised(raw, mean, scale),
        'view': np.array([turning[item.name] * viewing_direction(item.pose) for item, _ in pairs]),
        'error': np.array([geometry[1] @ item.error for item, geometry in pairs]),
        'group': np.array([group_means(item) for item in spread]),
        'own': np.array([names.index(item.name) for item, _ in pairs]),
    }
    fits = []
    for coupling in COUPLINGS:
        data = _Data(whitener=np.linalg.inv(np.linalg.cholesky(loosened(spread, coupling))), **common)
        free = _likeliest(data, len(names))
        fits.append((_objective(free, data, len(names))[0], coupling, free, data))
    _, coupling, free, data = min(fits, key=lambda item: item[0])
    found = _unpack(free, len(names))
    offset = found.offset + _balance(*_unseen(data, len(names)), data)
    own = dict(zip(names, found.objects, strict=True)) if len(names) > 1 else {}
    views = {name: values for name, values in zip(names, found.views, strict=True) if turning[name]}
    return CovarianceModel(mean, scale, offset, found.weights, own, coupling, views)


def evaluate(samples: Sequence[PoseSample], model: CovarianceModel) -> dict[str, Any]:
    """Coverage, likelihood and ranks of `model` on other poses, see ``evaluation.coverage.summary``."""
    found = [(item, model.predict(item.evidence, item.pose, item.name)) for item in samples]
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


def _unpack(free: FloatArray, objects: int) -> _Free:
    sizes = np.cumsum([3, 3 * len(COLUMNS), 3 * objects])
    offset, weights, own, views = np.split(free, sizes)
    return _Free(offset, weights.reshape(3, -1), own.reshape(objects, 3), views.reshape(objects, 3, 3))


def _whitened(free: FloatArray, data: _Data, objects: int) -> tuple[FloatArray, FloatArray]:
    """Errors (N, 6) in units of their predicted deviations, and how far each axis is stretched (N, 6), as logarithm."""
    parts = _unpack(free, objects)
    log_size = parts.offset + data.rows @ parts.weights.T + parts.objects[data.own]
    log_size = log_size + np.einsum('ngd,nd->ng', parts.views[data.own], data.view)
    stretch = (np.clip(log_size, -30, 30) - data.group)[:, GROUP_OF_AXIS]
    return np.einsum('nij,nj->ni', data.whitener, data.error * np.exp(-stretch)), stretch


def _likeliest(data: _Data, objects: int) -> FloatArray:
    """Free parameters, see ``_unpack``."""
    free = np.concatenate([_start(data.error), np.zeros(3 * len(COLUMNS) + 12 * objects)])
    found: FloatArray = optimize.minimize(_objective, free, (data, objects), method='L-BFGS-B', jac=True).x
    return found


def _unseen(data: _Data, objects: int) -> tuple[FloatArray, FloatArray]:
    """As ``_whitened``, each part of the poses by parameters fitted to the others: what a fit has seen lies nearer to
    it than what it has not. The parts are pieces of the sequence, since views of one scene are alike."""
    white, stretch = np.empty_like(data.error), np.empty_like(data.error)
    for part in np.array_split(np.arange(len(data.error)), PARTS):
        others = np.delete(np.arange(len(data.error)), part)
        free = _likeliest(_Data(*(item[others] for item in data)), objects)
        white[part], stretch[part] = _whitened(free, _Data(*(item[part] for item in data)), objects)
    return white, stretch


def _balance(white: FloatArray, stretch: FloatArray, data: _Data) -> FloatArray:
    """(3,) to add to the offsets: one number for position, one for rotation. white, stretch: as from ``_whitened``."""
    own = [data.error * np.exp(-stretch) * (np.arange(6) // 3 == part) for part in (0, 1)]
    first, second = (np.einsum('nij,nj->ni', data.whitener, item) for item in own)
    alone = [_squared_alone(data.whitener, item, part) for part, item in enumerate(own)]
    middle = 0.5 * np.log(np.quantile((white**2).sum(1), LEVEL) / stats.chi2.ppf(LEVEL, 6))
    choices = []
    for place, turn in itertools.product(np.exp(middle + FACTORS), repeat=2):
        pose = ((first / place + second / turn) ** 2).sum(1)
        off = [_off(pose, 6), _off(alone[0] / place**2, 3), _off(alone[1] / turn**2, 3)]
        choices.append((max(off), place, turn))
    _, place, turn = min(choices)
    return np.log([place, place, turn])


def _squared_alone(whitener: FloatArray, error: FloatArray, part: int) -> FloatArray:
    """(N,) squared distances of the position (part 0) or rotation (1) in their own covariances."""
    axes = slice(3 * part, 3 * part + 3)
    covariance = np.linalg.inv(np.einsum('nji,njk->nik', whitener, whitener))[:, axes, axes]
    out: FloatArray = np.einsum('ni,nij,nj->n', error[:, axes], np.linalg.inv(covariance), error[:, axes])
    return out


def _off(squared: FloatArray, freedom: int) -> float:
    """The largest deviation of the coverage from LEVELS, in units of what is tolerated."""
    rows = zip(CHI_SQUARED[freedom], LEVELS, TOLERATED, strict=True)
    return max(abs(float((squared <= limit).mean()) - level) / most for limit, level, most in rows)


def _objective(free: FloatArray, data: _Data, objects: int) -> tuple[float, FloatArray]:
    """Mean negative log-likelihood, up to a constant, with the penalty; and its gradient."""
    white, stretch = _whitened(free, data, objects)
    _, weights, own, views = _unpack(free, objects)
    squared = (white**2).sum(1)
    log_deviation = stretch.sum(1) - np.log(np.einsum('nii->ni', data.whitener)).sum(1)
    value = (log_deviation + (FREEDOM + 6) / 2 * np.log1p(squared / FREEDOM)).mean()
    pull = (FREEDOM + 6) / (FREEDOM + squared)  # twice the derivative by the squared distance
    turned = np.einsum('nij,ni->nj', data.whitener, white) * data.error * np.exp(-stretch)
    by_axis = (1.0 - pull[:, None] * turned) / len(white)
    by_group = np.stack([by_axis[:, group == GROUP_OF_AXIS].sum(1) for group in range(3)], 1)
    by_object, by_view = np.zeros_like(own), np.zeros_like(views)
    if objects > 1:
        np.add.at(by_object, data.own, by_group)
    np.add.at(by_view, data.own, by_group[:, :, None] * data.view[:, None, :])
    gradient = _Free(
        by_group.sum(0), by_group.T @ data.rows + 2 * PENALTY * weights, by_object + 2 * PENALTY * own,
        by_view + 2 * PENALTY * views,
    )  # fmt: skip
    penalty = PENALTY * sum(float((part**2).sum()) for part in (weights, own, views))
    return float(value + penalty), gradient.flat()
