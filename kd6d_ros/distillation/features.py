"""Feature distillation: maps of the pyramid, where both networks look, and how places relate to each other.

Reference: Zhang & Ma, "Improve Object Detection with Feature-based Knowledge Distillation", ICLR 2021, eq. 1 to 8;
the non-local block is the dot-product form of Wang et al., "Non-local Neural Networks", CVPR 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kd6d_ros.distillation.terms import Term

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.distillation.settings import FeatureSettings

TINY = 1e-12


class Relation(nn.Module):
    """Non-local block: every place plus what it gathers from all places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        gathered = (value @ key.transpose(1, 2)) @ query / x[0, 0].numel()
        mixed: Tensor = x + self.out(gathered.unflatten(2, x.shape[2:]))
        return mixed


class LevelAdapter(nn.Module):
    """What one level of the pyramid needs to compare maps of two widths; used in training only."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(student, teacher, 1)
        self.channels = nn.Linear(student, teacher)
        self.places = nn.Conv2d(1, 1, 3, padding=1)
        self.relation_of_student = Relation(student)
        self.relation_of_teacher = Relation(teacher)
        self.relation = nn.Conv2d(student, teacher, 1)

    def forward(self, mine: Tensor, theirs: Tensor, settings: FeatureSettings) -> Tensor:
        """Weighted sum of the three parts for each image (N,)."""
        place, channel = self._attention(mine, theirs, settings.temperature)
        gap = (theirs - self.features(mine)).square() * place * channel
        attended = _root(gap)
        pooled = _root((self.channels(mine.abs().mean((2, 3))) - theirs.abs().mean((2, 3))).square())
        pooled = pooled + _root((self.places(_spread(mine)) - _spread(theirs)).square())
        related = self.relation(self.relation_of_student(mine)) - self.relation_of_teacher(theirs)
        return settings.attended * attended + settings.attention * pooled + settings.relation * _root(related.square())

    @staticmethod
    @torch.no_grad()
    def _attention(mine: Tensor, theirs: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Where (N, 1, H, W) and in which channels (N, C, 1, 1) the networks are active, mean 1 each; the channels are
        the teacher's where the widths differ."""
        place = _mean([_share(_spread(x), temperature) for x in (mine, theirs)])
        alike = [mine, theirs] if mine.shape == theirs.shape else [theirs]
        return place, _mean([_share(x.abs().mean((2, 3), keepdim=True), temperature) for x in alike])


class FeatureTerm(nn.Module):
    """Adapters for all levels and the sum of their terms."""

    def __init__(self, student: int, teacher: int, levels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(LevelAdapter(student, teacher) for _ in range(levels))

    def forward(self, mine: Sequence[Tensor], theirs: Sequence[Tensor], settings: FeatureSettings) -> Term:
        """Counts images. Computed in float32, also under autocast."""
        with torch.autocast(mine[0].device.type, enabled=False):
            parts = [
                adapter(a.float(), b.detach().float(), settings)
                for adapter, a, b in zip(self.levels, mine, theirs, strict=True)
            ]
        total = torch.stack(parts).sum()
        return Term(total, total.new_tensor(float(len(mine[0]))))


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean(0)


def _spread(x: Tensor) -> Tensor:
    """Mean over the channels of the absolute values (N, 1, H, W)."""
    return x.abs().mean(1, keepdim=True)


def _share(x: Tensor, temperature: float) -> Tensor:
    """Softmax over everything but the first dimension, times the number of entries."""
    flat = x.flatten(1)
    return (torch.softmax(flat / temperature, 1) * flat.shape[1]).reshape(x.shape)


def _root(square: Tensor) -> Tensor:
    """Root of each image's sum (N,)."""
    return (square.flatten(1).sum(1) + TINY).sqrt()
