"""``robust.minimise`` for the correspondences of ``pnp_surface``, point by point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np

from kd6d_ros.inference.loops.numba_loops import compiled
from kd6d_ros.inference.loops.small_matrices import product, solve, turn_by
from kd6d_ros.inference.pnp_surface import FAR
from kd6d_ros.inference.robust import MAX_STEPS

if TYPE_CHECKING:
    from kd6d_ros.inference.pnp_surface import Correspondences
    from kd6d_ros.inference.robust import Pose
    from kd6d_ros.types import FloatArray

_POINTS = 'f8[:,::1], i8, f8[:,::1], f8[::1], f8[::1]'
_POSE = 'f8[:,::1], f8[::1]'


@compiled(f'f8({_POINTS}, {_POSE}, f8, f8[:,::1], f8[::1])')
def _weigh(
    points: FloatArray,
    corners: int,
    rays: FloatArray,
    weight: FloatArray,
    focal: FloatArray,
    rotation: FloatArray,
    translation: FloatArray,
    scale: float,
    residual: FloatArray,
    weighted: FloatArray,
) -> float:
    """Fills residual (M, 2) [px] and the weights (M,) of the next step; the cost, or -1 where a corner is not in
    front of the camera."""
    cost = 0.0
    for i in range(len(points)):
        a, b, c = points[i, 0], points[i, 1], points[i, 2]
        z = rotation[2, 0] * a + rotation[2, 1] * b + rotation[2, 2] * c + translation[2]
        if z > 1e-6:
            x = rotation[0, 0] * a + rotation[0, 1] * b + rotation[0, 2] * c + translation[0]
            y = rotation[1, 0] * a + rotation[1, 1] * b + rotation[1, 2] * c + translation[1]
            residual[i, 0] = (x / z - rays[i, 0]) * focal[0]
            residual[i, 1] = (y / z - rays[i, 1]) * focal[1]
        elif i < corners:
            return -1.0
        else:
            residual[i, 0], residual[i, 1] = FAR, FAR
        squared = residual[i, 0] * residual[i, 0] + residual[i, 1] * residual[i, 1]
        softened = 1.0 + squared / (scale * scale)
        share = weight[i] / softened
        weighted[i] = share / softened
        cost += share * squared
    return cost


@compiled(f'void(f8[:,::1], f8[::1], {_POSE}, f8[:,::1], f8[::1], f8[:,::1], f8[::1])')
def _normal_equations(
    points: FloatArray,
    focal: FloatArray,
    rotation: FloatArray,
    translation: FloatArray,
    residual: FloatArray,
    weight: FloatArray,
    hessian: FloatArray,
    gradient: FloatArray,
) -> None:
    """Fills hessian (6, 6) and gradient (6,); the derivatives are those of ``pnp.corner_jacobian``."""
    row = np.empty((2, 6))
    hessian[:] = 0.0
    gradient[:] = 0.0
    for i in range(len(points)):
        if residual[i, 0] == FAR:
            continue
        a, b, c = points[i, 0], points[i, 1], points[i, 2]
        p = rotation[0, 0] * a + rotation[0, 1] * b + rotation[0, 2] * c
        q = rotation[1, 0] * a + rotation[1, 1] * b + rotation[1, 2] * c
        r = rotation[2, 0] * a + rotation[2, 1] * b + rotation[2, 2] * c
        inverse = 1.0 / (r + translation[2])
        x, y = (p + translation[0]) * inverse, (q + translation[1]) * inverse
        fx, fy = inverse * focal[0], inverse * focal[1]
        row[0, 0], row[0, 1], row[0, 2] = -q * x * fx, (r + p * x) * fx, -q * fx
        row[0, 3], row[0, 4], row[0, 5] = fx, 0.0, -x * fx
        row[1, 0], row[1, 1], row[1, 2] = (-r - q * y) * fy, p * y * fy, p * fy
        row[1, 3], row[1, 4], row[1, 5] = 0.0, fy, -y * fy
        for d in range(2):
            for j in range(6):
                pulled = weight[i] * row[d, j]
                gradient[j] += residual[i, d] * pulled
                for k in range(j + 1):
                    hessian[j, k] += pulled * row[d, k]
    for j in range(6):
        for k in range(j):
            hessian[k, j] = hessian[j, k]


@compiled(f'Tuple((f8[:,::1], f8[::1]))({_POINTS}, {_POSE}, f8, f8)')
def _minimise(
    points: FloatArray,
    corners: int,
    rays: FloatArray,
    weight: FloatArray,
    focal: FloatArray,
    rotation: FloatArray,
    translation: FloatArray,
    scale: float,
    tolerance: float,
) -> Tuple[FloatArray, FloatArray]:
    """See ``minimise``."""
    residual, tried_residual = np.empty((len(points), 2)), np.empty((len(points), 2))
    now, tried = np.empty(len(points)), np.empty(len(points))
    hessian, step = np.empty((6, 6)), np.empty(6)
    cost = _weigh(points, corners, rays, weight, focal, rotation, translation, scale, residual, now)
    damping = 1e-4
    for _ in range(MAX_STEPS if cost >= 0.0 else 0):
        _normal_equations(points, focal, rotation, translation, residual, now, hessian, step)
        for j in range(6):
            hessian[j, j] *= 1.0 + damping
            step[j] = -step[j]
        if not solve(hessian, step):
            break
        turned = product(turn_by(step[:3]), rotation)
        moved = translation + step[3:]
        new = _weigh(points, corners, rays, weight, focal, turned, moved, scale, tried_residual, tried)
        if new < 0.0 or new > cost:
            damping *= 30.0
            if damping > 1e3:
                break
            continue
        done = cost - new < tolerance * cost
        rotation, translation, cost = turned, moved, new
        residual, tried_residual = tried_residual, residual
        now, tried = tried, now
        damping *= 0.1
        if done:
            break
    return rotation, translation


def minimise(problem: Correspondences, pose: Pose, scale: float, tolerance: float) -> Pose:
    """See ``robust.minimise``."""
    arrays = (problem.points, problem.rays, problem.weight, problem.focal, *pose)
    points, rays, weight, focal, rotation, translation = (np.require(each, np.float64, ['C', 'W']) for each in arrays)
    found: Pose = _minimise(points, problem.corners, rays, weight, focal, rotation, translation, scale, tolerance)
    return found
