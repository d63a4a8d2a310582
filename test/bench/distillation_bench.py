"""What distillation costs in training: the transport against GeomLoss, and a whole step against a plain one.

    python test/bench/distillation_bench.py [--threads 1] [--repeats 30] [--json FILE]

Every round times each candidate once, in turn, so that a busy moment of the machine strikes all of them; medians and
90th percentiles over the rounds, and ratios of medians. Exit code 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import geomloss
import torch

from kd6d_ros.cli.output import format_table
from kd6d_ros.distillation.settings import AdlpSettings, DistillationSettings
from kd6d_ros.distillation.sinkhorn import SinkhornSettings, sinkhorn_divergence
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.checkpoint import Checkpoint
from kd6d_ros.training.dataset import Batch, Instances
from kd6d_ros.training.distillation import DistillationModule
from kd6d_ros.training.module import KeypointModule
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe
from kd6d_ros.training.targets import window_cells
from kd6d_ros.types import ObjectModel

IMAGES, CORNERS, CELLS = 16, 8, 10
LOOP_LIMIT, BATCHED_LIMIT, STEP_LIMIT = 5.0, 1.0, 0.15


def rounds(candidates: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, after two rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(repeats + 2):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def transport(repeats: int) -> dict[str, list[float]]:
    """Value and gradient of 16 images x 8 corners x (10 x 10) points: ours, and GeomLoss per image and in one call."""
    generator = torch.Generator().manual_seed(0)
    centre = 0.3 + 0.4 * torch.rand(IMAGES, CORNERS, 1, 2, generator=generator)
    points = [
        (centre + 0.02 * torch.randn(IMAGES, CORNERS, CELLS, 2, generator=generator)).requires_grad_() for _ in range(2)
    ]
    masses = [(0.1 + 0.9 * torch.rand(IMAGES, CELLS, generator=generator)).requires_grad_() for _ in range(2)]
    loss = geomloss.SamplesLoss('sinkhorn', p=2, blur=0.001, scaling=0.5, reach=0.5)
    leaves = [masses[0], points[0]]

    def ours() -> None:
        value = sinkhorn_divergence(masses[0], points[0], masses[1], points[1], SinkhornSettings())
        torch.autograd.grad(value.sum(), leaves)

    def loop() -> None:
        total = sum(
            loss(a.expand(CORNERS, -1).contiguous(), x, b.expand(CORNERS, -1).contiguous(), y).sum()
            for a, x, b, y in zip(masses[0], points[0], masses[1], points[1], strict=True)
        )
        torch.autograd.grad(total, leaves)

    def batched() -> None:
        flat = [m[:, None].expand(-1, CORNERS, -1).reshape(-1, CELLS) for m in masses]
        value = loss(flat[0], points[0].flatten(0, 1), flat[1], points[1].flatten(0, 1))
        torch.autograd.grad(value.sum(), leaves)

    return rounds({'this package': ours, 'GeomLoss, image by image': loop, 'GeomLoss, one call': batched}, repeats)


def some_batch(spec: NetworkSpec, size: int) -> Batch:
    """One object in the middle of each window, with 10 positive cells."""
    generator = torch.Generator().manual_seed(0)
    cells = window_cells(spec, size)
    near = torch.from_numpy(abs(cells.pixel - size / 2).max(1)).argsort()[:CELLS]
    count = IMAGES * CELLS
    image = torch.arange(IMAGES).repeat_interleave(CELLS)
    at_pixel = torch.arange(IMAGES, dtype=torch.int16)[:, None, None].expand(-1, size // 4, size // 4).contiguous()
    instances = Instances(
        torch.arange(IMAGES), torch.zeros(IMAGES, dtype=torch.long), torch.full((IMAGES,), 0.7 * size),
        torch.arange(count).reshape(IMAGES, CELLS), torch.full((IMAGES, 2), 1 / 500), at_pixel,
    )  # fmt: skip
    corners = size * torch.rand(count, CORNERS, 2, generator=generator)
    metric = torch.cat([torch.rand(count, CORNERS, 2, generator=generator), torch.ones(count, CORNERS, 1)], -1)
    return Batch(
        torch.randint(0, 256, (IMAGES, 3, size, size), dtype=torch.uint8, generator=generator),
        torch.zeros(IMAGES, len(cells.level), spec.classes, dtype=torch.int8),
        image, near.repeat(IMAGES), torch.zeros(count, dtype=torch.long), corners, metric, torch.full((count,), 0.2),
        torch.full((count,), 0.7 * size), torch.tensor([[300.0, 300, size / 2, size / 2]]).expand(count, 4),
        torch.zeros(IMAGES, 0, dtype=torch.int8), torch.zeros(IMAGES, 0, 3), instances,
    )  # fmt: skip


def training_step(repeats: int, size: int) -> dict[str, list[float]]:
    """Forward and backward of DarkNet-tiny-H alone, under DarkNet-tiny with ADLP, and the teacher's forward alone."""
    spec = NetworkSpec('darknet_tiny_h', (16, 32, 64), 128, 4)
    settings = DistillationSettings('teacher.pt', threshold=0.0, adlp=AdlpSettings(weight=1.0))
    recipe = Recipe(data=DataRecipe('none'), network=spec, input=InputRecipe(size), distillation=settings)
    teacher = KeypointNetwork(replace(spec, backbone='darknet_tiny', channels=256))
    model = ObjectModel('thing', 1, 0.2, torch.rand(8, 3).numpy())
    batch = some_batch(spec, size)
    plain = KeypointModule(replace(recipe, distillation=DistillationSettings()))
    distilled = DistillationModule(recipe, Checkpoint(teacher, recipe, (model,), {}))
    for module in (plain, distilled):
        module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]

    def step(module: KeypointModule) -> None:
        module.zero_grad()
        module.training_step(batch, 0).backward()

    return rounds(
        {'plain step': lambda: step(plain), 'distilled step': lambda: step(distilled),
         "teacher's forward pass": lambda: distilled.ask_teacher(batch)}, repeats,
    )  # fmt: skip


def row(name: str, seconds: list[float]) -> tuple[str, str, str]:
    late = statistics.quantiles(seconds, n=10)[-1]
    return name, f'{1e3 * statistics.median(seconds):.1f}', f'{1e3 * late:.1f}'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1, help='threads of PyTorch (default 1)')
    parser.add_argument('--repeats', type=int, default=30, help='rounds (default 30)')
    parser.add_argument('--size', type=int, default=128, help='window of the training step [px] (default 128)')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cloud, step = transport(options.repeats), training_step(options.repeats, options.size)
    median = {name: statistics.median(values) for name, values in {**cloud, **step}.items()}
    loop = median['GeomLoss, image by image'] / median['this package']
    batched = median['GeomLoss, one call'] / median['this package']
    extra = (median['distilled step'] - median["teacher's forward pass"]) / median['plain step'] - 1
    print(format_table(('what', 'p50 [ms]', 'p90 [ms]'), [row(n, s) for n, s in {**cloud, **step}.items()]))
    print(f'image by image takes {loop:.1f} times as long (limit: at least {LOOP_LIMIT:.0f})')
    print(f'one GeomLoss call takes {batched:.2f} times as long (limit: at least {BATCHED_LIMIT:.0f})')
    print(f'a distilled step takes {100 * extra:.1f} % longer, besides the teacher (limit: {100 * STEP_LIMIT:.0f} %)')
    if options.json:
        record = {'loop_ratio': loop, 'batched_ratio': batched, 'step_overhead': extra, 'median_s': median}
        options.json.write_text(json.dumps(record, indent=1), encoding='utf-8')
    return int(loop < LOOP_LIMIT or batched < BATCHED_LIMIT or extra > STEP_LIMIT)


if __name__ == '__main__':
    sys.exit(main())
