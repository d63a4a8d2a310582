"""The measurements of ``outline_arrays`` line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np

from kd6d_ros.inference.loops.numba_loops import compiled
from kd6d_ros.inference.outline_arrays import (
    COLOUR_LIMIT,
    COLOUR_TRUST,
    DEPTH,
    LEAST_DEPTH_PX,
    MASK_LIMIT,
    MASK_SHIFT,
    MASK_TRUST,
)

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Float32Array, FloatArray


@compiled('UniTuple(i8, 2)(f8[:,::1], f8[:,::1], i8, f8, i8)')
def _along(pixels: FloatArray, normals: FloatArray, i: int, offset: float, side: int) -> Tuple[int, int]:
    """Column and row of the pixel that is `offset` [px] along a normal, or the nearest one of the picture."""
    column = min(max(np.rint(pixels[i, 0] + offset * normals[i, 0]), 0.0), side - 1.0)
    row = min(max(np.rint(pixels[i, 1] + offset * normals[i, 1]), 0.0), side - 1.0)
    return int(column), int(row)


@compiled('Tuple((f8[::1], f8[::1], f8[::1]))(f8[:,::1], f8[:,::1], i8[:,::1], f4[::1], f4[:,::1], b1, f8, i8)')
def measure(
    pixels: FloatArray,
    normals: FloatArray,
    colours: AnyArray,
    odds: Float32Array,
    mask: Float32Array,
    masked: bool,
    size: float,
    reach: int,
) -> Tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, variance and trust (N,) of where the outline crosses each line; see ``outline_arrays._measure``."""
    count, side = 2 * reach + 1, len(colours)
    mean, variance, trust = np.empty(len(pixels)), np.empty(len(pixels)), np.ones(len(pixels))
    inside, likely = np.empty(count), np.empty(count + 1)
    depth = max(LEAST_DEPTH_PX, DEPTH * size)
    for i in range(len(pixels)):
        total = 0.0
        for k in range(count):
            column, row = _along(pixels, normals, i, float(k - reach), side)
            value = min(max(float(odds[colours[row, column]]), -COLOUR_LIMIT), COLOUR_LIMIT) * COLOUR_TRUST
            if masked:
                value += min(max(float(mask[row, column]) + MASK_SHIFT, -MASK_LIMIT), MASK_LIMIT) * MASK_TRUST
            inside[k] = value
            total += value
        running, highest = -0.5 * total, -np.inf
        for k in range(count + 1):
            likely[k] = running
            highest = max(highest, running)
            if k < count:
                running += inside[k]
        norm = first = second = 0.0
        for k in range(count + 1):
            share = np.exp(likely[k] - highest)
            place = k - reach - 0.5
            norm += share
            first += share * place
            second += share * place * place
        mean[i] = first / norm
        variance[i] = max(second / norm - mean[i] * mean[i], 0.0)
        if masked:
            column, row = _along(pixels, normals, i, -depth, side)
            trust[i] = 1.0 / (1.0 + np.exp(-2.0 * (float(mask[row, column]) + 0.5)))
    return mean, variance, trust


@compiled('void(f8[:,::1], f8[:,::1], f8[:,::1], f8[::1], f8, f8, f8[::1], f8[::1], f8[:,::1], f8[::1])')
def normal_equations(
    points: FloatArray,
    normals: FloatArray,
    rotation: FloatArray,
    translation: FloatArray,
    focal_x: float,
    focal_y: float,
    weight: FloatArray,
    mean: FloatArray,
    hessian: FloatArray,
    gradient: FloatArray,
) -> None:
    """Adds to hessian (6, 6) and gradient (6,) what lines across the outline say; see ``outline_arrays._step``."""
    row = np.empty(6)
    for i in range(len(points)):
        a, b, c = points[i, 0], points[i, 1], points[i, 2]
        p = rotation[0, 0] * a + rotation[0, 1] * b + rotation[0, 2] * c
        q = rotation[1, 0] * a + rotation[1, 1] * b + rotation[1, 2] * c
        r = rotation[2, 0] * a + rotation[2, 1] * b + rotation[2, 2] * c
        z = r + translation[2]
        sx, sy = normals[i, 0] * focal_x / z, normals[i, 1] * focal_y / z
        sz = -(sx * (p + translation[0]) + sy * (q + translation[1])) / z
        row[0], row[1], row[2] = q * sz - r * sy, r * sx - p * sz, p * sy - q * sx
        row[3], row[4], row[5] = sx, sy, sz
        for j in range(6):
            pulled = weight[i] * row[j]
            gradient[j] += pulled * mean[i]
            for k in range(6):
                hessian[j, k] += pulled * row[k]
