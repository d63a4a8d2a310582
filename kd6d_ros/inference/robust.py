"""Levenberg-Marquardt on a robust reprojection cost: the last step of every pose.

Reference: Geman, McClure, "Statistical Methods for Tomographic Image Reconstruction", 1987 (the cost).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Protocol, Tuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray

MAX_STEPS = 15

Pose = Tuple['FloatArray', 'FloatArray']
"""Rotation (3, 3) and translation (3,)."""


class Reprojection(Protocol):
    """Correspondences in an array of any shape S, each with a weight (S)."""

    @property
    def weight(self) -> FloatArray: ...

    def residuals(self, pose: Pose) -> Optional[FloatArray]:
        """(S, 2) [px]; None for a pose that cannot be."""
        ...

    def normal_equations(self, pose: Pose, residual: FloatArray, weight: FloatArray) -> Tuple[FloatArray, FloatArray]:
        """Hessian (6, 6) and gradient (6,) by a left rotation vector and a translation."""
        ...


def geman_mcclure(residual: FloatArray, weight: FloatArray, scale: float) -> Tuple[FloatArray, float]:
    """Weights (S) of the next step and cost, for residuals (S, 2) [px] with prior weights (S)."""
    squared = np.einsum('...d,...d->...', residual, residual)
    share = weight / (1.0 + squared / scale**2)
    new: FloatArray = share / (1.0 + squared / scale**2)
    return new, float((share * squared).sum())


def minimise(problem: Reprojection, pose: Pose, scale: float, tolerance: float) -> Pose:
    """Minimise the Geman-McClure cost with the given scale [px], reweighted at every step, until a step gains
    less than `tolerance` of the cost."""
    residual = problem.residuals(pose)
    if residual is None:
        return pose
    damping = 1e-4
    weight, cost = geman_mcclure(residual, problem.weight, scale)
    for _ in range(MAX_STEPS):
        step = _step(*problem.normal_equations(pose, residual, weight), damping)
        if step is None:
            break
        turn: FloatArray = np.asarray(cv2.Rodrigues(step[:3])[0], np.float64)
        tried = (turn @ pose[0], pose[1] + step[3:])
        tried_residual = problem.residuals(tried)
        tried_weight, tried_cost = (
            (weight, np.inf) if tried_residual is None else geman_mcclure(tried_residual, problem.weight, scale)
        )
        if tried_residual is None or tried_cost > cost:
            damping *= 30.0
            if damping > 1e3:
                break
            continue
        done = cost - tried_cost < tolerance * cost
        pose, residual, weight, cost = tried, tried_residual, tried_weight, tried_cost
        damping *= 0.1
        if done:
            break
    return pose


def _step(hessian: FloatArray, gradient: FloatArray, damping: float) -> Optional[FloatArray]:
    """Damped step (6,) = rotation vector, translation; None where there is none."""
    hessian.flat[::7] *= 1.0 + damping
    try:
        out: FloatArray = np.asarray(np.linalg.solve(hessian, -gradient), np.float64)
    except np.linalg.LinAlgError:
        return None
    return out if np.isfinite(out).all() else None
