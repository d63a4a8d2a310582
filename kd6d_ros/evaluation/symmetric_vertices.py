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

    Gaps = Callable[[RigidTransform], FloatArray]
    """Symmetry -> gaps (N, D) between the estimate's vertices and those of the truth under it."""

COARSE, FINE = 8, 48
"""The vertices farthest along so many directions bound all symmetries, and once more each that is then tried."""


class SymmetricVertices:
    """Vertices (V, 3) [m] of one object with its symmetries (with the identity)."""

    def __init__(self, vertices: AnyArray, symmetries: Sequence[RigidTransform]) -> None:
        self.vertices: FloatArray = np.asarray(vertices, dtype=np.float64)
        self.symmetries = tuple(symmetries)
        self._coarse = self.vertices[_sticking_out(self.vertices, COARSE)]
        self._fine = self.vertices[_sticking_out(self.vertices, FINE)]
        self._turned = np.stack([symmetry.apply(self._coarse) for symmetry in self.symmetries])

    def mssd(self, estimate: RigidTransform, truth: RigidTransform) -> float:
        """``pose_errors.mssd`` [m]."""
        change = truth.inverse() @ estimate
        moved, fine = change.apply(self.vertices), change.apply(self._fine)
        return self._least(
            _largest(change.apply(self._coarse) - self._turned),
            lambda symmetry: fine - symmetry.apply(self._fine),
            lambda symmetry: moved - symmetry.apply(self.vertices),
        )

    def mspd(self, estimate: RigidTransform, truth: RigidTransform, camera: Camera) -> float:
        """``pose_errors.mspd`` [px]."""
        pixels = project(camera, estimate.apply(self.vertices))
        if not np.isfinite(pixels).all():
            return float('inf')
        coarse, fine = (project(camera, estimate.apply(points)) for points in (self._coarse, self._fine))
        turned = project(camera, truth.apply(self._turned.reshape(-1, 3))).reshape(len(self.symmetries), -1, 2)
        return self._least(
            _largest(coarse - turned),
            lambda symmetry: fine - project(camera, truth.apply(symmetry.apply(self._fine))),
            lambda symmetry: pixels - project(camera, truth.apply(symmetry.apply(self.vertices))),
        )

    def _least(self, bounds: FloatArray, fine: Gaps, exact: Gaps) -> float:
        """Least over symmetries of the longest gap; `bounds` are squared, an infinite one rules its symmetry out."""
        best = np.inf
        for index in np.argsort(bounds, kind='stable'):
            if bounds[index] >= best:
                break
            symmetry = self.symmetries[index]
            if len(self.symmetries) == 1 or _largest(fine(symmetry)) < best:
                best = min(best, float(_largest(exact(symmetry))))
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
