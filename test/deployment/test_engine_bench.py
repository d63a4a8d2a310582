"""The benchmark of engines measures what it says, one process per candidate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='torch is not installed')
import engine_bench
from engine_candidate import Candidate

from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.networks.spec import NetworkSpec

DEMO = Path(__file__).resolve().parents[2] / 'models' / 'demo'


def test_a_bundle_and_pytorch_are_timed_in_their_own_processes(tmp_path: Path) -> None:
    usual = {'threads': 1, 'spins': False, 'repeats': 2}
    found = engine_bench.bundle_candidates(load_bundle(DEMO), usual)
    assert set(found) == {
        'demo at its own size', 'demo at its own size, INT8', 'demo at 256', 'demo at 256, INT8'
    }  # fmt: skip
    spec = NetworkSpec('darknet_tiny_h', (16, 32), 32, 1)
    candidates = {
        'demo at its own size, INT8': found['demo at its own size, INT8'],
        'small, PyTorch': Candidate(str(DEMO), 'torch', 64, **usual, spec=asdict(spec)),
    }
    figures = engine_bench.measure(candidates, 1, tmp_path)
    assert list(figures) == list(candidates)
    assert 'int8-cpu' in figures['demo at its own size, INT8']['engine']
    assert figures['small, PyTorch']['engine'].startswith('PyTorch')
    assert all(0 < item['p50_ms'] <= item['p90_ms'] for item in figures.values())


def test_ratios_are_of_medians_and_only_between_what_was_measured() -> None:
    figures = {name: {'p50_ms': value} for name, value in (('demo at 256', 30.0), ('demo at 256, INT8', 15.0))}
    assert engine_bench.ratios_of(figures, 'demo') == [
        {'slower': 'demo at 256', 'faster': 'demo at 256, INT8', 'ratio': 2.0, 'limit': 1.5}
    ]
    assert engine_bench.in_milliseconds([0.003, 0.001, 0.002])['p50_ms'] == pytest.approx(2.0)
