"""The overhead figure: present, consistent, and far from the budget of 6 ms even on a busy machine."""

from kd6d_ros.inference.overhead import measure_overhead


def test_overhead_is_measured_per_stage():
    record = measure_overhead(frames=30)
    assert set(record) == {'preprocess', 'decode', 'pnp', 'other', 'sum'}
    assert all(0 < value['p50'] <= value['p95'] for value in record.values())
    assert record['sum']['p50'] < 30
