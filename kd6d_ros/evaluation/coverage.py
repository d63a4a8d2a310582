"""Whether covariances say what they mean: coverage, likelihood and rank correlation over published poses.

Coverage at p: the share of poses whose error e has e^T C^-1 e below the p-quantile of chi squared with as many degrees
of freedom. The likelihood is compared with the best constant covariance of each object, which is fitted to the very
errors that it is then judged on: no constant could do better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray

LEVELS = (0.5, 0.9, 0.95)
CHI_SQUARED = {3: (2.365974, 6.251389, 7.814728), 6: (5.348121, 10.644641, 12.591587)}
"""Quantiles at LEVELS by degrees of freedom."""

PARTS = {'pose': slice(0, 6), 'position': slice(0, 3), 'rotation': slice(3, 6)}
WRONG = 0.1
"""A pose whose ADD(-S) is beyond this share of the diameter is called wrong."""


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """Published poses with the truth. errors (N, 6): estimate minus truth, translation [m] and rotation vector [rad]
    in the camera's axes; covariances (N, 6, 6); names (N,) of the objects; visible (N,) in 0..1; add (N,): ADD(-S) over
    the diameter."""

    errors: FloatArray
    covariances: FloatArray
    names: Tuple[str, ...]
    visible: FloatArray
    add: FloatArray


def coverage(poses: PoseErrors, part: str) -> Tuple[float, ...]:
    """Shares at LEVELS for one of PARTS."""
    squared = _mahalanobis(poses, PARTS[part])
    limits = CHI_SQUARED[poses.errors[:, PARTS[part]].shape[1]]
    return tuple(float((squared <= limit).mean()) for limit in limits)


def negative_log_likelihood(errors: FloatArray, covariances: FloatArray) -> float:
    """Mean over the poses [nats]."""
    _, log_det = np.linalg.slogdet(covariances)
    squared = np.einsum('ni,nij,nj->n', errors, np.linalg.inv(covariances), errors)
    return float((0.5 * (squared + log_det + errors.shape[1] * np.log(2 * np.pi))).mean())


def constant_covariances(errors: FloatArray, names: Sequence[str]) -> FloatArray:
    """(N, 6, 6): for each pose the second moment of the errors of its object."""
    out = np.empty((len(errors), errors.shape[1], errors.shape[1]))
    for name in set(names):
        own = np.array([item == name for item in names])
        moment = errors[own].T @ errors[own] / own.sum()
        out[own] = moment + 1e-12 * np.eye(len(moment))
    return out


def rank_correlation(first: AnyArray, second: AnyArray) -> float:
    """Spearman's, without correction for ties; NaN for fewer than three values."""
    if len(first) < 3:
        return float('nan')
    ranks = [np.argsort(np.argsort(values, kind='stable'), kind='stable') for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def summary(poses: PoseErrors) -> Dict[str, Any]:
    """Everything about a set of poses: counts, coverage by part, object and visibility third, likelihoods, ranks."""
    constant = constant_covariances(poses.errors, poses.names)
    record: Dict[str, Any] = {
        'poses': len(poses.errors),
        'wrong': float((poses.add > WRONG).mean()),
        'levels': list(LEVELS),
        'coverage': {part: list(coverage(poses, part)) for part in PARTS},
        'nll': negative_log_likelihood(poses.errors, poses.covariances),
        'nll_best_constant': negative_log_likelihood(poses.errors, constant),
    }
    for part in ('position', 'rotation'):
        own = poses.covariances[:, PARTS[part], PARTS[part]]
        predicted = np.trace(own, axis1=1, axis2=2)
        record[f'rank_{part}'] = rank_correlation(predicted, np.linalg.norm(poses.errors[:, PARTS[part]], axis=1))
    record['groups'] = {name: _group(poses, rows) for name, rows in _groups(poses)}
    return record


def _group(poses: PoseErrors, rows: AnyArray) -> Dict[str, Any]:
    own = PoseErrors(
        poses.errors[rows], poses.covariances[rows], tuple(np.array(poses.names)[rows]), poses.visible[rows],
        poses.add[rows],
    )  # fmt: skip
    return {
        'poses': int(rows.sum()),
        'wrong': float((own.add > WRONG).mean()),
        'coverage': {part: list(coverage(own, part)) for part in PARTS},
    }


def _groups(poses: PoseErrors) -> List[Tuple[str, AnyArray]]:
    names = np.array(poses.names)
    out = [(name, names == name) for name in sorted(set(poses.names))]
    low, high = np.quantile(poses.visible, [1 / 3, 2 / 3])
    thirds = {
        f'visible below {low:.2f}': poses.visible < low,
        f'visible {low:.2f} to {high:.2f}': (poses.visible >= low) & (poses.visible < high),
        f'visible from {high:.2f}': poses.visible >= high,
    }
    return out + [(name, rows) for name, rows in thirds.items() if rows.any()]


def _mahalanobis(poses: PoseErrors, part: slice) -> FloatArray:
    errors, own = poses.errors[:, part], poses.covariances[:, part, part]
    out: FloatArray = np.einsum('ni,nij,nj->n', errors, np.linalg.inv(own), errors)
    return out


def table(record: Dict[str, Any]) -> List[List[Any]]:
    """Rows (what, poses, wrong %, coverage % of the pose, position and rotation at the three levels)."""
    rows = [['all', record['poses'], f'{100 * record["wrong"]:.1f}', *_cells(record['coverage'])]]
    for name, group in record['groups'].items():
        rows.append([name, group['poses'], f'{100 * group["wrong"]:.1f}', *_cells(group['coverage'])])
    return rows


TABLE_HEADER = ('poses of', 'poses', 'wrong %', 'pose 50/90/95', 'position 50/90/95', 'rotation 50/90/95')


def _cells(shares: Dict[str, Sequence[float]]) -> List[str]:
    return [' / '.join(f'{100 * value:.1f}' for value in shares[part]) for part in PARTS]
