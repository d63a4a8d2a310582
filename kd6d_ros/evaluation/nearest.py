"""Exact nearest-vertex search on a robot, where SciPy is not a dependency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from kd6d_ros.errors import ShapeError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray

_SINGLE_KD_TREE = 4
"""FLANN's single k-d tree: exact, unlike its default forest of randomised trees."""


class NearestVertex:
    """Nearest of fixed vertices (V, 3) [m]; single precision, so distances are good to about 1e-7 of the size."""

    def __init__(self, vertices: AnyArray) -> None:
        self.vertices: FloatArray = np.asarray(vertices, dtype=np.float64)
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3 or len(self.vertices) == 0:
            raise ShapeError(f'vertices: expected shape (V, 3) with V > 0, got {self.vertices.shape}')
        self._centre = self.vertices.mean(axis=0)
        # FLANN keeps a pointer to this array: it must live as long as the index.
        self._points = np.ascontiguousarray(self.vertices - self._centre, dtype=np.float32)
        self._index = cv2.flann_Index(  # type: ignore[attr-defined]
            self._points, {'algorithm': _SINGLE_KD_TREE}
        )

    def distances(self, points: AnyArray) -> FloatArray:
        """Distance (N,) [m] of points (N, 3) to their nearest vertex."""
        queries = np.ascontiguousarray(np.asarray(points) - self._centre, dtype=np.float32)
        rows, _ = self._index.knnSearch(queries, 1, params={'checks': -1})
        found = self.vertices[np.asarray(rows)[:, 0]]
        distances: FloatArray = np.linalg.norm(found - np.asarray(points, dtype=np.float64), axis=1)
        return distances
