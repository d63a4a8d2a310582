"""Lens distortion of normalised coordinates and its inverse.

OpenCV's formulas, in NumPy: its undistortion is a fixed-point iteration that diverges for strong lenses and
whose interface differs between the OpenCV versions that robots carry. Here the radius is first solved
inside the model's monotonic range by bracketed Newton steps, then the tangential part by plain Newton.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Callable, Tuple

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray

    Curve = Callable[[FloatArray], Tuple[FloatArray, FloatArray]]

MAX_RADIUS = 100.0
"""Rays flatter than this x/z (89.4 degrees off the axis) are not solved for."""

_NEWTON_STEPS = 20
_BRACKET_STEPS = 60
_TOLERANCE = 1e-11


def distort(model: str, coefficients: FloatArray, normalised: FloatArray) -> FloatArray:
    """Distorted coordinates (N, 2) of x/z, y/z (N, 2); NaN beyond the model's monotonic range."""
    if model == 'none' or (not coefficients.any() and model != 'equidistant'):
        return normalised
    radius = np.linalg.norm(normalised, axis=1)
    limit = _limit(model, tuple(coefficients))
    inside = radius <= limit if model != 'equidistant' else np.arctan(radius) <= limit
    safe = np.where(inside[:, None], normalised, np.nan)
    if model == 'equidistant':
        return safe * _fisheye_gain(coefficients, radius)[:, None]
    return _polynomial(_padded(coefficients), safe)[0]


def undistort(model: str, coefficients: FloatArray, distorted: FloatArray) -> FloatArray:
    """The inverse of `distort` on (N, 2), to about 1e-11; NaN where there is none."""
    if model == 'none' or (not coefficients.any() and model != 'equidistant'):
        return distorted
    limit = _limit(model, tuple(coefficients))
    radius = np.linalg.norm(distorted, axis=1)
    if model == 'equidistant':
        theta = _solve_monotonic(lambda t: _theta_curve(coefficients, t), radius, limit)
        theta = np.where(theta < np.pi / 2, theta, np.nan)
        return distorted * _ratio(np.tan(theta), radius)[:, None]
    k = _padded(coefficients)
    start = _solve_monotonic(lambda r: _radial_curve(k, r), radius, limit)
    guess = distorted * _ratio(start, radius)[:, None]
    if k[2] == 0 and k[3] == 0:
        return guess
    return _newton(k, distorted, guess, limit)


def _padded(coefficients: FloatArray) -> FloatArray:
    """k1 k2 p1 p2 k3 k4 k5 k6, zeros where the model has fewer."""
    return np.concatenate([coefficients, np.zeros(8 - len(coefficients))])


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, 1.0)


def _fisheye_gain(coefficients: FloatArray, radius: FloatArray) -> FloatArray:
    return _ratio(_theta_curve(coefficients, np.arctan(radius))[0], radius)


def _theta_curve(coefficients: FloatArray, theta: FloatArray) -> Tuple[FloatArray, FloatArray]:
    """Distorted angle and its derivative."""
    s = theta**2
    k1, k2, k3, k4 = coefficients
    value = theta * (1 + s * (k1 + s * (k2 + s * (k3 + s * k4))))
    slope = 1 + s * (3 * k1 + s * (5 * k2 + s * (7 * k3 + s * 9 * k4)))
    return value, slope


def _radial_parts(k: FloatArray, s: FloatArray) -> Tuple[FloatArray, FloatArray]:
    """Gain p(s)/q(s) and its derivative by s = r^2."""
    p = 1 + s * (k[0] + s * (k[1] + s * k[4]))
    q = 1 + s * (k[5] + s * (k[6] + s * k[7]))
    dp = k[0] + s * (2 * k[1] + s * 3 * k[4])
    dq = k[5] + s * (2 * k[6] + s * 3 * k[7])
    with np.errstate(divide='ignore', invalid='ignore'):
        return p / q, (dp * q - p * dq) / q**2


def _radial_curve(k: FloatArray, radius: FloatArray) -> Tuple[FloatArray, FloatArray]:
    gain, slope = _radial_parts(k, radius**2)
    return radius * gain, gain + 2 * radius**2 * slope


def _polynomial(k: FloatArray, xy: FloatArray) -> Tuple[FloatArray, FloatArray]:
    """Distorted (N, 2) and Jacobian (N, 2, 2) of plumb_bob and rational_polynomial."""
    x, y = xy[:, 0], xy[:, 1]
    p1, p2 = k[2], k[3]
    r2 = x * x + y * y
    gain, slope = _radial_parts(k, r2)
    out = np.stack(
        [
            x * gain + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * gain + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=1,
    )
    cross = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
    jacobian = np.empty((len(xy), 2, 2))
    jacobian[:, 0, 0] = gain + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
    jacobian[:, 0, 1] = cross
    jacobian[:, 1, 0] = cross
    jacobian[:, 1, 1] = gain + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
    return out, jacobian


def _newton(k: FloatArray, target: FloatArray, guess: FloatArray, limit: float) -> FloatArray:
    """Newton on both coordinates from the radial solution; NaN where it leaves the range or stalls."""
    xy = guess
    residual = np.full(len(xy), np.inf)
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        for _ in range(_NEWTON_STEPS):
            value, jacobian = _polynomial(k, xy)
            error = value - target
            residual = np.abs(error).max(axis=1)
            if not (residual > _TOLERANCE).any():
                break
            a, b, d = jacobian[:, 0, 0], jacobian[:, 0, 1], jacobian[:, 1, 1]
            step = (
                np.stack([d * error[:, 0] - b * error[:, 1], a * error[:, 1] - b * error[:, 0]], axis=1)
                / (a * d - b * b)[:, None]
            )
            xy = xy - step
        good = (residual < 1e-8) & (np.linalg.norm(xy, axis=1) <= limit)
    return np.where(good[:, None], xy, np.nan)


def _solve_monotonic(curve: Curve, target: FloatArray, limit: float) -> FloatArray:
    """x in [0, limit] with curve(x) = target for a curve that grows there; NaN beyond its end.

    Newton steps kept inside a shrinking bracket, so a bad step costs one bisection.
    """
    top = curve(np.array([limit]))[0][0]
    low = np.zeros_like(target)
    high = np.full_like(target, limit)
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        x = np.minimum(target, 0.5 * limit)
        for _ in range(_BRACKET_STEPS):
            value, slope = curve(x)
            error = value - target
            low, high = np.where(error < 0, x, low), np.where(error < 0, high, x)
            proposal = x - error / slope
            outside = ~((proposal >= low) & (proposal <= high))
            moved = np.where(outside, 0.5 * (low + high), proposal)
            if not (np.abs(moved - x) > 1e-14 * (1 + x)).any():
                break
            x = moved
        return np.where(target <= top, x, np.nan)


@lru_cache(maxsize=64)
def _limit(model: str, coefficients: Tuple[float, ...]) -> float:
    """Largest radius (angle for equidistant) up to which the distorted radius keeps growing."""
    k = np.array(coefficients)
    if model == 'equidistant':
        slope = np.polynomial.Polynomial([1, 3 * k[0], 5 * k[1], 7 * k[2], 9 * k[3]])
        return min(float(np.sqrt(_smallest_positive_root(slope))), np.pi / 2)
    k = _padded(k)
    s = np.polynomial.Polynomial([0, 1])
    p = np.polynomial.Polynomial([1, k[0], k[1], k[4]])
    q = np.polynomial.Polynomial([1, k[5], k[6], k[7]])
    slope = (p + 2 * s * p.deriv()) * q - 2 * s * p * q.deriv()
    square = min(_smallest_positive_root(slope), _smallest_positive_root(q))
    # Just inside, so that the curve is finite and still grows at the limit itself.
    return min(float(np.sqrt(square)) * (1 - 1e-9), MAX_RADIUS)


def _smallest_positive_root(polynomial: np.polynomial.Polynomial) -> float:
    """Smallest real root > 0 of a polynomial with constant term 1; infinite when there is none.

    Solved for the reciprocal: its companion matrix holds the coefficients themselves, so a tiny leading one
    does no harm.
    """
    reciprocals = np.roots(polynomial.coef)
    real = np.abs(reciprocals.imag) < 1e-9 * np.abs(reciprocals)
    positive = reciprocals.real[real & (reciprocals.real > 1e-12)]
    return float(1.0 / positive.max()) if len(positive) else np.inf
