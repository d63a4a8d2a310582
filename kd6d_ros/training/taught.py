"""What a teacher says about every window of a pool, asked once and kept beside the pool.

A file of some megabytes, named after the pool, the teacher's weights and the rule that picks its cells. Corners are
kept in half precision relative to the middle of the window: within 0.03 pixels in a window of 128.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device

from kd6d_ros.distillation.teacher import answer_of
from kd6d_ros.training.answers import TaughtPart
from kd6d_ros.training.dataset import collate
from kd6d_ros.training.pool import PoolDataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.distillation.settings import DistillationSettings
    from kd6d_ros.networks.keypoint_network import KeypointNetwork
    from kd6d_ros.types import AnyArray

BATCH = 64


@dataclass(frozen=True, eq=False)
class Taught:
    """The answers for a whole pool, its objects and positive cells in the pool's order; `middle` [px] is what the
    corners are relative to."""

    mass: AnyArray
    points: AnyArray
    belief: AnyArray
    corners: AnyArray
    middle: float

    def part(self, own: range, cells: slice) -> TaughtPart:
        """The answer for the window with these objects and these cells."""
        rows = slice(own.start, own.stop)
        same_cells = len(self.belief) > 0
        return TaughtPart(
            self.mass[rows].astype(np.float32),
            self.points[rows].astype(np.float32) + self.middle,
            self.belief[cells].astype(np.float32) if same_cells else np.zeros(0, np.float32),
            self.corners[cells].astype(np.float32) + self.middle if same_cells else np.zeros((0, 8, 2), np.float32),
        )


def taught_by(
    pool: Path, teacher: KeypointNetwork, settings: DistillationSettings, strides: Sequence[int], device: torch.device
) -> Taught:
    """Ask `teacher` about the pool of a student with `strides`, or read what it said before."""
    path = pool / f'taught_{_fingerprint(teacher, settings, strides)}.npz'
    if not path.is_file():
        _write(path, _ask(pool, teacher, settings, strides, device))
    with np.load(path, allow_pickle=False) as stored:
        kept = {key: stored[key] for key in stored.files}
    return Taught(kept['mass'], kept['points'], kept['belief'], kept['corners'], float(kept['middle']))


def _fingerprint(teacher: KeypointNetwork, settings: DistillationSettings, strides: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(teacher.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().float().numpy().tobytes())
    rule = [settings.threshold, settings.cells, settings.sharpness, settings.within_mask, list(strides)]
    digest.update(json.dumps(rule).encode())
    return digest.hexdigest()[:16]


def _ask(
    pool: Path, teacher: KeypointNetwork, settings: DistillationSettings, strides: Sequence[int], device: torch.device
) -> dict[str, AnyArray]:
    dataset = PoolDataset(pool)
    middle = dataset.images.shape[1] / 2
    teacher = teacher.to(device).eval()
    parts: list[tuple[AnyArray, ...]] = []
    for start in range(0, len(dataset), BATCH):
        batch = collate([dataset[i] for i in range(start, min(start + BATCH, len(dataset)))])
        batch = move_data_to_device(batch, device)
        with torch.no_grad():
            output = teacher(batch.image)
        answer = answer_of(output, teacher.spec, batch, settings, strides)
        parts.append((
            *(_half(x) for x in (answer.clouds.mass, answer.clouds.points - middle, answer.belief,
                                 answer.corners - middle)),
        ))  # fmt: skip
        print(f'\rteacher: {start + len(batch.image)}/{len(dataset)} windows', end='', flush=True)
    print(flush=True)
    names = ('mass', 'points', 'belief', 'corners')
    joined = {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}
    return {**joined, 'middle': np.array(middle)}


def _half(x: torch.Tensor) -> AnyArray:
    """In half precision; what lies too far out for it stays as far out as it can say."""
    return x.cpu().clamp(-6e4, 6e4).half().numpy()


def _write(path: Path, content: dict[str, AnyArray]) -> None:
    """Aside, then renamed: several processes may ask at once."""
    aside = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        np.savez(aside, **content)  # type: ignore[arg-type]
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
