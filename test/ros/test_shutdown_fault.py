"""Ctrl-C while an image is in work makes publishing fail: that is no fault to report."""

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(('running', 'reports'), [(True, 1), (False, 0)])
def test_an_error_counts_as_a_fault_only_while_ros_runs(ros, running, reports):
    from kd6d_ros.ros.node import PoseEstimatorNode

    seen = []
    node = SimpleNamespace(
        context=SimpleNamespace(ok=lambda: running),
        statistics=SimpleNamespace(mark=lambda what: None),
        problem=lambda kind, part, level, text: seen.append(text),
    )
    PoseEstimatorNode._crashed(node, RuntimeError('the publisher is gone'))
    assert len(seen) == reports
