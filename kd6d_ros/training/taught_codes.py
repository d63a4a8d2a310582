"""What is kept of a dense teacher: its pooled maps of every instance, some 9 kB of each with 16x16 cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kd6d_ros.distillation.code_maps import pooled_maps
from kd6d_ros.training.answers import TaughtCodes

if TYPE_CHECKING:
    from torch import Tensor

    from kd6d_ros.networks.dense_network import DenseNetwork
    from kd6d_ros.training.dataset import Batch
    from kd6d_ros.types import AnyArray


@dataclass(frozen=True, eq=False)
class CodesOfPool:
    """``Taught``."""

    mass: AnyArray
    code: AnyArray

    def part(self, own: range, cells: slice) -> TaughtCodes:
        rows = slice(own.start, own.stop)
        return TaughtCodes(self.mass[rows].astype(np.float32), self.code[rows].astype(np.float32))


@dataclass(frozen=True, eq=False)
class CodeQuestion:
    """``Question`` about maps pooled to side x side cells."""

    teacher: DenseNetwork
    side: int

    @property
    def rule(self) -> list[Any]:
        return [self.side]

    def ask(self, batch: Batch) -> dict[str, Tensor]:
        maps = pooled_maps(self.teacher(batch.image), batch.instances, self.side)
        return {'mass': maps.mass, 'code': maps.code}

    def read(self, kept: dict[str, AnyArray]) -> CodesOfPool:
        return CodesOfPool(kept['mass'], kept['code'])
