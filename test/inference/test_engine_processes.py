"""`kd6d engine` among real processes: two builders, a killed one, a full disk. TensorRT's place is taken by a fake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('onnxruntime')

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def folder(write, onnx_file):
    return write(engines={'fp32': onnx_file, 'fp16': onnx_file}).folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / 'cache'


@pytest.fixture
def start(tmp_path, folder, cache):
    """Start a builder; keyword arguments are its settings."""
    count = iter(range(100))

    def _start(*arguments, **settings):
        path = tmp_path / f'settings_{next(count)}.json'
        path.write_text(json.dumps({'log': str(tmp_path / 'builds'), **settings}))
        command = [sys.executable, str(HERE / 'engine_program.py'), str(path), str(folder), '--cache', str(cache)]
        environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{HERE}'}
        return subprocess.Popen(
            [*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return _start


def builds(tmp_path: Path) -> int:
    path = tmp_path / 'builds'
    return len(path.read_text().split()) if path.exists() else 0


def engines(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir() if path.suffix != '.lock'}


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_builders_at_once_build_each_engine_once(start, cache, tmp_path):
    both = [start(sleep_s=0.5), start(sleep_s=0.5)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert builds(tmp_path) == 2  # crop and frame, not four
    assert any('another process builds this engine; waiting for it' in err for _, err in ends)
    assert len(list(cache.glob('*.json'))) == len(list(cache.glob('*.engine'))) == 2
    assert not list(cache.glob('.*'))


@pytest.mark.parametrize('where', ['build', 'write'])
def test_a_killed_build_leaves_the_old_engines(start, cache, tmp_path, where):
    first = start()
    assert first.communicate(timeout=120) is not None
    assert first.returncode == 0
    before = engines(cache)
    reached = tmp_path / 'reached'
    killed = start('--force', hang=where, reached=str(reached), padding=100)
    wait_for(reached)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    kept = {name: data for name, data in engines(cache).items() if not name.endswith('.tmp')}
    assert kept == before
    again = start()
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert 'was there' in out
    assert builds(tmp_path) == 3  # none of them by the last process
    rebuilt = start('--force')
    assert rebuilt.communicate(timeout=120) is not None
    assert rebuilt.returncode == 0
    assert not list(cache.glob('.*.tmp')), 'what the killed build left is removed by the next one'


@pytest.mark.parametrize('where', ['build', 'write'])
def test_ctrl_c_during_a_build_is_one_line_and_leaves_the_old_engines(start, cache, tmp_path, where):
    first = start()
    assert first.communicate(timeout=120) is not None
    before = engines(cache)
    reached = tmp_path / 'reached'
    stopped = start('--force', hang=where, reached=str(reached), padding=100)
    wait_for(reached)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert err.splitlines()[-1] == 'kd6d engine: interrupted'
    assert 'Traceback' not in err
    assert engines(cache) == before
    assert not list(cache.glob('.*'))


def test_a_killed_first_build_does_not_block_the_next(start, cache, tmp_path):
    reached = tmp_path / 'reached'
    killed = start(hang='build', reached=str(reached))
    wait_for(reached)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    again = start()
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert len(list(cache.glob('*.engine'))) == 2


def test_a_full_disk_is_one_line_and_leaves_the_old_engines(start, cache):
    first = start()
    first.communicate(timeout=120)
    before = engines(cache)
    # More than the limit, as a disk that is full in the middle of the file.
    full = start('--force', padding=500_000, limit=100_000)
    out, err = full.communicate(timeout=120)
    assert full.returncode == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith('kd6d engine: error: ')
    assert 'file too large; the engine was not kept' in last
    assert 'Traceback' not in err
    assert out == ''
    assert engines(cache) == before
    again = start()
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert 'was there' in out


def test_two_forced_builders_build_one_after_the_other(start, cache, tmp_path):
    first = start()
    first.communicate(timeout=120)
    both = [start('--force', sleep_s=0.3), start('--force', sleep_s=0.3)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert len(list(cache.glob('*.engine'))) == 2
    assert not list(cache.glob('.*'))
