"""The figures of a long run: what was seen of the node, and whether its books are right."""

from __future__ import annotations

import os
from typing import Any, Mapping, Sequence

import numpy as np

from kd6d_ros.benchmark.latency import summarise
from kd6d_ros.benchmark.processes import memory_mb
from kd6d_ros.benchmark.recording import Recording
from kd6d_ros.benchmark.records import FrameLog
from kd6d_ros.benchmark.rows import published_pose
from kd6d_ros.benchmark.scoring import RIGHT, Scorer, score_run
from kd6d_ros.benchmark.session import SessionLog, stage_times

Row = tuple[str, Any, str, bool]
"""(what, value, what must hold, whether it does)."""
WARM_UP_S = 60
"""Memory counts from then on; in a short run, from a third of it."""
GROWTH_MB = 5.0
AGE_S = 0.040
WAIT_S = 0.1


class Watch:
    """What the node uses, once per second."""

    def __init__(self) -> None:
        self.memory: list[float] = []
        self.files: list[int] = []
        self.threads: list[int] = []

    def look(self, pid: int) -> None:
        now = memory_mb(pid)
        if now is not None:
            self.memory.append(now)
            self.files.append(len(os.listdir(f'/proc/{pid}/fd')))
            self.threads.append(len(os.listdir(f'/proc/{pid}/task')))


def rows(
    log: SessionLog,
    sent: Sequence[Mapping[str, Any]],
    asked: Sequence[Mapping[str, Any]],
    watch: Watch,
    recording: Recording,
    scorers: Mapping[str, Scorer],
) -> list[Row]:
    """The table; `sent` is what the player noted, `asked` what the caller did."""
    return [
        *_stamps(sent),
        *_books(log, len(sent)),
        *_accuracy(log, sent, recording, scorers),
        *_memory(watch),
        *_services(asked),
        *_times(log),
    ]


def _stamps(sent: Sequence[Mapping[str, Any]]) -> list[Row]:
    shift = (sent[0]['stamp_ns'] - sent[0]['bag_stamp_ns']) * 1e-9
    span = (sent[-1]['sent_s'] - sent[0]['sent_s']) or 1.0
    late = [row['stamp_ns'] * 1e-9 - row['sent_s'] for row in sent]
    growing = bool((np.diff([row['stamp_ns'] for row in sent]) > 0).all())
    return [
        ('images sent', len(sent), '', True),
        ('images per second sent', round((len(sent) - 1) / span, 2), '', True),
        ('stamps moved to the wall clock by [s]', f'{shift:.6f}', '', True),
        ('stamps grow over all passes', 'yes' if growing else 'no', 'yes', growing),
        ('player late, at most [ms]', round(1e3 * (max(late) - min(late)), 1), '', True),
    ]


def _books(log: SessionLog, sent: int) -> list[Row]:
    values: dict[str, str] = {}
    for event in log.events:
        if event['kind'] == 'diagnostics':
            values.update(event['values'])

    def count(name: str) -> int:
        return int(values.get(name, 0))

    arrived, lost, processed = count('images arrived'), count('images lost before arrival'), count('images processed')
    drops = {name: int(value) for name, value in sorted(values.items()) if name.startswith('images dropped: ')}
    others = ('images refused', 'images replaced by a newer one', 'images looked at on request', 'images waiting')
    counted = processed + sum(drops.values()) + sum(count(name) for name in others)
    answers = [event for event in log.events if event['kind'] == 'detections']
    empty = sum(not event['poses'] for event in answers)
    rejected = {name: value for name, value in sorted(values.items()) if name.startswith('rejected: ')}
    return [
        ('images arrived', arrived, '', True),
        ('images lost before arrival, as the node counts', lost, '', True),
        ('sent, but neither arrived nor counted as lost', sent - arrived - lost, '0', sent == arrived + lost),
        ('images processed: with a pose / without', f'{processed - empty} / {empty}', '', True),
        *[(name, count(name), '', True) for name in others],
        *[(name, value, '', True) for name, value in drops.items()],
        ('arrived, but not counted', arrived - counted, '0', arrived == counted),
        ('processed, but no message about it came', processed - len(answers), '0', processed == len(answers)),
        *[(f'poses {name}', value, '', True) for name, value in rejected.items()],
    ]


def _accuracy(
    log: SessionLog, sent: Sequence[Mapping[str, Any]], recording: Recording, scorers: Mapping[str, Scorer]
) -> list[Row]:
    answers = {event['stamp_ns']: event for event in log.events if event['kind'] == 'detections'}
    frames = []
    for row in sent:
        answer = answers.get(row['stamp_ns'])
        poses = () if answer is None else tuple(published_pose(pose) for pose in answer['poses'])
        received = None if answer is None else answer['received_s']
        frames.append(FrameLog(row['stamp_ns'], recording.truth[row['bag_stamp_ns']], row['sent_s'], received, poses))
    score = score_run(frames, scorers)
    foreign = len(set(answers) - {row['stamp_ns'] for row in sent})
    recall = f'{score.counts[RIGHT]} of {score.targets}'
    return [
        ('ADD below 0.1 d, lost images are misses', recall, '', True),
        ('poses while the object was out of view, stray', score.false_poses, '', True),
        ('answers with a stamp that no image has', foreign, '0', foreign == 0),
    ]


def _memory(watch: Watch) -> list[Row]:
    start = min(WARM_UP_S, len(watch.memory) // 3)
    after = watch.memory[start:]
    growth = max(after) - after[0]
    return [
        (f'memory after {start} s / at the end [MB]', f'{after[0]:.1f} / {after[-1]:.1f}', '', True),
        ('most growth of memory since then [MB]', round(growth, 2), f'< {GROWTH_MB:g}', growth < GROWTH_MB),
        ('open files: then / at the end', f'{watch.files[start]} / {watch.files[-1]}', '', True),
        ('threads: then / at the end', f'{watch.threads[start]} / {watch.threads[-1]}', '', True),
    ]


def _services(asked: Sequence[Mapping[str, Any]]) -> list[Row]:
    lost = sum(row['took_s'] is None for row in asked)
    # A request for a pose waits for an image, and for one that shows the object.
    times = summarise(row['took_s'] for row in asked if row['took_s'] is not None and row['call'] != 'get_pose')
    took = 'none' if times is None else f'{1e3 * times.p50:.1f} / {1e3 * times.p95:.1f} / {1e3 * times.worst:.1f}'
    return [
        ('service and action calls', len(asked), '> 0', len(asked) > 0),
        ('calls without an answer', lost, '0', lost == 0),
        ('answers of services p50 / p95 / most [ms]', took, '', True),
    ]


def _times(log: SessionLog) -> list[Row]:
    stages = stage_times(log)
    age, queue = summarise(stages.get('age', [])), summarise(stages.get('queue', []))
    if age is None or queue is None:
        return [('age at publish', 'unknown', f'p95 < {1e3 * AGE_S:g} ms', False)]
    words = f'{1e3 * age.p50:.1f} / {1e3 * age.p95:.1f} / {1e3 * age.p99:.1f}'
    return [
        ('age at publish p50 / p95 / p99 [ms]', words, f'p95 < {1e3 * AGE_S:g}', age.p95 < AGE_S),
        (
            'longest wait of a published image [ms]',
            round(1e3 * queue.worst, 1),
            f'<= {1e3 * WAIT_S:g}',
            queue.worst <= WAIT_S,
        ),
    ]
