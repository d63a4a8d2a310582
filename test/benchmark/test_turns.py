"""Processes that wait for their turn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kd6d_ros.benchmark.turns import TurnProcess
from kd6d_ros.errors import BagError, ConfigError

COUNTS = """
import json, os, sys
print(json.dumps({'wait': os.environ.get('OMP_WAIT_POLICY')}))
for number, _ in enumerate(sys.stdin):
    print(json.dumps({'turn': number}))
"""


def process(tmp_path: Path, program: str, environment: dict[str, str] | None = None) -> TurnProcess:
    return TurnProcess('counter', [sys.executable, '-c', program], tmp_path / 'errors', environment)


def test_it_works_once_for_every_turn(tmp_path: Path) -> None:
    child = process(tmp_path, COUNTS, {'OMP_WAIT_POLICY': 'PASSIVE'})
    assert child.answer() == {'wait': 'PASSIVE'}
    assert [child.turn()['turn'] for _ in range(3)] == [0, 1, 2]
    child.finish()
    child.end()


@pytest.mark.parametrize(
    ('program', 'kind', 'message'),
    [
        ("import sys; print('no such bag', file=sys.stderr); sys.exit(2)", ConfigError, '^no such bag$'),
        ("raise ValueError('odd')", BagError, 'counter: the benchmark process ended with code 1: ValueError: odd'),
        ('import os; os.kill(os.getpid(), 9)', BagError, 'ended with code -9: it said nothing'),
    ],
)
def test_one_that_breaks_says_why(tmp_path: Path, program: str, kind: type[Exception], message: str) -> None:
    child = process(tmp_path, program)
    with pytest.raises(kind, match=message):
        child.answer()
    child.end()


def test_one_that_breaks_in_its_turn_or_at_the_end_says_why(tmp_path: Path) -> None:
    child = process(tmp_path, "print('{}'); input(); raise ValueError('later')")
    child.answer()
    with pytest.raises(BagError, match='ValueError: later'):
        child.turn()
    child.end()
    child = process(tmp_path, "import sys; print('{}'); sys.stdin.read(); sys.exit(3)")
    child.answer()
    with pytest.raises(BagError, match='ended with code 3'):
        child.finish()


def test_a_waiting_one_can_be_ended_at_any_time(tmp_path: Path) -> None:
    child = process(tmp_path, COUNTS)
    child.answer()
    child.end()
    with pytest.raises(ValueError, match='closed'):
        child.turn()
