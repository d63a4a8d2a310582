"""Which frames of a rendered set are kept from training: one rule for training, calibration and the accuracy report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.errors import DatasetError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray


def held_out(scene_of: AnyArray, fraction: float, where: str) -> tuple[AnyArray, AnyArray]:
    """Indices of training and of validation frames, given the scene of each frame (F,); whole scenes go to one side
    where there are several, the last ones are kept for validation.

    Raises:
        DatasetError: nothing would be left to train on; the message begins with `where`.
    """
    scenes = np.unique(scene_of)
    if len(scenes) > 1:
        kept = max(round(fraction * len(scenes)), 1)
        if kept >= len(scenes):
            raise DatasetError(
                f'{where}: validation_fraction {fraction:g} keeps all {len(scenes)} scenes, none to train on: '
                f'set at most {1 - 1 / len(scenes):.2g}'
            )
        last = np.isin(scene_of, scenes[-kept:])
        return np.flatnonzero(~last), np.flatnonzero(last)
    frames = np.arange(len(scene_of))
    kept = max(round(fraction * len(frames)), 1)
    if kept >= len(frames):
        raise DatasetError(f'{where}: {len(frames)} frame(s) are too few to train on')
    return frames[:-kept], frames[-kept:]
