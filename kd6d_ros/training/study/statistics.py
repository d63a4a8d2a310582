"""Differences between arms with intervals: paired over runs, resampled over runs and images.

Runs of two arms with one seed start from the same weights and see the same batches, so their difference is what is
looked at. Two intervals: Student's t over the differences of the runs, and a hierarchical bootstrap that draws runs and
then images, the same images for all drawn runs, because all runs are measured on the same ones; the wider one is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.types import AnyArray

RESAMPLES = 4000


class Difference(NamedTuple):
    """In recall: mean over the runs, ends of the 95 % interval, the difference of each run, which interval it is."""

    mean: float
    low: float
    high: float
    runs: tuple[float, ...]
    interval: str

    def cells(self) -> str:
        """Mean, interval and runs in points, as cells of a Markdown row."""
        each = ', '.join(f'{100 * value:+.1f}' for value in self.runs)
        between = f'[{100 * self.low:+.1f}, {100 * self.high:+.1f}] ({self.interval})'
        return f'{100 * self.mean:+.1f} | {between} | {each}'


def paired_difference(
    first: Sequence[AnyArray], second: Sequence[AnyArray], image: AnyArray, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Arms `first` minus `second`: one array (n,) per run, hits or scores in 0..1, in the same order of seeds;
    image (n,): which image each object stands in.

    Raises:
        ValueError: arms with different numbers of runs, none at all, or arrays that do not fit.
    """
    if not first or len(first) != len(second):
        raise ValueError(f'expected as many runs of both arms, got {len(first)} and {len(second)}')
    gain = np.stack([np.asarray(a, np.float64) - np.asarray(b, np.float64) for a, b in zip(first, second, strict=True)])
    if gain.shape[1:] != np.shape(image):
        raise ValueError(f'expected one image per object, got {np.shape(image)} for {gain.shape[1:]}')
    runs = gain.mean(1)
    mean, tail = float(runs.mean()), (1 - confidence) / 2
    wide = (np.quantile(_bootstrap(gain, image, seed), [tail, 1 - tail]), 'bootstrap')
    if len(runs) > 1:
        reach = stats.t.ppf(1 - tail, len(runs) - 1) * runs.std(ddof=1) / np.sqrt(len(runs))
        narrow = (np.array([mean - reach, mean + reach]), 't')
        wide = max(wide, narrow, key=lambda item: item[0][1] - item[0][0])
    (low, high), name = wide
    return Difference(mean, float(low), float(high), tuple(float(r) for r in runs), name)


def _bootstrap(gain: AnyArray, image: AnyArray, seed: int) -> AnyArray:
    """Means (RESAMPLES,) over drawn runs and drawn images."""
    _, place = np.unique(image, return_inverse=True)
    images = int(place.max()) + 1
    per_image = np.zeros((len(gain), images))
    for row, values in enumerate(gain):
        per_image[row] = np.bincount(place, values, images)
    objects = np.bincount(place, minlength=images).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        drawn = rng.integers(len(gain), size=len(gain))
        times = rng.multinomial(images, np.full(images, 1 / images))
        means[number] = np.mean(per_image[drawn] @ times) / (objects @ times)
    return means
