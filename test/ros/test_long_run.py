"""The long run, short: `python test/bench/long_run.py` plays for ten minutes and also looks at the age of poses."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow]
MODELS = Path(__file__).resolve().parents[2] / 'models'
TIMED = 'age at publish'


def test_the_books_of_a_run_are_right(ros, tmp_path):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    pytest.importorskip('rosbags', reason='rosbags is not installed')
    if not (MODELS / 'demo_bag' / 'metadata.yaml').is_file():
        pytest.skip('models/demo_bag is not in this checkout')
    from long_run import long_run

    record = long_run(20.0, 10.0, tmp_path / 'logs', MODELS / 'demo', MODELS / 'demo_bag')
    # How old a pose is depends on what else this machine does.
    bad = [row for row in record['lines'] if not row['holds'] and not row['what'].startswith(TIMED)]
    assert not bad, record
    found = {row['what']: row['value'] for row in record['lines']}
    assert found['images sent'] >= 150
    assert found['service and action calls'] > 10
