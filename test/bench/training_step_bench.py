"""What a training step on a CPU costs, and what keeping freed memory and updating weights in one kernel save.

    python test/bench/training_step_bench.py [--rounds 3] [--steps 12] [--json FILE]

Each candidate runs in a process of its own, for memory that was kept once stays kept; all take turns in every round.
Medians over the rounds of the medians over the steps, and ratios in one run. Networks: EfficientNet-Lite0 with 64 and
with 256 channels, 16 windows of 96 pixels, bf16, one thread (those of config/study_cpu.yaml).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from distillation_bench import some_batch

from kd6d_ros.cli.output import format_table
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.heap import keep_freed_memory
from kd6d_ros.training.module import KeypointModule
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe, TrainRecipe

SIZE = 96
WIDTHS = {'student': 64, 'teacher': 256}
WAYS = {'as trained': '', 'memory given back': 'memory', 'weights one by one': 'weights', 'both': 'memory,weights'}


def median_step(width: int, without: str, steps: int) -> float:
    """Seconds of a whole step, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if 'memory' not in without:
        keep_freed_memory()
    spec = NetworkSpec('efficientnet_lite0', (16, 32), width, 2, classes=3)
    module = KeypointModule(Recipe(data=DataRecipe('none'), network=spec, input=InputRecipe(SIZE), train=TrainRecipe()))
    module = module.to(memory_format=torch.channels_last)
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    optimiser = module.configure_optimizers()['optimizer']
    if 'weights' in without:
        optimiser = torch.optim.AdamW(optimiser.param_groups, fused=False)
        for group in optimiser.param_groups:
            group['fused'] = False
    batch = some_batch(replace(spec, classes=3), SIZE)
    seconds = []
    for number in range(steps + 3):
        start = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast('cpu', torch.bfloat16):
            loss = module.training_step(batch, number)
        loss.backward()
        module.configure_gradient_clipping(optimiser, 10.0)
        optimiser.step()
        module.on_train_batch_end(None, batch, number)
        seconds += [time.perf_counter() - start] * (number >= 3)
    return statistics.median(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=3, help='rounds (default 3)')
    parser.add_argument('--steps', type=int, default=12, help='steps of each candidate in a round (default 12)')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--only', nargs=2, metavar=('WIDTH', 'WITHOUT'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(median_step(int(options.only[0]), options.only[1], options.steps))
        return 0
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for network, width in WIDTHS.items():
            for way, without in WAYS.items():
                command = [sys.executable, __file__, '--steps', str(options.steps), '--only', str(width), without]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds[network, way].append(float(done.stdout.split()[-1]))
    median = {key: statistics.median(values) for key, values in seconds.items()}
    rows = [
        (network, way, f'{1e3 * value:.0f}', f'{value / median[network, "as trained"]:.2f}')
        for (network, way), value in median.items()
    ]
    print(format_table(('network', 'step', 'p50 [ms]', 'ratio'), rows))
    if options.json:
        record = {f'{network}, {way}': value for (network, way), value in median.items()}
        options.json.write_text(json.dumps(record, indent=1), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
