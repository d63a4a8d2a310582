"""A teacher's answer for one window, as it is kept and handed on; joined for a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kd6d_ros.distillation.clouds import Clouds
from kd6d_ros.distillation.teacher import Answer

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray


class TaughtPart(NamedTuple):
    """The answer for one window: mass (I, M), points (I, M, 8, 2), belief (P,), corners (P, 8, 2), float32."""

    mass: AnyArray
    points: AnyArray
    belief: AnyArray
    corners: AnyArray


def join_answers(parts: list[TaughtPart]) -> Answer:
    """The answer for a batch of windows."""
    mass, points, belief, corners = (torch.from_numpy(np.concatenate(values)) for values in zip(*parts, strict=True))
    return Answer(Clouds(mass, points), belief, corners)
