"""Dense and keypoint students side by side on the CPU: engine, decoding and PnP of one object in one crop.

    python test/bench/dense_bench.py [--threads 2] [--repeats 20] [--size 256] [--json FILE]

Everything goes through the robot's PoseEstimator with ONNX Runtime in FP32. The networks have random weights, which
cost the same time as trained ones; so their answers are thrown away, and decoding and PnP get those of a network that
has learnt a box: code maps with a fifth of the cells wrong, or corners with a fifth of the cells wrong and no surface
points. The candidates take turns, so that a busy moment of the machine strikes all of them; 'CPU ms' is processor time
of all threads, which a busy machine changes little. Exit code 1 when a dense student takes over 60 ms at 256x256.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / 'inference'))

from code_books import box_codes, box_model
from code_engine import CodeEngine

from kd6d_ros.benchmark import machine
from kd6d_ros.cli.output import format_table
from kd6d_ros.deployment.onnx_export import export_graph, rounded_weights
from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.inference.code_files import write_codes
from kd6d_ros.inference.engines.fake import FakeEngine, coordinate_image
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.networks.macs import count_macs
from kd6d_ros.networks.make_network import make_network
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.bundle_record import bundle_of_checkpoint
from kd6d_ros.training.checkpoint import Checkpoint, DenseCheckpoint
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe
from kd6d_ros.types import Detection, RigidTransform

LIMIT_MS, LIMIT_SIZE = 60.0, 256
WRONG = 0.2
"""Share of the cells that say anything."""

NETWORKS = {
    'dense, EfficientNet-Lite0': NetworkSpec('efficientnet_lite0', channels=64, kind='dense'),
    'dense, DarkNet-tiny-H': NetworkSpec('darknet_tiny_h', channels=64, kind='dense'),
    'keypoints, EfficientNet-Lite0 (as models/demo)': NetworkSpec(
        'efficientnet_lite0', (16, 32), 96, 2, 'group', surface=128
    ),
    'keypoints, DarkNet-tiny-H': NetworkSpec('darknet_tiny_h', (16, 32, 64), 128),
}
STAGES = ('preprocess', 'engine', 'decode', 'pnp', 'sum', 'CPU')


class Patch:
    """What ``CodeEngine`` wants of pytest's monkeypatch; nothing is put back."""

    setattr = staticmethod(setattr)


@dataclass
class Candidate:
    """An estimator whose engine runs the network and hands on made-up answers."""

    name: str
    network: Any
    bundle: Any
    answers: Any
    megabytes: float
    gmac: float
    parameters: int
    precision: str = 'fp32'
    description: str = 'network, then made-up answers'
    side_by_side: int = 1
    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    engine_s: float = 0.0
    made_up_s: float = 0.0

    def __post_init__(self) -> None:
        self.estimator = PoseEstimator(self.bundle, self, EstimatorSettings(track=False, find=False, refine_crops=0))

    def run(self, image: Any, classes: Any) -> Any:
        start = time.perf_counter()
        self.network.run(image, classes)
        self.engine_s = time.perf_counter() - start
        before = time.process_time()
        answers = self.answers.run(image, classes)
        self.made_up_s = time.process_time() - before
        return answers

    def look(self, image: Any, camera: Any, pose: RigidTransform, stamp: float, counts: bool) -> None:
        """One image; its stages, with the network's own time for that of the engine."""
        self.answers.scene = [('box', pose)]
        corners = project(camera, pose.apply(self.bundle.objects[0].keypoints))
        box = np.concatenate([corners.min(0), corners.max(0)])
        before = time.process_time()
        poses = self.estimator.estimate(image, camera, stamp, [Detection('box', 1.0, box)])
        processor = time.process_time() - before - self.made_up_s
        if not poses:
            raise SystemExit(f'{self.name}: no pose: {self.estimator.report.rejections}')
        stages = dict(self.estimator.report.stages)
        times = {'engine': self.engine_s, **{key: stages[key] for key in ('preprocess', 'decode', 'pnp')}}
        for key, value in {**times, 'sum': sum(times.values()), 'CPU': processor}.items():
            if counts:
                self.seconds[key].append(value)


def candidate(name: str, spec: NetworkSpec, size: int, camera: Any, folder: Path, threads: int) -> Candidate:
    """A network with random weights, exported, and made-up answers of its kind."""
    torch.manual_seed(0)
    network = rounded_weights(make_network(spec).eval())
    parameters = sum(value.numel() for value in network.parameters())
    model, dense = replace(box_model(), mesh=None), spec.kind == 'dense'
    book = box_codes()[0]
    recipe = Recipe('bench', network=spec, input=InputRecipe(size, 1.25, ()), data=DataRecipe('none', codes='none'))
    facts = {'parameters': parameters}
    checkpoint: Any = (
        DenseCheckpoint(network, recipe, (model,), facts, (book,))
        if dense
        else Checkpoint(network, recipe, (model,), facts)
    )
    bundle = bundle_of_checkpoint(checkpoint)
    path = folder / f'{spec.kind}_{spec.backbone}.onnx'
    onnx.save(export_graph(network, size, bundle.network.max_cells), path)
    files = [path, write_codes(folder, book)] if dense else [path]
    answers: Any = FakeEngine(bundle, camera, noise_px=1.0, outliers=WRONG)
    if dense:
        answers = CodeEngine(bundle, camera, Patch, sure=0.95)
        answers.spoil = _spoil
    return Candidate(
        name, OnnxRuntimeEngine(bundle, path, 'fp32', threads), bundle, answers,
        sum(item.stat().st_size for item in files) / 1e6, count_macs(network, size, size).total / 1e9, parameters,
    )  # fmt: skip


def _spoil(maps: Any) -> Any:
    rng = np.random.default_rng(0)
    wrong = rng.random(maps.mask.shape) < WRONG
    return replace(maps, code=np.where(wrong, rng.random(maps.code.shape), maps.code).astype(np.float32))


def some_poses(count: int) -> list[RigidTransform]:
    rng = np.random.default_rng(1)
    turns = [cv2.Rodrigues(rng.normal(size=3))[0] for _ in range(count)]
    return [RigidTransform(turn, rng.uniform([-0.1, -0.07, 0.5], [0.1, 0.07, 0.9])) for turn in turns]


def main() -> int:
    """Measure, print, compare with the limit."""
    parser = argparse.ArgumentParser(description='Dense and keypoint students, stage by stage, in one run.')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads of every network (default: 2)')
    parser.add_argument('--repeats', type=int, default=20, metavar='N', help='rounds over five poses (default: 20)')
    parser.add_argument('--size', type=int, default=LIMIT_SIZE, help='side of the crop in pixels (default: 256)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there')
    options = parser.parse_args()
    camera = make_camera(np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]]), 640, 480)
    image, poses = coordinate_image(camera), some_poses(5)
    with tempfile.TemporaryDirectory() as folder:
        candidates = [
            candidate(name, spec, options.size, camera, Path(folder), options.threads)
            for name, spec in NETWORKS.items()
        ]
        stamp = 0.0
        for number in range(options.repeats + 1):
            for pose in poses:
                for item in candidates:
                    stamp += 1.0
                    item.look(image, camera, pose, stamp, counts=number > 0)
    figures = {
        item.name: {
            'parameters': item.parameters, 'megabytes': item.megabytes, 'gmac': item.gmac,
            **{
                stage: {'p50_ms': 1e3 * float(np.median(values)), 'p90_ms': 1e3 * float(np.percentile(values, 90))}
                for stage, values in item.seconds.items()
            },
        }
        for item in candidates
    }  # fmt: skip
    header = ['student', 'M parameters', 'MB', 'GMAC', *(f'{stage} ms' for stage in STAGES), 'sum p90']
    rows = [
        [
            name, f'{1e-6 * row["parameters"]:.2f}', f'{row["megabytes"]:.2f}', f'{row["gmac"]:.2f}',
            *(f'{row[stage]["p50_ms"]:.1f}' for stage in STAGES), f'{row["sum"]["p90_ms"]:.1f}',
        ]
        for name, row in figures.items()
    ]  # fmt: skip
    print(f'one crop of {options.size}x{options.size}, {options.threads} threads, medians')
    print(format_table(header, rows))
    record = {'machine': machine.machine_record(), **vars(options), 'json': None, 'students': figures}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    slow = [name for name, row in figures.items() if name.startswith('dense') and row['sum']['p50_ms'] > LIMIT_MS]
    if slow and options.size == LIMIT_SIZE:
        print(f'above {LIMIT_MS:g} ms: {"; ".join(slow)}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
