"""A short attack on the real node over DDS; `python test/bench/hostile_run.py` is the long one."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow]
MODELS = Path(__file__).resolve().parents[2] / 'models'


@pytest.mark.timeout(900)
def test_the_node_survives_what_no_robot_should_send(ros, tmp_path):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    pytest.importorskip('rosbags', reason='rosbags is not installed')
    if not (MODELS / 'demo_bag' / 'metadata.yaml').is_file():
        pytest.skip('models/demo_bag is not in this checkout')
    from hostile_run import attack_once

    record = attack_once(180, 0, tmp_path / 'logs', MODELS / 'demo', MODELS / 'demo_bag')
    bad = [row for row in record['lines'] if not row['holds']]
    assert not bad, [bad, *(record[key] for key in ('wrong', 'phantoms', 'unnamed', 'faults'))]
    assert len(record['kinds']) > 90
