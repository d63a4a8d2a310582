"""What a teacher says about every window of a pool, asked once and kept beside the pool.

A file named after the pool, the teacher's weights and the rule that picks what is kept. What that is depends on the
kind of network: ``taught_corners``, ``taught_codes``.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device

from kd6d_ros.training.dataset import collate
from kd6d_ros.training.pool import PoolDataset

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from kd6d_ros.training.answers import TaughtPart
    from kd6d_ros.training.dataset import Batch
    from kd6d_ros.types import AnyArray

BATCH = 64


class Taught(Protocol):
    """The answers for a whole pool, its objects and positive cells in the pool's order."""

    def part(self, own: range, cells: slice) -> TaughtPart:
        """The answer for the window with these objects and these cells."""


class Question(Protocol):
    """What is asked about each window, and how it is kept."""

    @property
    def teacher(self) -> nn.Module:
        """In evaluation mode."""

    @property
    def rule(self) -> list[Any]:
        """All that decides the answers beside the teacher's weights."""

    def ask(self, batch: Batch) -> dict[str, Tensor]:
        """What is kept of a batch, rows in the order of its objects or of its positive cells."""

    def read(self, kept: dict[str, AnyArray]) -> Taught:
        """What was kept of all windows."""


def taught_by(pool: Path, question: Question, device: torch.device) -> Taught:
    """Ask about a pool, or read what was answered before."""
    path = pool / f'taught_{_fingerprint(question)}.npz'
    if not path.is_file():
        _write(path, _ask(pool, question, device))
    with np.load(path, allow_pickle=False) as stored:
        return question.read({key: stored[key] for key in stored.files})


def _fingerprint(question: Question) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(question.teacher.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().float().numpy().tobytes())
    digest.update(json.dumps(question.rule).encode())
    return digest.hexdigest()[:16]


def _ask(pool: Path, question: Question, device: torch.device) -> dict[str, AnyArray]:
    dataset = PoolDataset(pool)
    question.teacher.to(device)
    parts: list[dict[str, AnyArray]] = []
    for start in range(0, len(dataset), BATCH):
        batch = collate([dataset[i] for i in range(start, min(start + BATCH, len(dataset)))])
        batch = move_data_to_device(batch, device)
        with torch.no_grad():
            parts.append({name: _half(value) for name, value in question.ask(batch).items()})
        print(f'\rteacher: {start + len(batch.image)}/{len(dataset)} windows', end='', flush=True)
    print(flush=True)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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
