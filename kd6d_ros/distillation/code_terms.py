"""The distillation terms of networks that say surface codes, as sums with counts like those of ``terms``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kd6d_ros.distillation.code_maps import CodeMaps, code_clouds, held_cells, taught_cells
from kd6d_ros.distillation.terms import Term, transport
from kd6d_ros.inference.surface_codes import BITS

if TYPE_CHECKING:
    from kd6d_ros.distillation.settings import AdlpSettings

GROUP = 8
"""Instances whose transport is computed together on a CPU."""
LEAST_PROBABILITY = 1e-6
"""Before a logarithm is taken."""


def code_adlp(mine: CodeMaps, theirs: CodeMaps, usable: Tensor, threshold: float, settings: AdlpSettings) -> Term:
    """Transport between the clouds of each instance, weighted by what the teacher sees of it; counts these weights:
    the sum of the teacher's masses. An instance that the teacher does not see adds nothing.

    The distance of two codes is the root mean square of the differences of their 16 probabilities: the longest is 1,
    and ``blur`` and ``reach`` are shares of that.
    """
    seen = taught_cells(theirs, usable, threshold)
    held = held_cells(mine, seen, usable, threshold)
    weight = torch.where(seen, theirs.mass, torch.zeros_like(theirs.mass)).sum(1)
    total = (mine.code.sum() + mine.mass.sum()) * 0.0  # part of the graph also where there is nothing to compare
    for rows in _by_size(held):
        student, teacher = code_clouds(mine.of(rows), theirs.of(rows), held[rows], seen[rows])
        if student.mass.numel():
            value = transport(student, teacher, 1 / math.sqrt(BITS), settings)[:, 0]
            total = total + (weight[rows] * value).sum()
    return Term(total, weight.sum())


def _by_size(held: Tensor) -> tuple[Tensor, ...]:
    """Rows of `held` (I, G) in groups of like numbers of cells: all clouds of one call are as large as its largest. A
    GPU does them at once sooner than one group after the other."""
    group = GROUP if held.device.type == 'cpu' else max(len(held), 1)
    rows = held.sum(1).argsort(stable=True)
    return tuple(rows[first : first + group] for first in range(0, len(rows), group))


def code_naive(mine: CodeMaps, theirs: CodeMaps, usable: Tensor, threshold: float, mass: float) -> Term:
    """Cell by cell: cross-entropy of the bits (mean over the 16) against the teacher's probabilities where it sees the
    object, weighted by its mask's; plus `mass` times that of the masks in all cells of the instances that it sees.
    Counts the sum of the weights."""
    seen = taught_cells(theirs, usable, threshold)
    weight = torch.where(seen, theirs.mass, torch.zeros_like(theirs.mass))
    codes = torch.where(seen[..., None], theirs.code, torch.zeros_like(theirs.code))
    compared = usable & torch.isfinite(theirs.mass) & seen.any(1, keepdim=True)
    masks = torch.where(compared, theirs.mass, torch.zeros_like(theirs.mass))
    bits = cross_entropy(mine.code, codes).mean(2)
    return Term((weight * bits).sum() + mass * (compared * cross_entropy(mine.mass, masks)).sum(), weight.sum())


def cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """Of probabilities, which pooled maps are, rather than logits."""
    p = probability.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return -(target * p.log() + (1 - target) * (1 - p).log())
