"""What is kept of a keypoint teacher: the clouds of the instances, and its predictions in the student's positive cells.

Some megabytes. Corners are kept in half precision relative to the middle of the window: within 0.03 pixels in a window
of 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kd6d_ros.distillation.teacher import answer_of
from kd6d_ros.training.answers import TaughtCorners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kd6d_ros.distillation.settings import DistillationSettings
    from kd6d_ros.networks.keypoint_network import KeypointNetwork
    from kd6d_ros.training.dataset import Batch
    from kd6d_ros.types import AnyArray


@dataclass(frozen=True, eq=False)
class CornersOfPool:
    """``Taught``; `middle` [px] is what the corners are relative to."""

    mass: AnyArray
    points: AnyArray
    belief: AnyArray
    corners: AnyArray
    middle: float

    def part(self, own: range, cells: slice) -> TaughtCorners:
        rows = slice(own.start, own.stop)
        same_cells = len(self.belief) > 0
        return TaughtCorners(
            self.mass[rows].astype(np.float32),
            self.points[rows].astype(np.float32) + self.middle,
            self.belief[cells].astype(np.float32) if same_cells else np.zeros(0, np.float32),
            self.corners[cells].astype(np.float32) + self.middle if same_cells else np.zeros((0, 8, 2), np.float32),
        )


@dataclass(frozen=True, eq=False)
class CornerQuestion:
    """``Question`` about the pool of a student with `strides`; `middle` [px] of its windows."""

    teacher: KeypointNetwork
    settings: DistillationSettings
    strides: Sequence[int]
    middle: float

    @property
    def rule(self) -> list[Any]:
        how = self.settings
        return [how.threshold, how.cells, how.sharpness, how.within_mask, list(self.strides)]

    def ask(self, batch: Batch) -> dict[str, Tensor]:
        output = self.teacher(batch.image)
        answer = answer_of(output, self.teacher.spec, batch, self.settings, self.strides)
        clouds = answer.clouds
        return {
            'mass': clouds.mass, 'points': clouds.points - self.middle,
            'belief': answer.belief, 'corners': answer.corners - self.middle,
        }  # fmt: skip

    def read(self, kept: dict[str, AnyArray]) -> CornersOfPool:
        return CornersOfPool(kept['mass'], kept['points'], kept['belief'], kept['corners'], self.middle)
