"""Two result files on the same targets: differences of their scores, with intervals.

Both are scored on the same resampled images, so what makes an image hard for both cancels out; the interval is much
narrower than those of the two scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List

import numpy as np

from kd6d_ros.errors import ShapeError
from kd6d_ros.evaluation.report import RESAMPLED, resampled, sums_by_image

if TYPE_CHECKING:
    from kd6d_ros.evaluation.report import Scores


@dataclass(frozen=True)
class Difference:
    """`value` is a score minus that of the other file; low, high: 95 % percentile interval over resampled images."""

    value: float
    low: float
    high: float


def paired_differences(scores: Scores, others: Scores, samples: int, seed: int) -> Dict[str, Difference]:
    """Differences of ar_mssd, ar_mspd and mean_add_recall, by name.

    Raises:
        ShapeError: the two are not of the same targets.
    """
    ours, theirs = sums_by_image(scores), sums_by_image(others)
    if ours.shape != theirs.shape or not np.array_equal(ours[..., 0], theirs[..., 0]):
        raise ShapeError('paired differences: the scores are of different targets')
    rng, count = np.random.default_rng(seed), len(ours)
    every = np.arange(count)
    draws = [every, *(rng.integers(0, count, count) for _ in range(samples))]
    gaps = np.array([np.subtract(resampled(ours, rows), resampled(theirs, rows)) for rows in draws])
    low, high = np.nanpercentile(gaps[1:], [2.5, 97.5], axis=0)
    return {name: Difference(float(gaps[0, i]), float(low[i]), float(high[i])) for i, name in enumerate(RESAMPLED)}


def difference_lines(differences: Dict[str, Difference]) -> List[str]:
    """One line per score, ADD in percentage points."""
    lines = []
    for name, item in differences.items():
        factor, digits, unit = (100, 2, ' points') if name == 'mean_add_recall' else (1, 4, '')
        value, low, high = (f'{factor * number:+.{digits}f}' for number in (item.value, item.low, item.high))
        lines.append(f'{name} minus that of --against: {value} [{low}, {high}]{unit}')
    return lines
