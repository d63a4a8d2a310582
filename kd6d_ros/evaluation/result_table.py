"""Estimates in compact columns, found by target: a million of them take 150 MB."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Collection, Iterable, Iterator, List, Optional, Tuple

import numpy as np

from kd6d_ros.evaluation.records import Estimate
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray, IntArray

Key = Tuple[int, int, int]
"""Scene id, image id, object id."""


class ResultTable:
    """Estimates by (scene, image, object), best score first; equal scores keep their order."""

    def __init__(self, estimates: Iterable[Estimate]) -> None:
        ids, values = array('q'), array('d')
        for item in estimates:
            ids.extend((item.scene_id, item.image_id, item.obj_id))
            values.extend((item.score, item.seconds))
            values.extend(item.cam_from_obj.rotation.reshape(-1).tolist())
            values.extend(item.cam_from_obj.translation.tolist())
        keys = np.frombuffer(ids, np.int64).reshape(-1, 3) if len(ids) else np.empty((0, 3), np.int64)
        rows = np.frombuffer(values).reshape(-1, 14) if len(values) else np.empty((0, 14))
        order = np.lexsort((-rows[:, 0], keys[:, 2], keys[:, 1], keys[:, 0]))
        self._keys: IntArray = keys[order]
        self._rows: FloatArray = rows[order]

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, key: Key, most: Optional[int] = None) -> List[Estimate]:
        """The estimates of a target, at most the `most` best-scored."""
        start, stop = 0, len(self._keys)
        for column, value in enumerate(key):
            part = self._keys[start:stop, column]
            low, high = np.searchsorted(part, [value, value + 1])
            start, stop = start + int(low), start + int(high)
        if most is not None:
            stop = min(stop, start + most)
        return [self._estimate(key, self._rows[index]) for index in range(start, stop)]

    def _estimate(self, key: Key, row: FloatArray) -> Estimate:
        pose = RigidTransform(row[2:11].reshape(3, 3), row[11:])
        return Estimate(*key, float(row[0]), pose, float(row[1]))

    def beside(self, targets: Collection[Key]) -> int:
        """How many estimates are for none of `targets`."""
        return sum(count for key, count in self._groups() if key not in targets)

    def _groups(self) -> Iterator[Tuple[Key, int]]:
        if not len(self):
            return
        starts = np.flatnonzero(np.r_[True, (np.diff(self._keys, axis=0) != 0).any(axis=1)])
        counts = np.diff(np.r_[starts, len(self)])
        for start, count in zip(starts, counts, strict=True):
            scene, image, obj = (int(value) for value in self._keys[start])
            yield (scene, image, obj), int(count)

    def seconds_per_image(self) -> Optional[float]:
        """Mean over images of the time written for them; None when the file does not say."""
        if not len(self) or (self._rows[:, 1] < 0).any():
            return None
        first = np.flatnonzero(np.r_[True, (np.diff(self._keys[:, :2], axis=0) != 0).any(axis=1)])
        return float(self._rows[first, 1].mean())
