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

DIRECTIONS = 48
"""The vertices farthest along so many directions give the bounds."""


class SymmetricVertices:
    """Vertices (V, 3) [m] of one object with its symmetries (with the identity)."""

    def __init__(self, vertices: AnyArray, symmetries: Sequence[RigidTransform]) -> None:
        self.vertices: FloatArray = np.asarray(vertices, dtype=np.float64)
        self.symmetries = tuple(symmetries)
        self._few = self.vertices[_sticking_out(self.vertices)]
        self._turned = np.stack([symmetry.apply(self._few) for symmetry in self.symmetries])

    def mssd(self, estimate: RigidTransform, truth: RigidTransform) -> float:
        """``pose_errors.mssd`` [m]."""
        change = truth.inverse() @ estimate
        moved = change.apply(self.vertices)
        bounds = _largest(change.apply(self._few) - self._turned)
        return self._least(bounds, lambda symmetry: moved - symmetry.apply(self.vertices))

    def mspd(self, estimate: RigidTransform, truth: RigidTransform, camera: Camera) -> float:
        """``pose_errors.mspd`` [px]."""
        pixels = project(camera, estimate.apply(self.vertices))
        if not np.isfinite(pixels).all():
            return float('inf')
        few = project(camera, estimate.apply(self._few))
        turned = project(camera, truth.apply(self._turned.reshape(-1, 3))).reshape(len(self.symmetries), -1, 2)
        bounds = _largest(few - turned)
        return self._least(
            bounds, lambda symmetry: pixels - project(camera, truth.apply(symmetry.apply(self.vertices)))
        )

    def _least(self, bounds: FloatArray, gaps: Callable[[RigidTransform], FloatArray]) -> float:
        """Least over symmetries of the longest gap; `bounds` are squared, an infinite one rules its symmetry out."""
        best = np.inf
        for index in np.argsort(bounds, kind='stable'):
            if bounds[index] >= best:
                break
            best = min(best, float(_largest(gaps(self.symmetries[index]))))
        return float(np.sqrt(best))


def _largest(gaps: FloatArray) -> FloatArray:
    """Squared length of the longest of gaps (..., N, D): (...,); infinite where one is not a number."""
    squared = np.einsum('...nd,...nd->...n', gaps, gaps).max(axis=-1)
    longest: FloatArray = np.where(np.isfinite(squared), squared, np.inf)
    return longest


def _sticking_out(vertices: FloatArray) -> AnyArray:
    """Indices of the vertices farthest along directions spread over the sphere (a Fibonacci lattice)."""
    steps = np.arange(DIRECTIONS) + 0.5
    z = 1.0 - 2.0 * steps / DIRECTIONS
    turn = np.pi * (1.0 + np.sqrt(5.0)) * steps
    around = np.sqrt(1.0 - z**2)
    directions = np.stack([around * np.cos(turn), around * np.sin(turn), z])
    return np.unique((vertices @ directions).argmax(axis=0))
