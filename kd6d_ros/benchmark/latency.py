"""Latency statistics. Times come in as arguments; nothing here reads a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, List, Optional, Sequence

import numpy as np

from kd6d_ros.errors import ShapeError


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of `count` latencies, in seconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    worst: float

    def milliseconds(self) -> dict[str, float]:
        """The same in milliseconds, rounded to microseconds, for tables and JSON."""
        values = {'mean': self.mean, 'p50': self.p50, 'p90': self.p90, 'p95': self.p95, 'p99': self.p99}
        values['max'] = self.worst
        return {name: round(1e3 * value, 3) for name, value in values.items()}


def summarise(latencies_s: Iterable[float]) -> Optional[LatencySummary]:
    """Percentiles (linear interpolation) of latencies [s]; None when there are none.

    Raises:
        ShapeError: a latency is negative or not a number, so the two clocks were not the same.
    """
    values: List[float] = [float(value) for value in latencies_s]
    if not values:
        return None
    array = np.array(values)
    if not np.isfinite(array).all() or (array < 0).any():
        raise ShapeError('latencies: negative or not finite; both ends must read the same monotonic clock')
    p50, p90, p95, p99 = np.percentile(array, [50, 90, 95, 99])
    return LatencySummary(
        count=len(values),
        mean=float(array.mean()),
        p50=float(p50),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
        worst=float(array.max()),
    )


def rate_by_intervals(times_s: Sequence[float]) -> Optional[float]:
    """Events per second from the intervals between their times [s], in any order: n events have n - 1 intervals.

    None for fewer than two events, or when all are at one time.
    """
    if len(times_s) < 2:
        return None
    span = max(times_s) - min(times_s)
    return (len(times_s) - 1) / span if span > 0 else None
