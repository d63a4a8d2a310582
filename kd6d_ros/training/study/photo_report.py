"""The part of a study's report about real photos: they chose nothing, and their differences have intervals too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.training.study.markdown import mean_and_spread, table
from kd6d_ros.training.study.plan import TEACHER
from kd6d_ros.training.study.runs import PHOTOS, RESULT
from kd6d_ros.training.study.statistics import paired_difference

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.training.study.plan import StudyPlan
    from kd6d_ros.types import AnyArray

OWN = -1
"""Row of the run's own threshold in photos.npz: the last one."""
MEASURES = {'hits': 'ADD(-S) at 0.1 d', 'mspd': 'AR_MSPD'}


def photo_lines(plan: StudyPlan, student: str) -> list[str]:
    """Tables in Markdown at the runs' own thresholds; nothing when no run has looked at photos."""
    arms = {arm: _runs(plan, student, arm) for arm in plan.arms}
    some = next((run for runs in arms.values() for run in runs.values()), None)
    if some is None:
        return []
    count, images = some['hits'].shape[1], len(np.unique(some['frame']))
    lines = [f'Real photos, {count} targets in {images} images, boxes of a detector, own thresholds:', '']
    teacher = _load(plan.folder / TEACHER)
    groups = {} if teacher is None else {TEACHER: [teacher]}
    groups |= {arm: list(runs.values()) for arm, runs in arms.items() if runs}
    rows = [
        f'| {name} | {len(runs)} | {" | ".join(_cell(runs, m) for m in MEASURES)} |' for name, runs in groups.items()
    ]
    lines += [*table(['arm', 'runs', *MEASURES.values()], rows), '']
    rows = []
    for first, second in plan.compare:
        for measure, name in MEASURES.items():
            rows += _difference(arms[first], arms[second], measure, f'| {first} - {second} | {name} ')
    return [*lines, *table(['difference', 'measure', 'mean', '95 % interval', 'of each run'], rows), '']


def _runs(plan: StudyPlan, student: str, arm: str) -> dict[int, dict[str, AnyArray]]:
    found = {seed: _load(plan.folder / student / arm / str(seed)) for seed in plan.seeds_of(student, arm)}
    return {seed: run for seed, run in found.items() if run is not None}


def _load(folder: Path) -> dict[str, AnyArray] | None:
    if not (folder / RESULT).is_file() or not (folder / PHOTOS).is_file():
        return None
    if 'photo_targets' not in json.loads((folder / RESULT).read_text(encoding='utf-8')):
        return None
    with np.load(folder / PHOTOS, allow_pickle=False) as stored:
        return {key: stored[key] for key in ('frame', 'hits', 'mspd')}


def _cell(runs: list[dict[str, AnyArray]], measure: str) -> str:
    return mean_and_spread([float(run[measure][OWN].mean()) for run in runs])


def _difference(
    first: dict[int, dict[str, AnyArray]], second: dict[int, dict[str, AnyArray]], measure: str, head: str
) -> list[str]:
    seeds = [seed for seed in first if seed in second]
    if not seeds:
        return []
    sides = [[runs[seed][measure][OWN] for seed in seeds] for runs in (first, second)]
    found = paired_difference(sides[0], sides[1], first[seeds[0]]['frame'])
    return [f'{head}| {found.cells()} |']
