"""Doing the runs of a study: train, choose the threshold on validation, measure on the test scenes, write it down.

Every finished run leaves ``result.json`` and ``test.npz`` in its folder, so a study that was stopped goes on where it
was: finished runs are kept, a run in progress goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from kd6d_ros.errors import TrainingError
from kd6d_ros.networks.backbones import parameter_count
from kd6d_ros.training.checkpoint import load_any_checkpoint
from kd6d_ros.training.frames import FramePack, pack_frames
from kd6d_ros.training.run import train
from kd6d_ros.training.study.measure import Measured, measure
from kd6d_ros.training.study.photos import measure_photos
from kd6d_ros.training.study.plan import TEACHER

if TYPE_CHECKING:
    from kd6d_ros.training.checkpoint import AnyCheckpoint
    from kd6d_ros.training.study.plan import Job, StudyPlan

RESULT, PHOTOS = 'result.json', 'photos.npz'


def finished(plan: StudyPlan, job: Job) -> bool:
    """Whether the run has been trained and measured."""
    return (plan.folder / job.key / RESULT).is_file()


def run_study(plan: StudyPlan, workers: int) -> None:
    """Do what is missing, `workers` runs at a time, each in a process of its own.

    Raises:
        TrainingError: a run failed; names its log. The others are finished first.
    """
    waiting = [job for job in plan.jobs() if not finished(plan, job)]
    if waiting and waiting[0].key == TEACHER:
        _run_all(plan, [waiting.pop(0)], 1)
    if waiting:
        _run_all(plan, waiting, workers)


def _run_all(plan: StudyPlan, jobs: list[Job], workers: int) -> None:
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed: list[str] = []
    waiting, total = list(jobs), len(jobs)
    while waiting or running:
        while waiting and len(running) < workers and not failed:
            job = waiting.pop(0)
            print(f'study: {job.key} ({total - len(waiting)} of {total})', flush=True)
            running[job.key] = _start(plan, job)
        if failed and not running:
            break
        time.sleep(0.2)
        for key, process in list(running.items()):
            if process.poll() is not None:
                del running[key]
                failed += [key] if process.returncode else []
    if failed:
        raise TrainingError(f'the run {failed[0]} failed; see {plan.folder / failed[0] / "log.txt"}')


def _start(plan: StudyPlan, job: Job) -> subprocess.Popen[bytes]:
    folder = plan.folder / job.key
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, '-m', 'kd6d_ros.cli.main', 'study', str(plan.path), '--only', job.key]
    command += ['--runs', str(plan.folder)]
    with open(folder / 'log.txt', 'ab') as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def do_run(plan: StudyPlan, job: Job) -> dict[str, Any]:
    """Train and measure one run in this process; returns its record."""
    recipe, folder = plan.recipe(job), plan.folder / job.key
    start = time.monotonic()
    if recipe.train.threads:  # runs beside each other must not wait for threads that have no core
        cv2.setNumThreads(recipe.train.threads)
        torch.set_num_threads(recipe.train.threads)
    if not (folder / 'final.pt').is_file():
        train(recipe, resume=(folder / 'last.ckpt').is_file())
    checkpoint = load_any_checkpoint(folder / 'final.pt')
    own, recall = choose_threshold(plan, checkpoint)
    thresholds = plan.measured_at(own)
    test = _measure(plan, checkpoint, plan.settings.test, plan.settings.test_instances, thresholds)
    np.savez_compressed(
        folder / 'test.npz', frame=test.frame.astype(np.int32), class_index=test.class_index.astype(np.int16),
        visible=test.visible.astype(np.float32), size_px=test.size_px.astype(np.float32), hits=test.hits,
    )  # fmt: skip
    photos = _photos(plan, checkpoint, folder, thresholds) if plan.settings.photos else {}
    recalls = [float(value) for value in test.recall()]
    record = {
        'key': job.key, 'seed': recipe.seed, 'threshold': own, 'validation_recall': recall, 'test_recall': recalls[0],
        'test_recall_own_threshold': recalls[-1], 'test_instances': len(test.frame), 'steps': recipe.train.steps,
        'windows_seen': recipe.train.steps * recipe.train.batch_size * recipe.train.devices,
        'parameters': parameter_count(checkpoint.network), 'commit': checkpoint.facts.get('commit', ''),
        'seconds': round(time.monotonic() - start, 1), **photos,
    }  # fmt: skip
    write_record(folder / RESULT, record)
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """As JSON, whole or not at all."""
    aside = path.with_name(f'.{path.name}')
    aside.write_text(json.dumps(record, indent=1), encoding='utf-8')
    os.replace(aside, path)


def _photos(
    plan: StudyPlan, checkpoint: AnyCheckpoint, folder: Path, thresholds: tuple[float, ...]
) -> dict[str, float | int]:
    """Measure the photos, keep what came out beside ``test.npz``; the part of the record about them."""
    found = measure_photos(checkpoint, plan.settings, thresholds)
    np.savez_compressed(folder / PHOTOS, frame=found.image, hits=found.hits, mspd=found.mspd)
    return {
        'photo_targets': found.hits.shape[1], 'photo_recall': float(found.hits[0].mean()),
        'photo_recall_own_threshold': float(found.hits[-1].mean()), 'photo_ar_mspd': float(found.mspd[-1].mean()),
    }  # fmt: skip


def choose_threshold(plan: StudyPlan, checkpoint: AnyCheckpoint) -> tuple[float, float]:
    """The threshold with the best recall on the validation scenes, of equals the lowest, and that recall."""
    settings = plan.settings
    found = _measure(plan, checkpoint, settings.validation, settings.validation_instances, plan.thresholds)
    best = int(np.argmax(found.recall()))
    return plan.thresholds[best], float(found.recall()[best])


def pack_of(plan: StudyPlan, checkpoint: AnyCheckpoint, data: str) -> FramePack:
    """The scenes of a folder of the study, with the objects that a network knows."""
    cache = Path(checkpoint.recipe.data.cache)
    return FramePack(pack_frames(Path(data), plan.settings.split, cache), checkpoint.objects)


def _measure(
    plan: StudyPlan, checkpoint: AnyCheckpoint, data: str, count: int, thresholds: tuple[float, ...]
) -> Measured:
    pack = pack_of(plan, checkpoint, data)
    return measure(checkpoint, pack, count, thresholds, plan.settings.min_visible)
