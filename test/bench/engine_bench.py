"""Speed of the networks: teacher, students, engines and precisions, as ratios in one run.

    python test/bench/engine_bench.py [--threads 2] [--repeats 30] [--bundle demo] [--json FILE]

One crop of 256x256 (and the bundle also at its own size), ONNX Runtime on the CPU unless said otherwise. The networks
of the paper have random weights, which cost the same time as trained ones. Every round times each candidate once, in
turn, so that a busy moment of the machine strikes all of them; medians and 90th percentiles over the rounds, and ratios
of medians. Exit code 1 when a ratio is below what it should be.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd6d_ros.benchmark import machine
from kd6d_ros.cli.output import format_table
from kd6d_ros.deployment.onnx_export import rounded_weights
from kd6d_ros.deployment.precisions import write_precisions
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.inference.bundle_records import Bundle
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine
from kd6d_ros.inference.locate import find_bundle
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe
from kd6d_ros.training.validation import TorchEngine, bundle_of
from kd6d_ros.types import ObjectModel

SIZE, CELLS = 256, 64
CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.05, 0.05) for z in (-0.05, 0.05)])
TEACHER, FULL, STUDENT = 'DarkNet-53 teacher, 5 levels', 'tiny-H, 4 levels', 'tiny-H without stride 8'
NETWORKS = {
    TEACHER: NetworkSpec('darknet53', (8, 16, 32, 64, 128), 256),
    FULL: NetworkSpec('darknet_tiny_h', (8, 16, 32, 64), 128),
    STUDENT: NetworkSpec('darknet_tiny_h', (16, 32, 64), 128),
}
STUDENT_TORCH, STUDENT_INT8 = f'{STUDENT}, PyTorch', f'{STUDENT}, INT8'


def limits(bundle: str) -> list[tuple[str, str, float | None]]:
    """(slower, faster, least ratio) of what should hold; None where the ratio is only shown."""
    return [
        (TEACHER, STUDENT, 12.0),
        (FULL, STUDENT, 2.4),
        (STUDENT_TORCH, STUDENT, 2.0),
        (TEACHER, STUDENT_INT8, 35.0),
        (STUDENT, STUDENT_INT8, 1.5),
        (TEACHER, f'{bundle} at 256, INT8', None),
        (f'{bundle} at 256', f'{bundle} at 256, INT8', 1.5),
        (f'{bundle} at its own size', f'{bundle} at its own size, INT8', 1.5),
    ]


def random_networks(folder: Path, threads: int) -> dict[str, Any]:
    """Engines of the paper's networks; the student also in PyTorch and in INT8, calibrated on noise."""
    engines: dict[str, Any] = {}
    objects = (ObjectModel('box', 1, 0.17, CORNERS),)
    noise = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    for name, spec in NETWORKS.items():
        torch.manual_seed(0)
        recipe = Recipe('bench', network=spec, input=InputRecipe(SIZE, 1.5, (), CELLS), data=DataRecipe('none'))
        bundle = bundle_of(recipe, objects)
        network = rounded_weights(KeypointNetwork(spec).eval())
        place = folder / str(len(engines))
        place.mkdir()
        precisions = ('fp32', 'int8-cpu') if name == STUDENT else ('fp32',)
        files = write_precisions(network, bundle, precisions, list(noise), place, lambda what, done, total: None)
        engines[name] = OnnxRuntimeEngine(bundle, files.paths['fp32'], 'fp32', threads)
        if name == STUDENT:
            engines[STUDENT_TORCH] = TorchEngine(network, CELLS)
            engines[STUDENT_INT8] = OnnxRuntimeEngine(bundle, files.paths['int8-cpu'], 'int8-cpu', threads)
    return {name: (engine, SIZE, 1) for name, engine in engines.items()}


def bundle_engines(bundle: Bundle, threads: int) -> dict[str, Any]:
    """A bundle in its precisions, at its own crop size and at that of the paper."""
    out = {}
    for where, size in (('at its own size', bundle.network.crop_size), (f'at {SIZE}', SIZE)):
        sized = replace(bundle, network=replace(bundle.network, crop_size=size))
        for word, precision in (('', 'fp32'), (', INT8', 'int8-cpu')):
            if precision in bundle.engines:
                engine = OnnxRuntimeEngine(sized, bundle.engine_path(precision), precision, threads)
                out[f'{bundle.name} {where}{word}'] = (engine, size, len(bundle.objects))
    return out


def measure(candidates: dict[str, Any], repeats: int) -> dict[str, dict[str, float]]:
    """Median and 90th percentile [ms] of each candidate, after three rounds that do not count."""
    rng = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    images = {size: rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8) for _, size, _ in candidates.values()}
    for number in range(repeats + 3):
        for name, (engine, size, classes) in candidates.items():
            start = time.perf_counter()
            engine.run(images[size], np.ones((1, classes), dtype=bool))
            if number >= 3:
                seconds[name].append(time.perf_counter() - start)
    return {
        name: {'p50_ms': 1e3 * statistics.median(values), 'p90_ms': 1e3 * float(np.percentile(values, 90))}
        for name, values in seconds.items()
    }


def main() -> int:
    """Measure, print, compare with the limits."""
    parser = argparse.ArgumentParser(description='Speed of networks, engines and precisions, as ratios in one run.')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads of every candidate (default: 2)')
    parser.add_argument('--repeats', type=int, default=30, metavar='N', help='rounds (default: 30)')
    parser.add_argument('--bundle', default='demo', help='bundle folder or installed name (default: demo)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bundle = load_bundle(find_bundle(options.bundle))
    with tempfile.TemporaryDirectory() as folder:
        candidates = {
            **random_networks(Path(folder), options.threads),
            **bundle_engines(bundle, options.threads),
        }
        figures = measure(candidates, options.repeats)
    ratios = [
        (slow, fast, figures[slow]['p50_ms'] / figures[fast]['p50_ms'], least)
        for slow, fast, least in limits(bundle.name)
        if slow in figures and fast in figures
    ]
    record = {
        'machine': machine.machine_record(),
        'threads': options.threads,
        'repeats': options.repeats,
        'latency': figures,
        'ratios': [{'slower': a, 'faster': b, 'ratio': ratio, 'limit': least} for a, b, ratio, least in ratios],
    }
    rows = [[name, f'{item["p50_ms"]:.2f}', f'{item["p90_ms"]:.2f}'] for name, item in figures.items()]
    print(format_table(['one crop', 'p50 ms', 'p90 ms'], rows))
    print()
    print(format_table(['ratio', 'times', 'at least'], [[f'{a} / {b}', f'{r:.2f}', n] for a, b, r, n in ratios]))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    missed = [f'{a} / {b}' for a, b, ratio, least in ratios if least is not None and ratio < least]
    if missed:
        print(f'below the limit: {"; ".join(missed)}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
