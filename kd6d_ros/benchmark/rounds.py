"""Runs the rows of a comparison in turn: A B A B, each in a process of its own that waits meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence

from kd6d_ros.benchmark.offline import OfflineJob
from kd6d_ros.benchmark.processes import python_module
from kd6d_ros.benchmark.report import write_text
from kd6d_ros.errors import BagError, ConfigError

if TYPE_CHECKING:
    from kd6d_ros.benchmark.recording import Recording
    from kd6d_ros.benchmark.variants import Variant


def offline_job(
    variant: Variant, recording: Recording, stamps: Optional[Sequence[int]] = None, limit: Optional[int] = None
) -> OfflineJob:
    """The job of one row; `stamps` [ns]: only these images, `limit`: only so many."""
    return OfflineJob(
        recording.path,
        recording.topics.image,
        recording.topics.camera_info,
        variant.bundle,
        variant.precision,
        variant.engine,
        variant.threads,
        limit,
        stamps,
        recording.most_instances,
    )


def run_in_turn(jobs: Mapping[str, OfflineJob], rounds: int, say: Callable[[str], None]) -> List[Dict[str, Any]]:
    """The log of each job (by the name of its row), all having replayed the bag `rounds` times, taking turns.

    Raises:
        ConfigError: a job cannot run; its one line. BagError: a process broke down.
    """
    with tempfile.TemporaryDirectory(prefix='kd6d_bench_') as folder:
        workers: List[_Worker] = []
        try:
            for number, job in enumerate(jobs.values()):
                workers.append(_Worker(job, Path(folder) / str(number)))
            for worker in workers:
                worker.answer()
            for number in range(rounds):
                for name, worker in zip(jobs, workers, strict=True):
                    worker.ask()
                    seconds = worker.answer()['seconds']
                    say(f'round {number + 1} of {rounds}: {name} {seconds:.2f} s')
            return [worker.finish() for worker in workers]
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """One process of `benchmark.offline`."""

    def __init__(self, job: OfflineJob, folder: Path) -> None:
        self.job = replace(job, log=folder / 'log.json')
        folder.mkdir()
        path = folder / 'job.json'
        write_text(path, json.dumps(self.job.record()))
        self._errors = folder / 'errors'
        with self._errors.open('wb') as errors:
            self._process = subprocess.Popen(
                python_module('kd6d_ros.benchmark.offline', str(path)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, 'PYTHONUNBUFFERED': '1'},
                text=True,
            )

    def ask(self) -> None:
        """Start a round."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write('round\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._broken() from None

    def answer(self) -> Dict[str, Any]:
        """The next line that the process prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._broken()
        answer: Dict[str, Any] = json.loads(line)
        return answer

    def finish(self) -> Dict[str, Any]:
        """End the process in good order; its log."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0:
            raise self._broken()
        log: Dict[str, Any] = json.loads(self.job.log.read_text(encoding='utf-8'))
        return log

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _broken(self) -> BagError | ConfigError:
        code = self._process.wait()
        lines = self._errors.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        last = lines[-1] if lines else 'it said nothing'
        if code == 2:
            return ConfigError(last)
        return BagError(f'{self.job.bundle.name}: the benchmark process ended with code {code}: {last[-400:]}')
