"""Memory that is given back is kept: counted in page faults, in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

PROGRAM = """
import resource, sys
import numpy as np
from kd6d_ros.training.heap import keep_freed_memory
if sys.argv[1] == 'keep':
    assert keep_freed_memory()
def step():
    maps = [np.ones(size, np.float32) for size in (2_000_000, 3_000_000, 5_000_000)]
    return sum(float(m[0]) for m in maps)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc can keep freed memory')
def test_steps_that_keep_memory_do_not_ask_the_kernel_for_it_again():
    faults = {}
    for way in ('keep', 'leave'):
        done = subprocess.run(
            [sys.executable, '-c', PROGRAM, way], capture_output=True, text=True, timeout=60, check=True
        )
        faults[way] = int(done.stdout)
    assert faults['leave'] > 100, 'or there was nothing to save'
    assert faults['keep'] < 0.1 * faults['leave']


def test_a_library_without_the_call_changes_nothing(monkeypatch):
    from kd6d_ros.training import heap

    monkeypatch.setattr(heap.ctypes, 'CDLL', lambda name: object())
    assert heap.keep_freed_memory() is False
