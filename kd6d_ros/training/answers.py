"""A teacher's answer for one window, as it is kept and handed on; joined for a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch

from kd6d_ros.distillation.clouds import Clouds
from kd6d_ros.distillation.code_maps import CodeMaps
from kd6d_ros.distillation.teacher import Answer

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray


class TaughtCorners(NamedTuple):
    """The answer for one window: mass (I, M), points (I, M, 8, 2), belief (P,), corners (P, 8, 2), float32."""

    mass: AnyArray
    points: AnyArray
    belief: AnyArray
    corners: AnyArray


class TaughtCodes(NamedTuple):
    """That of a dense network: mass (I, G) and code (I, G, 16), float32."""

    mass: AnyArray
    code: AnyArray


TaughtPart: TypeAlias = TaughtCorners | TaughtCodes
AnyAnswer: TypeAlias = Answer | CodeMaps


def join_answers(parts: list[TaughtPart]) -> AnyAnswer:
    """The answer for a batch of windows, all of one kind."""
    joined = [torch.from_numpy(np.concatenate(values)) for values in zip(*parts, strict=True)]
    if isinstance(parts[0], TaughtCodes):
        return CodeMaps(*joined)
    mass, points, belief, corners = joined
    return Answer(Clouds(mass, points), belief, corners)
