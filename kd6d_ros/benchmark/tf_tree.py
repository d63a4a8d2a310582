"""Transforms of a bag's TF, looked up at the stamp of an image without interpolation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional, Set, Tuple

import numpy as np

from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from typing import Sequence

DEEPEST = 64
"""Frames between a frame and the root; a longer way is a loop."""


class TfTree:
    """parent_from_child of every frame over time; a frame's last parent counts."""

    def __init__(self, tolerance_s: float) -> None:
        """`tolerance_s`: how far the stamp of a moving transform may be from the one asked for."""
        self._tolerance = tolerance_s * 1e9
        self._parent: Dict[str, str] = {}
        self._moving: Dict[str, Tuple[List[int], List[RigidTransform]]] = {}
        self._fixed: Dict[str, RigidTransform] = {}

    @property
    def frames(self) -> Set[str]:
        """Every frame that has a parent."""
        return set(self._parent)

    def add(self, parent: str, child: str, stamp_ns: int, pose: RigidTransform, fixed: bool) -> None:
        """One transform parent_from_child, of /tf_static when `fixed`."""
        self._parent[child] = parent
        if fixed:
            self._fixed[child] = pose
            return
        stamps, poses = self._moving.setdefault(child, ([], []))
        stamps.append(stamp_ns)
        poses.append(pose)

    def lookup(self, target: str, source: str, stamp_ns: int) -> Optional[RigidTransform]:
        """target_from_source at a time, None where the frames are not connected or a stamp is too far away."""
        from_target, from_source = self._to_root(target, stamp_ns), self._to_root(source, stamp_ns)
        for frame, ancestor_from_target in from_target.items():
            if frame in from_source:
                return ancestor_from_target.inverse() @ from_source[frame]
        return None

    def _to_root(self, frame: str, stamp_ns: int) -> Dict[str, RigidTransform]:
        """Ancestor -> ancestor_from_frame, nearest first, as far as the stamps allow."""
        out = {frame: RigidTransform.identity()}
        current = frame
        for _ in range(DEEPEST):
            step = self._step(current, stamp_ns)
            if step is None:
                break
            parent = self._parent[current]
            if parent in out:
                break
            out[parent] = step @ out[current]
            current = parent
        return out

    def _step(self, child: str, stamp_ns: int) -> Optional[RigidTransform]:
        if child in self._fixed:
            return self._fixed[child]
        if child not in self._moving:
            return None
        stamps, poses = self._moving[child]
        index = _nearest_index(stamps, stamp_ns)
        return poses[index] if abs(stamps[index] - stamp_ns) <= self._tolerance else None


def _nearest_index(stamps: Sequence[int], stamp: int) -> int:
    return int(np.argmin(np.abs(np.asarray(stamps, np.int64) - stamp)))
