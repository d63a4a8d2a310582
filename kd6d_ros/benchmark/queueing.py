"""What a camera's rate does to a node that works on one image and keeps the newest waiting one.

The same rule as the node's worker (`ros/worker.py`), on times that are given: nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple

from kd6d_ros.errors import ConfigError


@dataclass(frozen=True)
class QueueResult:
    """processed: indices of the images worked on, in order; ages: seconds from the arrival of each to its end;
    dropped: images that a newer one replaced."""

    processed: Tuple[int, ...]
    ages: Tuple[float, ...]
    dropped: int


def simulate_queue(service_s: Sequence[float], interval_s: float) -> QueueResult:
    """Images arrive every `interval_s` and take `service_s` each; the newest waiting one is next.

    An image that arrives at the moment the last one ends is worked on at once. The times are those of a run in which
    every image was worked on: with gaps between them, tracking would fail a little more often.

    Raises:
        ConfigError: an interval that is not positive, or a negative time.
    """
    if not interval_s > 0 or any(value < 0 for value in service_s):
        raise ConfigError(f'queue: needs a positive interval, got {interval_s!r}, and no negative times')
    processed, ages = [], []
    free_at, index = 0.0, 0
    while index < len(service_s):
        # What arrived until the worker is free, and the newest of it; rounding must not lose an image.
        newest = max(index, min(int((free_at + 1e-12) / interval_s), len(service_s) - 1))
        arrival = newest * interval_s
        free_at = max(free_at, arrival) + service_s[newest]
        processed.append(newest)
        ages.append(free_at - arrival)
        index = newest + 1
    return QueueResult(tuple(processed), tuple(ages), len(service_s) - len(processed))
