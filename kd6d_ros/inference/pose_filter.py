"""Smooths the pose of one instance over time; optional, and off by default.

First-order low pass with the time constant `filter_time_s`, exact for uneven stamps: position in a straight line,
rotation along the shortest arc (so q and -q are the same), symmetric objects through the equivalent that is nearest.
A pose that jumps is refused and not replaced by a guess; several in a row that agree are a new place.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Optional

from kd6d_ros.geometry.symmetries import nearest_equivalent
from kd6d_ros.geometry.transforms import interpolate, transform_distance

if TYPE_CHECKING:
    from kd6d_ros.inference.settings import EstimatorSettings
    from kd6d_ros.types import ObjectModel, RigidTransform

LONGEST_GAP_S = 0.5
"""After a longer gap in the stamps [s] nothing is known about the motion, and the filter starts anew."""


class PoseFilter:
    """The filter of one instance; ``update`` once per measured pose."""

    def __init__(self, model: ObjectModel, settings: EstimatorSettings) -> None:
        self._model, self._settings = model, settings
        self._state: Optional[RigidTransform] = None
        self._stamp = 0.0
        self._suspect: Optional[RigidTransform] = None
        self._suspects = 0

    def update(self, measured: RigidTransform, expected: RigidTransform, stamp: float) -> Optional[RigidTransform]:
        """The smoothed pose at `stamp` [s], or None when `measured` is an outlier.

        Args:
            expected: where the instance should be at `stamp`, from the last poses that were no outliers.
        """
        gap = stamp - self._stamp
        if self._state is None or not 0 < gap <= LONGEST_GAP_S:
            return self._restart(measured, stamp)
        if not self._agree(measured, expected):
            known = self._suspect is not None and self._agree(measured, self._suspect)
            self._suspects = self._suspects + 1 if known else 1
            self._suspect = measured
            if self._suspects < self._settings.filter_reset_count:
                return None
            return self._restart(measured, stamp)
        near = nearest_equivalent(measured, self._state, self._model.symmetries)
        share = 1.0 - exp(-gap / self._settings.filter_time_s)
        self._state, self._stamp = interpolate(self._state, near, share), stamp
        self._suspect, self._suspects = None, 0
        return self._state

    def _restart(self, measured: RigidTransform, stamp: float) -> RigidTransform:
        self._state, self._stamp = measured, stamp
        self._suspect, self._suspects = None, 0
        return measured

    def _agree(self, pose: RigidTransform, other: RigidTransform) -> bool:
        """Whether two poses, up to symmetry, may be those of one instance a moment apart."""
        jump, turn = transform_distance(nearest_equivalent(pose, other, self._model.symmetries), other)
        return jump <= self._settings.filter_max_jump * self._model.diameter and turn <= self._settings.filter_max_turn
