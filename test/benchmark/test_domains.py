"""No two programs of ours talk on one DDS domain of this host."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kd6d_ros.benchmark import processes
from kd6d_ros.benchmark.processes import claim_domain

ROOT = Path(__file__).resolve().parents[2]
HOLD = 'from kd6d_ros.benchmark.processes import claim_domain; print(claim_domain(), flush=True); input()'


@pytest.fixture
def few(monkeypatch):
    """Domains that nobody else claims, and no claims from before; those of the test end with it."""
    monkeypatch.setattr(processes, 'DOMAINS', range(5000 + os.getpid() * 4, 5000 + os.getpid() * 4 + 3))
    claims: list[socket.socket] = []
    monkeypatch.setattr(processes, '_CLAIMS', claims)
    yield processes.DOMAINS
    for claim in claims:
        claim.close()


def test_every_claim_is_another_domain(few):
    assert sorted(claim_domain() for _ in few) == list(few)


def test_with_all_taken_it_is_one_of_them(few):
    for _ in few:
        claim_domain()
    assert claim_domain() in few
    assert len(processes._CLAIMS) == len(few)


def test_a_claim_of_another_process_holds_until_that_ends(few):
    code = f'from kd6d_ros.benchmark import processes; processes.DOMAINS = range({few.start}, {few.stop}); {HOLD}'
    child = subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    theirs = int(child.stdout.readline())
    ours = [claim_domain() for _ in range(len(few) - 1)]
    assert theirs not in ours
    child.communicate('\n', timeout=60)
    assert claim_domain() == theirs
