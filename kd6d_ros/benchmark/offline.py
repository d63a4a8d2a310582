"""A bag through `PoseEstimator` without ROS, image after image: the best a bundle can do on this machine.

    python -m kd6d_ros.benchmark.offline --bag BAG --bundle BUNDLE --out FOLDER ...

is what `kd6d bench` starts once per bundle, since two ONNX Runtime sessions in one process disturb each
other's timing. It writes FOLDER/result.json and FOLDER/report.html.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from kd6d_ros.benchmark import live, machine
from kd6d_ros.benchmark.bag_frames import read_frames
from kd6d_ros.benchmark.bag_source import BagSource
from kd6d_ros.benchmark.latency import summarise
from kd6d_ros.benchmark.objects import vertices_of
from kd6d_ros.benchmark.records import FrameLog, PublishedPose
from kd6d_ros.benchmark.report import ReportText, render_report, write_text
from kd6d_ros.benchmark.scoring import RunScore, score_run
from kd6d_ros.benchmark.summary import summary_record
from kd6d_ros.errors import BagError, Kd6dError

if TYPE_CHECKING:
    from kd6d_ros.inference.estimator import PoseEstimator
    from kd6d_ros.types import PoseEstimate

WARM_UP = 5
"""Estimates of the first image before the clock counts."""


@dataclass
class Replay:
    """What a replay gave: frames as in a live run, and per stage and mode the times [s]."""

    frames: List[FrameLog] = field(default_factory=list)
    stages: Dict[str, List[float]] = field(default_factory=dict)
    overhead: List[float] = field(default_factory=list)
    """estimate() without the engine's own time, for images in which only a tracked region was looked at."""
    modes: Dict[str, int] = field(default_factory=dict)
    rejections: Dict[str, int] = field(default_factory=dict)


def replay(recording: live.Recording, estimator: PoseEstimator) -> Replay:
    """Every image of the bag through the estimator; nothing is dropped.

    Raises:
        BagError: an image without ground truth, or one that cannot be used.
    """
    result = Replay()
    with BagSource(recording.path) as source:
        for frame in read_frames(source, recording.topics):
            if frame.stamp_ns not in recording.truth:
                raise BagError(f'{recording.path}: the image with stamp {frame.stamp_ns} ns has no ground truth')
            if not result.frames:
                for _ in range(WARM_UP):
                    estimator.estimate(frame.image, frame.camera, 0.0)
                    estimator.reset()
            started = perf_counter()
            poses = estimator.estimate(frame.image, frame.camera, frame.stamp_ns * 1e-9)
            ended = perf_counter()
            truth = recording.truth[frame.stamp_ns]
            published = tuple(_published(pose) for pose in poses)
            result.frames.append(FrameLog(frame.stamp_ns, truth, started, ended, published))
            _note(result, estimator, ended - started)
    return result


def _published(pose: PoseEstimate) -> PublishedPose:
    return PublishedPose(pose.object_name, pose.instance_id, pose.cam_from_obj, pose.score)


def _note(result: Replay, estimator: PoseEstimator, seconds: float) -> None:
    report = estimator.report
    result.modes[report.mode] = result.modes.get(report.mode, 0) + 1
    for stage, value in report.stages.items():
        result.stages.setdefault(stage, []).append(value)
    for reason, count in report.counts().items():
        result.rejections[reason] = result.rejections.get(reason, 0) + count
    if report.mode == 'tracked':
        result.overhead.append(seconds - report.stages['inference'])


def result_record(result: Replay, score: RunScore) -> Dict[str, Any]:
    """Plain values for JSON; latency is the time of one estimate()."""
    stages = {name: summarise(values) for name, values in result.stages.items()}
    overhead = summarise(result.overhead)
    return {
        **summary_record(score),
        'stages_ms': {name: item.milliseconds() for name, item in stages.items() if item is not None},
        'tracked_overhead_ms': None if overhead is None else overhead.milliseconds(),
        'modes': result.modes,
        'rejections': result.rejections,
    }


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='offline', description='One bundle on one bag, without ROS.')
    parser.add_argument('--bag', type=Path, required=True)
    parser.add_argument('--bundle', required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--models', type=Path, default=None)
    parser.add_argument('--engine', default='auto')
    parser.add_argument('--precision', default='fp32')
    parser.add_argument('--threads', type=int, default=None)
    return parser


def run(options: argparse.Namespace) -> Mapping[str, Any]:
    """Replay, score, write result.json and report.html; return the record."""
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.engines.select import make_engine
    from kd6d_ros.inference.estimator import PoseEstimator
    from kd6d_ros.inference.locate import find_bundle

    bundle = load_bundle(find_bundle(options.bundle))
    recording = live.open_recording(options.bag)
    models = {model.name: model for model in bundle.objects}
    names = live.names_to_score(recording, models)
    scorers = live.scorers_for(models, vertices_of(bundle, names, options.models))
    engine = make_engine(bundle, options.engine, options.precision, options.threads)
    result = replay(recording, PoseEstimator(bundle, engine))
    score = score_run(result.frames, scorers)
    record = {
        'bundle': bundle.name,
        'engine': engine.description,
        'precision': options.precision,
        'bag': str(options.bag),
        'bag_sha256': machine.folder_sha256(options.bag),
        'bundle_files': dict(bundle.files),
        **result_record(result, score),
        'machine': machine.machine_record(),
    }
    words = 'every image in order, none dropped; latency is the time of one estimate()'
    facts = [('engine', engine.description), ('bag', options.bag.name), ('modes', str(result.modes))]
    facts += [(f'refused: {reason}', str(count)) for reason, count in sorted(result.rejections.items())]
    text = ReportText(f'{bundle.name} on {options.bag.name}', words, True, facts)
    pictures = live.pictures_of(recording, score, models)
    write_text(options.out / 'report.html', render_report(score, text, pictures))
    write_text(options.out / 'result.json', json.dumps(record, indent=2) + '\n')
    return record


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Exit code 2 with one line for a user's mistake."""
    try:
        run(build_parser().parse_args(arguments))
    except Kd6dError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
