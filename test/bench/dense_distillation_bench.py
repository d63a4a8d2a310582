"""What the transport between pooled code maps costs in training, by pooling, beside a plain step of a dense student.

    python test/bench/dense_distillation_bench.py [--threads 1] [--repeats 10] [--size 96] [--json FILE]

Windows are made up: two thirds of the instances fill 5 to 40 % of their window, as the crops of a study do, and the
others are slivers of neighbours. Rounds as in ``distillation_bench``. Exit code 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from distillation_bench import IMAGES, rounds, row
from torch import Tensor

from kd6d_ros.cli.output import format_table
from kd6d_ros.distillation.code_maps import cells_of, pooled_maps, taught_cells
from kd6d_ros.distillation.code_terms import code_adlp
from kd6d_ros.distillation.settings import AdlpSettings
from kd6d_ros.networks.dense_network import DenseNetwork, DenseOutput
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.dataset import Instances

STEP_LIMIT = 0.3
"""Of the transport at a pooling of 2, in plain steps."""
INSTANCES = 3 * IMAGES // 2
POOLINGS = (2, 4)
THRESHOLD = 0.1
HOW = AdlpSettings(power=1, blur=0.05)


class Windows(NamedTuple):
    """instances: one in each of I windows; teacher: mask (I, 1, h, w) and code (I, 1, 16, h, w)."""

    instances: Instances
    teacher: DenseOutput


def some_windows(size: int) -> Windows:
    """Discs of several sizes in the maps of windows of `size` px, with smooth codes."""
    generator = torch.Generator().manual_seed(0)
    side = size // 4
    share = torch.linspace(0.05, 0.4, INSTANCES)
    share[IMAGES:] = 0.02
    radius = (share / torch.pi).sqrt()[:, None, None]
    place = (torch.arange(side) + 0.5) / side - 0.5
    inside = (place[:, None] ** 2 + place**2).sqrt() < radius
    mask = torch.where(inside, 3.0, -4.0)[:, None]
    code = F.interpolate(3 * torch.randn(INSTANCES, 16, 4, 4, generator=generator), size=(side, side), mode='bilinear')
    index = torch.arange(INSTANCES)
    instances = Instances(
        index, torch.zeros_like(index), torch.full((INSTANCES,), 0.7 * size),
        torch.zeros(INSTANCES, 0, dtype=torch.long),
        torch.full((INSTANCES, 2), 1 / 500), torch.where(inside, index[:, None, None], -1).to(torch.int16),
    )  # fmt: skip
    return Windows(instances, DenseOutput(mask, code[:, None]))


def transport(windows: Windows, student: tuple[Tensor, Tensor], side: int) -> None:
    """Value and gradient of the term for a student that sees what the teacher sees, with other codes."""
    mine = pooled_maps(DenseOutput(*student), windows.instances, side)
    theirs = pooled_maps(windows.teacher, windows.instances, side)
    term = code_adlp(mine, theirs, cells_of(windows.instances, side), THRESHOLD, HOW)
    torch.autograd.grad(term.total, student)


def plain_step(network: DenseNetwork, image: Tensor) -> None:
    network.zero_grad()
    output = network(image)
    (output.mask.square().mean() + output.code.square().mean()).backward()


def measure(size: int, repeats: int) -> dict[str, list[float]]:
    """Seconds by candidate."""
    windows, generator = some_windows(size), torch.Generator().manual_seed(1)
    student = (
        (windows.teacher.mask + 0.5 * torch.randn(windows.teacher.mask.shape, generator=generator)).requires_grad_(),
        torch.randn(windows.teacher.code.shape, generator=generator).requires_grad_(),
    )
    network = DenseNetwork(NetworkSpec('efficientnet_lite0', channels=64, classes=3, kind='dense'))
    image = torch.randint(0, 256, (IMAGES, 3, size, size), dtype=torch.uint8, generator=generator)
    candidates = {f'plain step, {IMAGES} windows': partial(plain_step, network, image)}
    for pooling in POOLINGS:
        side = size // 4 // pooling
        maps = pooled_maps(windows.teacher, windows.instances, side)
        most = int(taught_cells(maps, cells_of(windows.instances, side), THRESHOLD).sum(1).max())
        name = f'transport, pooling {pooling}: {INSTANCES} instances, at most {most} points'
        candidates[name] = partial(transport, windows, student, side)
    return rounds(candidates, repeats)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1, help='threads of PyTorch (default 1)')
    parser.add_argument('--repeats', type=int, default=10, help='rounds (default 10)')
    parser.add_argument('--size', type=int, default=96, help='window [px], a multiple of 32 (default 96)')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = measure(options.size, options.repeats)
    step, *transports = [statistics.median(values) for values in seconds.values()]
    ratios = [value / step for value in transports]
    print(format_table(('what', 'p50 [ms]', 'p90 [ms]'), [row(n, s) for n, s in seconds.items()]))
    for pooling, ratio in zip(POOLINGS, ratios, strict=True):
        print(f'pooling {pooling}: {100 * ratio:.0f} % of a plain step')
    print(f'limit at pooling {POOLINGS[0]}: {100 * STEP_LIMIT:.0f} %')
    if options.json:
        record = {'size': options.size, 'ratios': dict(zip(POOLINGS, ratios, strict=True))}
        options.json.write_text(json.dumps(record, indent=1), encoding='utf-8')
    return int(ratios[0] > STEP_LIMIT)


if __name__ == '__main__':
    sys.exit(main())
