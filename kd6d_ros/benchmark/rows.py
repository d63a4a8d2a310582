"""One row of a comparison: the log of its process, turned into figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

import numpy as np

from kd6d_ros.benchmark.accuracy import Accuracy, Judge, measure_accuracy
from kd6d_ros.benchmark.latency import summarise
from kd6d_ros.benchmark.queueing import simulate_queue
from kd6d_ros.benchmark.records import FrameLog, PublishedPose
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.benchmark.recording import Recording
    from kd6d_ros.benchmark.variants import Variant

SPEED_KEYS = ('latency_ms', 'round_p50_ms', 'stages_ms', 'tracked_overhead_ms', 'throughput_hz', 'cpu_ms', 'camera')


@dataclass(frozen=True, eq=False)
class Row:
    """A row with all that a table, a page and a bag need. log: of ``offline.log_record``; record: plain values."""

    variant: Variant
    log: Mapping[str, Any]
    frames: List[FrameLog]
    accuracy: Accuracy
    judge: Judge
    record: Dict[str, Any]

    @property
    def seconds(self) -> List[float]:
        """Times of estimate() [s] of all rounds together."""
        return [value for item in self.log['rounds'] for value in item['seconds']]


def published_pose(row: Mapping[str, Any]) -> PublishedPose:
    """A pose as ``offline.pose_row`` or the recorder wrote it."""
    values = np.array(row['pose'], dtype=np.float64)
    transform = RigidTransform(rotation_from_xyzw(values[3:]), values[:3])
    numbers = row.get('covariance')
    covariance = None if numbers is None else np.array(numbers, np.float64).reshape(6, 6)
    return PublishedPose(str(row['object']), str(row['id']), transform, float(row['score']), covariance)


def make_row(
    variant: Variant, log: Mapping[str, Any], recording: Recording, judge: Judge, camera_hz: Optional[float]
) -> Row:
    """All figures of one row; `camera_hz` None takes the rate of the bag."""
    per_image = np.median([item['seconds'] for item in log['rounds']], axis=0)
    frames = [
        FrameLog(stamp, (), 0.0, float(seconds), tuple(published_pose(item) for item in poses))
        for stamp, seconds, poses in zip(log['stamps'], per_image, log['poses'], strict=True)
    ]
    accuracy = measure_accuracy(frames, recording, judge)
    why: Dict[str, str] = dict(accuracy.record.get('why', {}))
    if accuracy.score is None:
        why['accuracy'] = accuracy.reason
    if log['gpu_memory_mb'] is None:
        why['gpu_memory_mb'] = log['gpu_why']
    # Latencies of the scored images alone would say something else than those of all images.
    accurate = {name: value for name, value in accuracy.record.items() if name not in ('latency_ms', 'why')}
    record = {
        'row': variant.name,
        'bundle': variant.bundle.name,
        'precision': variant.precision,
        **{name: log[name] for name in ('engine', 'spinning', 'peak_memory_mb', 'gpu_memory_mb', 'poses_repeat')},
        'images': len(log['stamps']),
        'rounds': len(log['rounds']),
        'modes': {mode: log['modes'].count(mode) for mode in sorted(set(log['modes']))},
        'rejections': log['rejections'],
        **_speed(log, camera_hz or recording.rate_hz, why),
        **accurate,
        'notes': list(judge.notes),
        'why': why,
    }
    return Row(variant, log, frames, accuracy, judge, record)


def _speed(log: Mapping[str, Any], camera_hz: Optional[float], why: Dict[str, str]) -> Dict[str, Any]:
    rounds = log['rounds']
    seconds = [value for item in rounds for value in item['seconds']]
    stages = {
        name: summarise(value for item in rounds for value in item['stages'].get(name, []))
        for name in sorted({stage for item in rounds for stage in item['stages']})
    }
    tracked = [
        value - inference
        for item in rounds
        for mode, value, inference in zip(log['modes'], item['seconds'], item['stages']['inference'], strict=True)
        if mode == 'tracked'
    ]
    overhead, latency = summarise(tracked), summarise(seconds)
    if overhead is None:
        why['tracked_overhead_ms'] = 'no image in which only a tracked region was looked at'
    camera = None
    if camera_hz is None:
        why['camera'] = 'the stamps of the bag give no rate; name one with --camera-rate'
    else:
        # The first round is as good as any: rounds differ by chance.
        queue = simulate_queue(rounds[0]['seconds'], 1.0 / camera_hz)
        ages = summarise(queue.ages)
        camera = {
            'hz': camera_hz,
            'dropped': queue.dropped,
            'of': len(rounds[0]['seconds']),
            'age_ms': None if ages is None else ages.milliseconds(),
        }
    return {
        'latency_ms': None if latency is None else latency.milliseconds(),
        'round_p50_ms': [round(1e3 * float(np.median(item['seconds'])), 3) for item in rounds],
        'stages_ms': {name: item.milliseconds() for name, item in stages.items() if item is not None},
        'tracked_overhead_ms': None if overhead is None else overhead.milliseconds(),
        'throughput_hz': len(seconds) / sum(seconds),
        'cpu_ms': 1e3 * float(np.mean([value for item in rounds for value in item['cpu']])),
        'camera': camera,
    }
