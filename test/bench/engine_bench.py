"""Speed of the networks: teacher, students, engines and precisions, as ratios in one run.

    python test/bench/engine_bench.py [--threads 2] [--rounds 5] [--repeats 10] [--no-spinning] [--json FILE]

One crop of 256x256 (and the bundle also at its own size), ONNX Runtime on the CPU unless said otherwise. The networks
of the paper have random weights, which cost the same time as trained ones. Every candidate is a process of its own
(several sessions in one process disturb each other), and only one of them works at a time: in every round each has its
turn, so that a busy moment of the machine strikes all of them. Idle threads wait as each library has it by default, in
a loop; --no-spinning lets them sleep, as the node does to leave the cores to others. Medians and 90th percentiles over
all turns, and ratios of medians. Exit code 1 when a ratio is below what it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_candidate import Candidate

from kd6d_ros.benchmark import machine
from kd6d_ros.benchmark.latency import summarise
from kd6d_ros.benchmark.turns import TurnProcess
from kd6d_ros.cli.output import format_table
from kd6d_ros.deployment.onnx_export import rounded_weights
from kd6d_ros.deployment.precisions import write_precisions
from kd6d_ros.inference.bundle import load_bundle, write_bundle
from kd6d_ros.inference.bundle_records import Bundle
from kd6d_ros.inference.locate import find_bundle
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.bundle_record import bundle_of
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe
from kd6d_ros.types import ObjectModel

SIZE, CELLS = 256, 64
CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.05, 0.05) for z in (-0.05, 0.05)])
TEACHER, FULL, STUDENT = 'DarkNet-53 teacher, 5 levels', 'tiny-H, 4 levels', 'tiny-H without stride 8'
BATCH = f'{STUDENT}, batch norm'
"""Our own head: its normalisation is folded into the convolutions, so that nothing of it stays in float in INT8."""
NETWORKS = {
    TEACHER: NetworkSpec('darknet53', (8, 16, 32, 64, 128), 256),
    FULL: NetworkSpec('darknet_tiny_h', (8, 16, 32, 64), 128),
    STUDENT: NetworkSpec('darknet_tiny_h', (16, 32, 64), 128),
    BATCH: NetworkSpec('darknet_tiny_h', (16, 32, 64), 128, norm='batch'),
}
WORDS = {'fp32': '', 'int8-cpu': ', INT8', 'torch': ', PyTorch'}
PRECISIONS = {STUDENT: ('fp32', 'int8-cpu', 'torch'), BATCH: ('fp32', 'int8-cpu')}
"""What a network runs in, where it is more than FP32."""
STUDENT_TORCH, STUDENT_INT8, BATCH_INT8 = f'{STUDENT}, PyTorch', f'{STUDENT}, INT8', f'{BATCH}, INT8'
WAITING = {True: "in a loop (each library's default)", False: 'asleep, as in the node'}


def limits(bundle: str) -> list[tuple[str, str, float | None]]:
    """(slower, faster, least ratio) of what should hold; None where the ratio is only shown."""
    return [
        (TEACHER, STUDENT, 12.0),
        (FULL, STUDENT, 2.4),
        (STUDENT_TORCH, STUDENT, 2.0),
        (TEACHER, STUDENT_INT8, 35.0),
        (STUDENT, STUDENT_INT8, 1.5),
        (TEACHER, BATCH_INT8, 35.0),
        (BATCH, BATCH_INT8, 1.5),
        (TEACHER, f'{bundle} at {SIZE}, INT8', None),
        (f'{bundle} at {SIZE}', f'{bundle} at {SIZE}, INT8', 1.5),
        (f'{bundle} at its own size', f'{bundle} at its own size, INT8', 1.5),
    ]


def random_networks(folder: Path, usual: Mapping[str, Any]) -> dict[str, Candidate]:
    """The networks of the paper, written as bundles into `folder`; INT8 is calibrated on noise."""
    out = {}
    objects = (ObjectModel('box', 1, 0.17, CORNERS),)
    noise = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    for number, (name, spec) in enumerate(NETWORKS.items()):
        torch.manual_seed(0)
        recipe = Recipe('bench', network=spec, input=InputRecipe(SIZE, 1.5, (), CELLS), data=DataRecipe('none'))
        bundle = bundle_of(recipe, objects)
        network = rounded_weights(KeypointNetwork(spec).eval())
        precisions = PRECISIONS.get(name, ('fp32',))
        written = [precision for precision in precisions if precision != 'torch']
        files = write_precisions(network, bundle, written, list(noise), folder, lambda what, done, total: None)
        place = folder / f'network_{number}'
        write_bundle(place, name=place.name, objects=objects, network=bundle.network, decode=bundle.decode,
                     engines=files.paths, licence='none', origin='random weights')  # fmt: skip
        for precision in precisions:
            out[name + WORDS[precision]] = Candidate(str(place), precision, SIZE, **usual, spec=asdict(spec))
    return out


def bundle_candidates(bundle: Bundle, usual: Mapping[str, Any]) -> dict[str, Candidate]:
    """A bundle in its precisions, at its own crop size and at that of the paper."""
    return {
        f'{bundle.name} {where}{WORDS[precision]}': Candidate(str(bundle.folder), precision, size, **usual)
        for where, size in (('at its own size', bundle.network.crop_size), (f'at {SIZE}', SIZE))
        for precision in ('fp32', 'int8-cpu')
        if precision in bundle.engines
    }


def measure(candidates: Mapping[str, Candidate], rounds: int, folder: Path) -> dict[str, dict[str, Any]]:
    """'engine', 'p50_ms' and 'p90_ms' of each candidate."""
    with ExitStack() as stack:
        processes, engines = {}, {}
        for number, (name, candidate) in enumerate(candidates.items()):
            job = folder / f'job_{number}.json'
            job.write_text(json.dumps(asdict(candidate)), encoding='utf-8')
            command = [sys.executable, str(Path(__file__).with_name('engine_candidate.py')), str(job)]
            waiting = {} if candidate.spins else {'OMP_WAIT_POLICY': 'PASSIVE'}  # of PyTorch's threads
            processes[name] = TurnProcess(name, command, folder / f'errors_{number}', waiting)
            stack.callback(processes[name].end)
            engines[name] = processes[name].answer()['engine']
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(rounds):
            for name, process in processes.items():
                seconds[name] += process.turn()['seconds']
    return {name: {'engine': engines[name], **in_milliseconds(values)} for name, values in seconds.items()}


def in_milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 90th percentile [ms]."""
    found = summarise(seconds)
    assert found is not None
    return {'p50_ms': 1e3 * found.p50, 'p90_ms': 1e3 * found.p90}


def ratios_of(figures: Mapping[str, Mapping[str, Any]], bundle: str) -> list[dict[str, Any]]:
    """The ratios of ``limits`` between candidates that were measured."""
    return [
        {'slower': a, 'faster': b, 'ratio': figures[a]['p50_ms'] / figures[b]['p50_ms'], 'limit': least}
        for a, b, least in limits(bundle)
        if a in figures and b in figures
    ]


def main() -> int:
    """Measure, print, compare with the limits."""
    parser = argparse.ArgumentParser(description='Speed of networks, engines and precisions, as ratios in one run.')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads of every candidate (default: 2)')
    parser.add_argument('--rounds', type=int, default=5, help='turns of every candidate (default: 5)')
    parser.add_argument('--repeats', type=int, default=10, metavar='N', help='runs in a turn (default: 10)')
    parser.add_argument('--no-spinning', action='store_true', help='let idle threads sleep, as the node does')
    parser.add_argument('--bundle', default='demo', help='bundle folder or installed name (default: demo)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there')
    options = parser.parse_args()
    bundle = load_bundle(find_bundle(options.bundle))
    usual = {'threads': options.threads, 'spins': not options.no_spinning, 'repeats': options.repeats}
    record: dict[str, Any] = {'machine': machine.machine_record(), **usual, 'rounds': options.rounds}
    record['idle_threads_wait'] = WAITING[usual['spins']]
    with tempfile.TemporaryDirectory(prefix='kd6d_engines_') as folder:
        candidates = {**random_networks(Path(folder), usual), **bundle_candidates(bundle, usual)}
        figures = measure(candidates, options.rounds, Path(folder))
    ratios = ratios_of(figures, bundle.name)
    record.update(latency=figures, ratios=ratios)
    rows = [[name, f'{item["p50_ms"]:.2f}', f'{item["p90_ms"]:.2f}'] for name, item in figures.items()]
    print(f'{options.threads} threads; idle ones wait {record["idle_threads_wait"]}\n')
    print(format_table(['one crop', 'p50 ms', 'p90 ms'], rows))
    cells = [[f'{item["slower"]} / {item["faster"]}', f'{item["ratio"]:.2f}', item['limit']] for item in ratios]
    print('\n' + format_table(['ratio', 'times', 'at least'], cells))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    missed = [row[0] for row, item in zip(cells, ratios, strict=True) if item['ratio'] < (item['limit'] or 0)]
    if missed:
        print(f'below the limit: {"; ".join(missed)}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
