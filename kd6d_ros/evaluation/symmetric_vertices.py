"""MSSD and MSPD over many symmetries, without trying every vertex under every symmetry.

Some vertices that stick out bound every symmetry's error from below. The symmetries are tried by rising bound until no
bound is below the best error: the result is that of trying all, for a continuous axis some hundred times quicker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Sequence

import numpy as np

from kd6d_ros.geometry.cameras import project

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Camera, FloatArray, RigidTransform

    Bounds = Callable[[int, AnyArray], FloatArray]
    """(0 for coarse and 1 for fine, rows of the symmetries) -> squared bounds of their longest gaps."""

COARSE, FINE = 8, 48
"""The vertices farthest along so many directions bound all symmetries, and once more those that are then tried."""
BATCH = 16
"""So many symmetries get their second bound at once."""


class SymmetricVertices:
    """Vertices (V, 3) [m] of one object with its symmetries (with the identity)."""

    def __init__(self, vertices: AnyArray, symmetries: Sequence[RigidTransform]) -> None:
        self.vertices: FloatArray = np.asarray(vertices, dtype=np.float64)
        self.symmetries = tuple(symmetries)
        self._few = [self.vertices[_sticking_out(self.vertices, count)] for count in (COARSE, FINE)]
        self._turned = [np.stack([symmetry.apply(points) for symmetry in self.symmetries]) for points in self._few]

    def mssd(self, estimate: RigidTransform, truth: RigidTransform) -> float:
        """``pose_errors.mssd`` [m]."""
        change = truth.inverse() @ estimate
        moved = change.apply(self.vertices)
        few = [change.apply(points) for points in self._few]

        def bounds(level: int, rows: AnyArray) -> FloatArray:
            return _largest(few[level] - self._turned[level][rows])

        return self._least(bounds, lambda symmetry: moved - symmetry.apply(self.vertices))

    def mspd(self, estimate: RigidTransform, truth: RigidTransform, camera: Camera) -> float:
        """``pose_errors.mspd`` [px]."""
        pixels = project(camera, estimate.apply(self.vertices))
        if not np.isfinite(pixels).all():
            return float('inf')
        few = [project(camera, estimate.apply(points)) for points in self._few]

        def bounds(level: int, rows: AnyArray) -> FloatArray:
            turned = self._turned[level][rows]
            return _largest(
                few[level] - project(camera, truth.apply(turned.reshape(-1, 3))).reshape(*turned.shape[:2], 2)
            )

        return self._least(
            bounds, lambda symmetry: pixels - project(camera, truth.apply(symmetry.apply(self.vertices)))
        )

    def _least(self, bounds: Bounds, gaps: Callable[[RigidTransform], FloatArray]) -> float:
        """Least over symmetries of the longest gap; an infinite bound rules its symmetry out."""
        if len(self.symmetries) == 1:
            return float(np.sqrt(_largest(gaps(self.symmetries[0]))))
        best = np.inf
        coarse = bounds(0, np.arange(len(self.symmetries)))
        order = np.argsort(coarse, kind='stable')
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            if coarse[rows[0]] >= best:
                break
            fine = bounds(1, rows)
            for place in np.argsort(fine, kind='stable'):
                if fine[place] >= best:
                    break
                best = min(best, float(_largest(gaps(self.symmetries[rows[place]]))))
        return float(np.sqrt(best))


def _largest(gaps: FloatArray) -> FloatArray:
    """Squared length of the longest of gaps (..., N, D): (...,); infinite where one is not a number."""
    squared = np.einsum('...nd,...nd->...n', gaps, gaps).max(axis=-1)
    longest: FloatArray = np.where(np.isfinite(squared), squared, np.inf)
    return longest


def _sticking_out(vertices: FloatArray, count: int) -> AnyArray:
    """Indices of the vertices farthest along directions spread over the sphere (a Fibonacci lattice)."""
    steps = np.arange(count) + 0.5
    z = 1.0 - 2.0 * steps / count
    turn = np.pi * (1.0 + np.sqrt(5.0)) * steps
    around = np.sqrt(1.0 - z**2)
    directions = np.stack([around * np.cos(turn), around * np.sin(turn), z])
    return np.unique((vertices @ directions).argmax(axis=0))
