"""A bag through `PoseEstimator` without ROS, image after image: one process per row of a comparison.

    python -m kd6d_ros.benchmark.offline JOB.json

is what `kd6d bench` starts, since two ONNX Runtime sessions in one process disturb each other's timing. The process
loads everything, prints a line, and then replays the bag once for every line it reads, so that rounds of several
processes can take turns. At the end of its input it writes the log that the job names.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Sequence, Set

from kd6d_ros.benchmark.bag_frames import read_frames
from kd6d_ros.benchmark.bag_source import BagSource, BagTopics
from kd6d_ros.benchmark.gpu import gpu_memory_mb
from kd6d_ros.benchmark.machine import peak_memory_mb
from kd6d_ros.benchmark.report import write_text
from kd6d_ros.errors import BagError, Kd6dError

if TYPE_CHECKING:
    from kd6d_ros.benchmark.records import BagFrame
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.inference.estimator import PoseEstimator
    from kd6d_ros.types import PoseEstimate

WARM_UP = 5
"""Estimates of the first image before the clock counts."""
SAME_POSE = 1e-9
SPINNING: Dict[Optional[bool], str] = {True: 'yes', False: 'no', None: 'not known of this engine'}


@dataclass(frozen=True)
class OfflineJob:
    """What one process runs. stamps: only images with these stamps [ns], None for all; max_instances as the node's
    parameter; log: where the JSON goes."""

    bag: Path
    image: str
    camera_info: str
    bundle: Path
    precision: str = 'fp32'
    engine: str = 'auto'
    threads: Optional[int] = None
    limit: Optional[int] = None
    stamps: Optional[Sequence[int]] = None
    max_instances: int = 1
    log: Path = Path('log.json')

    def record(self) -> Dict[str, Any]:
        """Plain values; ``read_job`` reads them."""
        return {**vars(self), 'bag': str(self.bag), 'bundle': str(self.bundle), 'log': str(self.log)}


def read_job(path: Path) -> OfflineJob:
    """The job of a file that this package wrote."""
    values = json.loads(path.read_text(encoding='utf-8'))
    return OfflineJob(**{**values, **{name: Path(values[name]) for name in ('bag', 'bundle', 'log')}})


@dataclass
class Round:
    """One pass over the bag, a value per image: seconds of estimate(), CPU seconds of all threads in it, stages [s],
    modes; poses are plain rows."""

    seconds: List[float] = field(default_factory=list)
    cpu: List[float] = field(default_factory=list)
    stages: Dict[str, List[float]] = field(default_factory=dict)
    modes: List[str] = field(default_factory=list)
    stamps: List[int] = field(default_factory=list)
    poses: List[List[Dict[str, Any]]] = field(default_factory=list)
    rejections: Dict[str, int] = field(default_factory=dict)


def replay(frames: Iterable[BagFrame], estimator: PoseEstimator) -> Round:
    """Every image through the estimator; nothing is dropped. A new camera starts anew, as in the node."""
    result = Round()
    frame_id = ''
    estimator.reset()
    for frame in frames:
        if frame_id and frame.frame_id != frame_id:
            estimator.reset()
        frame_id = frame.frame_id
        started, worked = perf_counter(), process_time()
        poses = estimator.estimate(frame.image, frame.camera, frame.stamp_ns * 1e-9)
        result.seconds.append(perf_counter() - started)
        result.cpu.append(process_time() - worked)
        result.stamps.append(frame.stamp_ns)
        result.poses.append([pose_row(pose) for pose in poses])
        report = estimator.report
        result.modes.append(report.mode)
        for stage, value in report.stages.items():
            result.stages.setdefault(stage, []).append(value)
        for reason, count in report.counts().items():
            result.rejections[reason] = result.rejections.get(reason, 0) + count
    return result


def pose_row(pose: PoseEstimate) -> Dict[str, Any]:
    """A pose as the recorder of a live run writes it: x y z [m], quaternion x y z w; 36 numbers of covariance."""
    from kd6d_ros.geometry.transforms import quaternion_xyzw

    transform = pose.cam_from_obj
    return {
        'object': pose.object_name,
        'id': pose.instance_id,
        'score': pose.score,
        'pose': [*transform.translation.tolist(), *(float(v) for v in quaternion_xyzw(transform.rotation))],
        'covariance': None if pose.covariance is None else pose.covariance.reshape(-1).tolist(),
    }


def frames_of(job: OfflineJob, source: BagSource) -> Iterable[BagFrame]:
    """The images that the job asks for, in the order of recording."""
    wanted: Optional[Set[int]] = None if job.stamps is None else set(job.stamps)
    taken = 0
    for frame in read_frames(source, BagTopics(job.image, job.camera_info, None)):
        if job.limit is not None and taken >= job.limit:
            return
        if wanted is None or frame.stamp_ns in wanted:
            taken += 1
            yield frame


def run(job: OfflineJob) -> None:
    """Load, then a round for every line of standard input; write the log."""
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.engines.select import make_engine
    from kd6d_ros.inference.estimator import PoseEstimator
    from kd6d_ros.inference.settings import EstimatorSettings

    bundle = load_bundle(job.bundle)
    engine = make_engine(bundle, job.engine, job.precision, job.threads)
    estimator = PoseEstimator(bundle, engine, EstimatorSettings(max_instances=job.max_instances))
    rounds: List[Round] = []
    with BagSource(job.bag) as source:
        _warm_up(job, source, estimator)
        print(json.dumps({'ready': True}), flush=True)
        for _ in sys.stdin:
            rounds.append(replay(frames_of(job, source), estimator))
            print(json.dumps({'seconds': sum(rounds[-1].seconds)}), flush=True)
    write_text(job.log, json.dumps(log_record(engine, rounds)) + '\n')


def _warm_up(job: OfflineJob, source: BagSource, estimator: PoseEstimator) -> None:
    first = next(iter(frames_of(job, source)), None)
    if first is None:
        raise BagError(f'{job.bag}: no image to run on in {job.image}')
    for _ in range(WARM_UP):
        estimator.estimate(first.image, first.camera, 0.0)
        estimator.reset()


def log_record(engine: Engine, rounds: Sequence[Round]) -> Dict[str, Any]:
    """What the process measured; poses are those of the first round."""
    gpu, why = gpu_memory_mb()
    return {
        'engine': engine.description,
        'spinning': SPINNING[getattr(engine, 'spins', None)],
        'peak_memory_mb': peak_memory_mb(),
        'gpu_memory_mb': gpu,
        'gpu_why': why,
        'stamps': rounds[0].stamps,
        'poses': rounds[0].poses,
        'modes': rounds[0].modes,
        'rejections': rounds[0].rejections,
        'rounds': [{'seconds': item.seconds, 'cpu': item.cpu, 'stages': item.stages} for item in rounds],
        'poses_repeat': all(same_poses(rounds[0].poses, item.poses) for item in rounds[1:]),
    }


def same_poses(first: Sequence[Sequence[Dict[str, Any]]], second: Sequence[Sequence[Dict[str, Any]]]) -> bool:
    """Whether two rounds published the same poses for every image."""
    if [len(rows) for rows in first] != [len(rows) for rows in second]:
        return False
    pairs = [(a, b) for rows, others in zip(first, second, strict=True) for a, b in zip(rows, others, strict=True)]
    return all(
        a['id'] == b['id'] and all(abs(x - y) <= SAME_POSE for x, y in zip(a['pose'], b['pose'], strict=True))
        for a, b in pairs
    )


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Exit code 2 with one line for a user's mistake."""
    parser = argparse.ArgumentParser(prog='offline', description='One row of kd6d bench.')
    parser.add_argument('job', type=Path)
    try:
        run(read_job(parser.parse_args(arguments).job))
    except Kd6dError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
