"""Runs the rows of a comparison in turn: A B A B, each in a process of its own that waits meanwhile."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence

from kd6d_ros.benchmark.offline import OfflineJob
from kd6d_ros.benchmark.processes import python_module
from kd6d_ros.benchmark.report import write_text
from kd6d_ros.benchmark.turns import TurnProcess

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
    with tempfile.TemporaryDirectory(prefix='kd6d_bench_') as folder, ExitStack() as stack:
        workers: List[TurnProcess] = []
        logs = [Path(folder) / str(number) / 'log.json' for number in range(len(jobs))]
        for job, log in zip(jobs.values(), logs, strict=True):
            workers.append(_worker(replace(job, log=log)))
            stack.callback(workers[-1].end)
        for worker in workers:
            worker.answer()
        for number in range(rounds):
            for name, worker in zip(jobs, workers, strict=True):
                say(f'round {number + 1} of {rounds}: {name} {worker.turn()["seconds"]:.2f} s')
        for worker in workers:
            worker.finish()
        return [json.loads(log.read_text(encoding='utf-8')) for log in logs]


def _worker(job: OfflineJob) -> TurnProcess:
    """The process of `benchmark.offline` for a job, whose log says in which folder it may write."""
    folder = job.log.parent
    folder.mkdir()
    write_text(folder / 'job.json', json.dumps(job.record()))
    command = python_module('kd6d_ros.benchmark.offline', str(folder / 'job.json'))
    return TurnProcess(job.bundle.name, command, folder / 'errors')
