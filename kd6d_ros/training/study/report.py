"""What came out: a table with paired differences, curves of the runs, and one JSON file."""

from __future__ import annotations

import csv
import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kd6d_ros.training.study.clouds import cloud_lines
from kd6d_ros.training.study.markdown import mean_and_spread, table
from kd6d_ros.training.study.photo_report import photo_lines
from kd6d_ros.training.study.plan import TEACHER
from kd6d_ros.training.study.runs import RESULT, finished
from kd6d_ros.training.study.statistics import Difference, paired_difference

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.training.study.plan import StudyPlan
    from kd6d_ros.types import AnyArray

THRESHOLDS = {'keypoints': ('default', 'own'), 'dense': ('fixed',)}
"""Rows of the hits in test.npz by kind of network; the last is the run's own."""
CURVE = {'keypoints': 'train/corner_error', 'dense': 'train/code'}
"""What is drawn over the steps."""

SIZES = (0.0, 40.0, 95.0, np.inf)
VISIBLE = (0.0, 0.5, 0.9, np.inf)


class ArmRuns(NamedTuple):
    """The finished runs of one student and arm, by seed: record and hits (T, n); and of each object the image, the size
    in it [px] and the visible share, (n,) each."""

    records: dict[int, dict[str, Any]]
    hits: dict[int, AnyArray]
    image: AnyArray
    size_px: AnyArray
    visible: AnyArray


def arm_runs(plan: StudyPlan, student: str, arm: str) -> ArmRuns:
    """What has been finished so far."""
    records, hits = {}, {}
    of_object = [np.zeros(0)] * 3
    for seed in plan.seeds_of(student, arm):
        folder = plan.folder / student / arm / str(seed)
        if (folder / RESULT).is_file():
            records[seed] = json.loads((folder / RESULT).read_text(encoding='utf-8'))
            with np.load(folder / 'test.npz', allow_pickle=False) as stored:
                hits[seed] = stored['hits']
                of_object = [stored[key] for key in ('frame', 'size_px', 'visible')]
    return ArmRuns(records, hits, *of_object)


def difference(plan: StudyPlan, student: str, pair: tuple[str, str], row: int) -> Difference | None:
    """First minus second arm over the seeds that both have finished; None without any."""
    first, second = (arm_runs(plan, student, arm) for arm in pair)
    seeds = [seed for seed in first.hits if seed in second.hits]
    if not seeds:
        return None
    return paired_difference([first.hits[s][row] for s in seeds], [second.hits[s][row] for s in seeds], first.image)


def report_text(plan: StudyPlan) -> str:
    """The tables in Markdown; recall of ADD(-S) at 0.1 d in percent."""
    done = sum(finished(plan, job) for job in plan.jobs())
    lines = [f'# {plan.settings.name}', '', f'{done} of {len(plan.jobs())} runs are finished.', '']
    teacher = plan.folder / TEACHER / RESULT
    if teacher.is_file():
        record = json.loads(teacher.read_text(encoding='utf-8'))
        size = f'{record["parameters"] / 1e6:.2f} M parameters, {record["windows_seen"]} windows'
        lines += [f'Teacher: {_percent(record["test_recall"])} % of {record["test_instances"]} objects ({size}).', '']
    for student in plan.students:
        lines += _student_lines(plan, student)
    return '\n'.join(lines)


def _student_lines(plan: StudyPlan, student: str) -> list[str]:
    """All tables of one student; none without a finished run."""
    by_arm = {arm: arm_runs(plan, student, arm) for arm in plan.arms}
    if not any(runs.records for runs in by_arm.values()):
        return []
    names = THRESHOLDS[plan.kind]
    recalls = (f'recall at threshold {plan.settings.default_threshold}', 'at its own threshold')
    some = next(record for runs in by_arm.values() for record in runs.records.values())
    lines = [f'## {student}, {some["parameters"] / 1e6:.2f} M parameters', '']
    lines += table(
        ['arm', 'runs', *(recalls if len(names) > 1 else ('recall',)), 'thresholds', 'windows'],
        [_arm_row(arm, runs, len(names)) for arm, runs in by_arm.items() if runs.records],
    )
    lines += ['', *_part_rows(by_arm), '']
    rows = []
    for pair in plan.compare:
        for row, name in enumerate(names):
            found = difference(plan, student, pair, row)
            if found is not None:
                rows.append(_difference_row(pair, name, found))
    lines += table(['difference', 'threshold', 'mean', '95 % interval', 'of each run'], rows)
    return [*lines, '', *photo_lines(plan, student), *cloud_lines(plan, student), '']


def _arm_row(arm: str, runs: ArmRuns, count: int) -> str:
    """With the recall at the first `count` of the default and the run's own threshold."""
    records = list(runs.records.values())
    keys = ('test_recall', 'test_recall_own_threshold')[:count]
    cells = ' | '.join(mean_and_spread([record[key] for record in records]) for key in keys)
    own = ', '.join(str(value) for value in sorted({r['threshold'] for r in records}))
    return f'| {arm} | {len(records)} | {cells} | {own} | {records[0]["windows_seen"]} |'


def _part_rows(by_arm: dict[str, ArmRuns]) -> list[str]:
    """Recall at the run's own threshold by the object's size in the image and by its visible share."""
    head = ['recall, own threshold', *(_between(pair, ' px') for pair in itertools.pairwise(SIZES))]
    head += [_between(pair, ' visible') for pair in itertools.pairwise(VISIBLE)]
    rows = []
    for arm, runs in by_arm.items():
        if runs.hits:
            right = np.mean([hits[-1] for hits in runs.hits.values()], 0)
            cells = [*_by_part(right, runs.size_px, SIZES), *_by_part(right, runs.visible, VISIBLE)]
            rows.append(f'| {arm} | ' + ' | '.join(cells) + ' |')
    return table(head, rows)


def _between(ends: tuple[float, float], unit: str) -> str:
    low, high = ends
    if low == 0:
        return f'below {high:g}{unit}'
    return f'{low:g} and more{unit}' if np.isinf(high) else f'{low:g} to {high:g}{unit}'


def _by_part(right: AnyArray, value: AnyArray, edges: tuple[float, ...]) -> list[str]:
    cells = []
    for low, high in itertools.pairwise(edges):
        part = (value >= low) & (value < high)
        cells.append(f'{_percent(right[part].mean())} ({part.sum()})' if part.any() else '-')
    return cells


def _difference_row(pair: tuple[str, str], threshold: str, found: Difference) -> str:
    return f'| {pair[0]} - {pair[1]} | {threshold} | {found.cells()} |'


def _percent(value: Any) -> str:
    return f'{100 * float(value):.1f}'


def report_record(plan: StudyPlan) -> dict[str, Any]:
    """The same for programs."""
    record: dict[str, Any] = {'name': plan.settings.name, 'students': {}}
    for student in plan.students:
        arms = {arm: list(arm_runs(plan, student, arm).records.values()) for arm in plan.arms}
        differences = {}
        for pair in plan.compare:
            for row, name in enumerate(THRESHOLDS[plan.kind]):
                found = difference(plan, student, pair, row)
                if found is not None:
                    differences[f'{pair[0]} - {pair[1]} ({name})'] = found._asdict()
        record['students'][student] = {'arms': arms, 'differences': differences}
    return record


def curves(plan: StudyPlan, target: Path) -> bool:
    """Draw a loss over the steps, one line per arm (mean over the seeds) and student; False without any data."""
    from matplotlib.figure import Figure  # a second to import, and only this needs it

    metric = CURVE[plan.kind]
    figure = Figure(figsize=(6 * len(plan.students), 4.5), layout='constrained')
    drawn = False
    for place, student in enumerate(plan.students, 1):
        axes = figure.add_subplot(1, len(plan.students), place)
        for arm in plan.arms:
            runs = [series(plan.folder / student / arm / str(seed), metric) for seed in plan.seeds_of(student, arm)]
            runs = [run for run in runs if len(run)]
            if not runs:
                continue
            length = min(len(run) for run in runs)
            mean = np.mean([run[:length, 1] for run in runs], 0)
            axes.plot(runs[0][:length, 0], mean, label=f'{arm} ({len(runs)})')
            drawn = True
        axes.set(title=student, xlabel='steps', ylabel=metric, yscale='log')
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    if drawn:
        figure.savefig(target, dpi=110)
    return drawn


def series(folder: Path, metric: str) -> AnyArray:
    """(n, 2) step and value of a metric of one run, over all parts of a run that was resumed."""
    rows = []
    for path in sorted(folder.glob('csv_*/metrics.csv')):
        with open(path, newline='', encoding='utf-8') as file:
            rows += [(int(r['step']), float(r[metric])) for r in csv.DictReader(file) if r.get(metric)]
    return np.array(rows, np.float64).reshape(-1, 2)
