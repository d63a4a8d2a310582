"""The bundle against a DOPE-sized network on the same frames, and how its cost grows.

    python test/bench/peer_bench.py [--threads 2] [--rounds 2] [--frames 30] [--bundle demo] [--json FILE]

Rows of the first table: the peer (belief maps for 640x480, random weights, ONNX Runtime; its maps alone, without
finding peaks and solving for the pose), and of ours everything from image to pose: once with a search of the whole
frame in every image, once with the region around the last pose. The rows take turns in every round; medians over all.
Exit code 1 when a ratio is below what it should be. The second table: time of one estimate() against the number of
boxes given, the size of the image and the cells per object that vote.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import onnxruntime

from kd6d_ros.benchmark import machine
from kd6d_ros.benchmark.bag_frames import read_frames
from kd6d_ros.benchmark.bag_source import BagSource, find_topics
from kd6d_ros.benchmark.records import BagFrame
from kd6d_ros.cli.output import format_table
from kd6d_ros.deployment.belief_map_peer import belief_map_network
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.inference.bundle_records import Bundle
from kd6d_ros.inference.engines.select import make_engine
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.gates import projected_box
from kd6d_ros.inference.locate import find_bundle
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import Detection

ROOT = Path(__file__).resolve().parents[2]
PEER, WHOLE, TRACKED = 'DOPE-sized network, maps alone', 'whole frame, image to pose', 'tracked region, image to pose'
LIMITS = {WHOLE: 40.0, TRACKED: 150.0}
"""The peer's time over ours, at least."""
MEAN, SPREAD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def read(bag: Path, count: int) -> list[BagFrame]:
    """The first images of a bag."""
    frames = []
    with BagSource(bag) as source:
        for frame in read_frames(source, find_topics(source)):
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


def peer(threads: int, frame: BagFrame) -> Callable[[BagFrame], None]:
    """The network of the peer: image to maps."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    data = belief_map_network(frame.camera.width, frame.camera.height)
    session = onnxruntime.InferenceSession(data, options, providers=['CPUExecutionProvider'])

    def run(frame: BagFrame) -> None:
        image = (frame.image.astype(np.float32) / 255 - MEAN) / SPREAD
        session.run(None, {'image': np.ascontiguousarray(image.transpose(2, 0, 1)[None])})

    return run


class Ours:
    """Estimators of one bundle with one engine: with a search in every image, and following the object."""

    def __init__(self, bundle: Bundle, precision: str, threads: int) -> None:
        self.engine = make_engine(bundle, 'onnxruntime', precision, threads)
        self._searching = PoseEstimator(bundle, self.engine, EstimatorSettings(track=False))
        self._following = PoseEstimator(bundle, self.engine)

    def whole(self, frames: Sequence[BagFrame]) -> list[float]:
        """Seconds of each image; all are searched."""
        return [seconds for seconds, mode in self._run(self._searching, frames) if mode == 'frame']

    def tracked(self, frames: Sequence[BagFrame]) -> list[float]:
        """Seconds of the images in which only the tracked region was looked at."""
        return [seconds for seconds, mode in self._run(self._following, frames) if mode == 'tracked']

    def _run(self, estimator: PoseEstimator, frames: Sequence[BagFrame]) -> list[tuple[float, str]]:
        estimator.reset()
        out = []
        for frame in frames:
            started = perf_counter()
            estimator.estimate(frame.image, frame.camera, frame.stamp_ns * 1e-9)
            out.append((perf_counter() - started, estimator.report.mode))
        return out


def compare(bundle: Bundle, frames: Sequence[BagFrame], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds by row; the peer sees one image a round, ours all of them."""
    ours, rival = Ours(bundle, options.precision, options.threads), peer(options.threads, frames[0])
    ours.whole(frames[:2])
    ours.tracked(frames[:3])
    seconds: dict[str, list[float]] = {PEER: [], WHOLE: [], TRACKED: []}
    for number in range(options.rounds):
        seconds[WHOLE] += ours.whole(frames)
        started = perf_counter()
        rival(frames[number % len(frames)])
        seconds[PEER].append(perf_counter() - started)
        seconds[TRACKED] += ours.tracked(frames)
    return seconds


def growth(bundle: Bundle, frame: BagFrame, options: argparse.Namespace) -> list[tuple[str, list[float]]]:
    """(what, seconds) rows, all measured in turn."""
    engine = make_engine(bundle, 'onnxruntime', options.precision, options.threads)
    finder = PoseEstimator(bundle, engine)
    (pose, *_) = finder.estimate(frame.image, frame.camera, 0.0)
    model = bundle.object(pose.object_name)
    box = projected_box(model, pose.cam_from_obj, frame.camera)
    assert box is not None
    candidates: list[tuple[str, Callable[[], Any]]] = []
    for count in (1, 2, 4, 8):
        estimator = PoseEstimator(bundle, engine, EstimatorSettings(max_instances=count))
        boxes = [Detection(model.name, 1.0 - 0.01 * k, box + 0.5 * k) for k in range(count)]
        candidates.append((f'{count} box{"es" if count > 1 else ""}', with_boxes(estimator, frame, boxes)))
    for side in (320, 640, 1280, 1920):
        scale = side / frame.camera.width
        sized = resized(frame, scale)
        boxes = [Detection(model.name, 1.0, (box + 0.5) * scale - 0.5)]
        candidates.append((f'image {sized.camera.width}x{sized.camera.height}',
                           with_boxes(PoseEstimator(bundle, engine), sized, boxes)))  # fmt: skip
    for cells in (2, 5, 10, 20, 40):
        decode = replace(bundle.decode, cells_per_object=cells)
        estimator = PoseEstimator(replace(bundle, decode=decode), engine)
        candidates.append(
            (f'{cells} cells per object', with_boxes(estimator, frame, [Detection(model.name, 1.0, box)]))
        )
    seconds: list[list[float]] = [[] for _ in candidates]
    for number in range(options.frames // 2 + 2):
        for place, (_, run) in enumerate(candidates):
            started = perf_counter()
            run()
            if number >= 2:
                seconds[place].append(perf_counter() - started)
    return [(name, found) for (name, _), found in zip(candidates, seconds, strict=True)]


def with_boxes(estimator: PoseEstimator, frame: BagFrame, boxes: list[Detection]) -> Callable[[], Any]:
    """One estimate() with given boxes, as of a new recording."""

    def run() -> Any:
        estimator.reset()
        return estimator.estimate(frame.image, frame.camera, 0.0, boxes)

    return run


def resized(frame: BagFrame, scale: float) -> BagFrame:
    """The frame as a camera of another resolution would see it."""
    size = (round(frame.camera.width * scale), round(frame.camera.height * scale))
    matrix = frame.camera.matrix.copy()
    matrix[:2] *= scale
    matrix[:2, 2] += 0.5 * scale - 0.5
    image = cv2.resize(frame.image, size, interpolation=cv2.INTER_LINEAR)
    return BagFrame(frame.stamp_ns, frame.frame_id, image, make_camera(matrix, *size))


def row(name: str, seconds: Sequence[float], ratio: float) -> list[Any]:
    """Cells of a table: how many, median and 90th percentile [ms], a ratio."""
    p50, p90 = (1e3 * float(np.percentile(seconds, share)) for share in (50, 90))
    return [name, len(seconds), f'{p50:.1f}', f'{p90:.1f}', f'{ratio:.2f}']


def main() -> int:
    """Measure, print, compare with the limits."""
    parser = argparse.ArgumentParser(description='The bundle against a DOPE-sized network, and how its cost grows.')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads of every network (default: 2)')
    parser.add_argument('--rounds', type=int, default=2, help='rounds, each with one frame of the peer (default: 2)')
    parser.add_argument('--frames', type=int, default=30, help='frames of ours in each round (default: 30)')
    parser.add_argument('--bundle', default='demo', help='bundle folder or installed name (default: demo)')
    parser.add_argument('--precision', default='fp32', help="one of the bundle's precisions (default: fp32)")
    parser.add_argument('--bag', type=Path, default=ROOT / 'models' / 'demo_bag', help='bag with the frames')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there')
    options = parser.parse_args()
    bundle, frames = load_bundle(find_bundle(options.bundle)), read(options.bag, options.frames)
    record: dict[str, Any] = {'machine': machine.machine_record(), 'threads': options.threads, 'bundle': bundle.name}
    seconds = compare(bundle, frames, options)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians[PEER] / medians[name] for name in LIMITS}
    header = ('one object, 640x480', 'frames', 'p50 ms', 'p90 ms', 'peer / row')
    print(format_table(header, [row(name, values, medians[PEER] / medians[name]) for name, values in seconds.items()]))
    rows = growth(bundle, frames[0], options)
    base = statistics.median(rows[0][1])
    grown = [row(name, values, statistics.median(values) / base) for name, values in rows]
    print()
    print(format_table(('given boxes', 'estimates', 'p50 ms', 'p90 ms', 'times 1 box'), grown))
    record['comparison_ms'] = {name: [1e3 * value for value in values] for name, values in seconds.items()}
    record['ratios'] = ratios
    record['growth_p50_ms'] = {name: 1e3 * statistics.median(values) for name, values in rows}
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    missed = [f'{name}: {ratios[name]:.1f} < {limit:g}' for name, limit in LIMITS.items() if ratios[name] < limit]
    if missed:
        print(f'below the limit: {"; ".join(missed)}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
