"""One candidate of engine_bench.py in a process of its own: it times itself whenever a line comes in.

python test/bench/engine_candidate.py JOB.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

WARM_UP = 3
IDLE_S, PATIENCE_S = 0.05, 5.0


@dataclass(frozen=True)
class Candidate:
    """bundle: folder. precision: of the file that ONNX Runtime runs, or 'torch': PyTorch runs a network like that of
    the bundle, with random weights and of the architecture `spec`. size: side of the square image [px]. spins: whether
    idle threads wait in a loop where the library does so by default. repeats: timed runs in a turn."""

    bundle: str
    precision: str
    size: int
    threads: int
    spins: bool
    repeats: int
    spec: dict[str, Any] | None = None


def prepared(job: Candidate) -> tuple[Any, int]:
    """The engine, and its number of objects."""
    from kd6d_ros.inference.bundle import load_bundle

    bundle = load_bundle(Path(job.bundle))
    if job.precision == 'torch':
        import torch

        from kd6d_ros.networks.keypoint_network import KeypointNetwork
        from kd6d_ros.networks.spec import NetworkSpec
        from kd6d_ros.training.validation import TorchEngine

        assert job.spec is not None
        torch.set_num_threads(job.threads)
        spec = NetworkSpec(**{**job.spec, 'strides': tuple(job.spec['strides'])})
        return TorchEngine(KeypointNetwork(spec).eval(), bundle.network.max_cells), len(bundle.objects)
    from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine

    sized = replace(bundle, network=replace(bundle.network, crop_size=job.size))
    path = bundle.engine_path(job.precision)
    return OnnxRuntimeEngine(sized, path, job.precision, job.threads, spins=job.spins), len(bundle.objects)


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one run."""
    start = perf_counter()
    run()
    return perf_counter() - start


def settle() -> None:
    """Return when the threads of this process have gone to sleep: those that wait in a loop do so for a while after
    their work (a second, seen with ONNX Runtime), which is the next one's turn."""
    end = perf_counter() + PATIENCE_S
    busy = True
    while busy and perf_counter() < end:
        worked = process_time()
        sleep(IDLE_S)
        busy = process_time() - worked > 0.1 * IDLE_S


def main() -> None:
    """Load, then a turn for every line of standard input; its first run, which wakes threads, does not count."""
    job = Candidate(**json.loads(Path(sys.argv[1]).read_text(encoding='utf-8')))
    engine, objects = prepared(job)
    image = np.random.default_rng(1).integers(0, 256, (1, job.size, job.size, 3), dtype=np.uint8)
    classes = np.ones((1, objects), dtype=bool)

    def run() -> Any:
        return engine.run(image, classes)

    for _ in range(WARM_UP):
        run()
    print(json.dumps({'engine': engine.description}), flush=True)
    for _ in sys.stdin:
        run()
        seconds = [timed(run) for _ in range(job.repeats)]
        settle()
        print(json.dumps({'seconds': seconds}), flush=True)


if __name__ == '__main__':
    main()
