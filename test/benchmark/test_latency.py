"""Rates and latencies with a synthetic clock: intervals and stamps, no fence-post, no clock of this machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.benchmark.latency import rate_by_intervals, summarise
from kd6d_ros.benchmark.queueing import simulate_queue
from kd6d_ros.benchmark.records import FrameLog
from kd6d_ros.benchmark.scoring import score_run
from kd6d_ros.errors import ConfigError


@pytest.mark.parametrize(('count', 'hz'), [(2, 30.0), (3, 7.0), (300, 30.0)])
def test_a_steady_camera_has_its_rate_however_few_images(count: int, hz: float) -> None:
    assert rate_by_intervals([5.0 + k / hz for k in range(count)]) == pytest.approx(hz)


def test_the_rate_does_not_depend_on_order_and_is_unknown_without_an_interval() -> None:
    assert rate_by_intervals([2.0, 0.0, 1.0]) == pytest.approx(1.0)
    assert rate_by_intervals([]) is rate_by_intervals([3.0]) is rate_by_intervals([3.0, 3.0]) is None


def test_percentiles_by_hand() -> None:
    summary = summarise(k * 1e-3 for k in range(101))
    assert summary is not None
    assert summary.milliseconds() == {'mean': 50, 'p50': 50, 'p90': 90, 'p95': 95, 'p99': 99, 'max': 100}
    assert summarise([]) is None


def test_latency_is_that_of_each_image_whatever_the_order_of_the_answers() -> None:
    # Image 0 is answered after image 1; pairing by order of arrival would give 0.05 twice.
    frames = [FrameLog(0, (), 1.00, 1.09), FrameLog(1, (), 1.03, 1.05), FrameLog(2, (), 1.06)]
    latency = score_run(frames, {}).latency
    assert latency is not None
    assert (latency.count, latency.worst, latency.p50) == (2, pytest.approx(0.09), pytest.approx(0.055))


def test_a_quick_node_drops_nothing() -> None:
    result = simulate_queue([0.02] * 10, 1 / 30)
    assert result.processed == tuple(range(10))
    assert result.dropped == 0
    np.testing.assert_allclose(result.ages, 0.02)


def test_a_node_of_exactly_the_camera_rate_drops_nothing() -> None:
    assert simulate_queue([0.1] * 50, 0.1).dropped == 0


def test_a_slow_node_takes_the_newest_and_it_waits_meanwhile() -> None:
    # 100 ms of work every 40 ms: done at 100, the image of 80 waits; done at 200, that of 200 has just come.
    result = simulate_queue([0.1] * 8, 0.04)
    assert result.processed == (0, 2, 5, 7)
    np.testing.assert_allclose(result.ages, [0.1, 0.12, 0.1, 0.12])
    assert result.dropped == 4


def test_one_slow_image_costs_what_came_during_it() -> None:
    result = simulate_queue([0.01, 0.01, 0.35, 0.01, 0.01, 0.01, 0.01, 0.01], 0.1)
    assert result.processed == (0, 1, 2, 5, 6, 7)
    assert result.dropped == 2


@given(st.lists(st.floats(0, 0.5), max_size=60), st.floats(0.005, 0.2))
def test_every_image_is_processed_or_dropped_and_none_before_it_came(service: list[float], interval: float) -> None:
    result = simulate_queue(service, interval)
    assert len(result.processed) + result.dropped == len(service)
    assert list(result.processed) == sorted(set(result.processed))
    if service:
        assert result.processed[0] == 0
        assert result.processed[-1] == len(service) - 1
    for index, age in zip(result.processed, result.ages, strict=True):
        assert age >= service[index] - 1e-9


def test_a_queue_without_a_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match='positive interval'):
        simulate_queue([0.1], 0.0)
