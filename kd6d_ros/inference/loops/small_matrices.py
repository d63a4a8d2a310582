"""Rotations and equations of a few numbers: NumPy spends most of its time on calls at this size, and Numba's own linear
algebra needs SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.inference.loops.numba_loops import compiled

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray


@compiled('b1(f8[:,::1], f8[::1])')
def solve(matrix: FloatArray, vector: FloatArray) -> bool:
    """Solves the equations in place, the answer in `vector`; False where there is none. Gauss with pivots."""
    count = len(vector)
    for i in range(count):
        best = i
        for j in range(i + 1, count):
            if abs(matrix[j, i]) > abs(matrix[best, i]):
                best = j
        if matrix[best, i] == 0.0 or not np.isfinite(matrix[best, i]):
            return False
        if best != i:
            for k in range(count):
                matrix[i, k], matrix[best, k] = matrix[best, k], matrix[i, k]
            vector[i], vector[best] = vector[best], vector[i]
        for j in range(i + 1, count):
            factor = matrix[j, i] / matrix[i, i]
            for k in range(i, count):
                matrix[j, k] -= factor * matrix[i, k]
            vector[j] -= factor * vector[i]
    for i in range(count - 1, -1, -1):
        for k in range(i + 1, count):
            vector[i] -= matrix[i, k] * vector[k]
        vector[i] /= matrix[i, i]
    return bool(np.isfinite(vector).all())


@compiled('f8[:,::1](f8[:,::1], f8[:,::1])')
def product(first: FloatArray, second: FloatArray) -> FloatArray:
    """Of two matrices (3, 3); Numba's own needs SciPy."""
    out = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                out[i, j] += first[i, k] * second[k, j]
    return out


@compiled('f8[:,::1](f8[::1])')
def turn_by(vector: FloatArray) -> FloatArray:
    """Rotation (3, 3) of a rotation vector (3,) [rad]."""
    angle = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    out = np.eye(3)
    if angle < 1e-16:
        return out
    x, y, z = vector[0] / angle, vector[1] / angle, vector[2] / angle
    cosine, sine = np.cos(angle), np.sin(angle)
    rest = 1.0 - cosine
    out[0, 0], out[0, 1], out[0, 2] = cosine + x * x * rest, x * y * rest - z * sine, x * z * rest + y * sine
    out[1, 0], out[1, 1], out[1, 2] = x * y * rest + z * sine, cosine + y * y * rest, y * z * rest - x * sine
    out[2, 0], out[2, 1], out[2, 2] = x * z * rest - y * sine, y * z * rest + x * sine, cosine + z * z * rest
    return out


@compiled('f8[::1](f8[:,::1], f8[:,::1])')
def turn_between(rotation: FloatArray, start: FloatArray) -> FloatArray:
    """Rotation vector (3,) [rad] that turns `start` (3, 3) into `rotation`, by less than half a turn."""
    out = np.empty(3)
    trace = 0.0
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        out[i] = 0.0
        for d in range(3):
            out[i] += 0.5 * (rotation[k, d] * start[j, d] - rotation[j, d] * start[k, d])
            trace += rotation[i, d] * start[i, d]
    sine = np.sqrt(out[0] ** 2 + out[1] ** 2 + out[2] ** 2)
    if sine > 1e-12:
        out *= np.arctan2(sine, 0.5 * (trace - 1.0)) / sine
    return out
