"""Optimal transport between weighted point clouds: unbalanced, debiased, entropic, for many problems at once.

Per problem S = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + eps / 2 (m_a - m_b)^2 with the cost |x - y|^2 / 2 (power 2)
or |x - y| (power 1), the temperature eps = blur^power and marginals relaxed by rho KL, rho = reach^power. The
temperature falls from that power of the diameter of a problem's own points; every problem keeps its own schedule,
and those that are through wait for the others. All four potentials of all problems are one tensor, so a step is one
program, without a loop over images.

Gradients by the envelope theorem: the last step alone is differentiated.

References: Feydy, "Geometric data analysis, beyond convolutions", 2020, algorithm 3.5 (the loop; GeomLoss is its
code); Sejourne et al., "Sinkhorn Divergences for Unbalanced Optimal Transport", 2019, prop. 12 (values);
Sejourne et al., "Faster Unbalanced Optimal Transport: Translation invariant Sinkhorn", AISTATS 2022 (converged mode).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

LOG_OF_NOTHING = -1e5
"""Log-mass of a point without mass, finite as in GeomLoss: minus infinity would make NaN of an empty sum."""

LEAST_SQUARE = 1e-8
"""Of a distance before its root is taken, as in GeomLoss: at zero the root has no derivative."""

SWAP = (1, 0, 2, 3)
"""Potentials are stacked as f of a->b, g of a->b, f of a->a, g of b->b; each is updated from the one named here."""


@dataclass(frozen=True)
class SinkhornSettings:
    """blur and reach in the units of the points; scaling: ratio of two successive blurs of the schedule;
    diameter: where the schedules start, None for each problem's own; most_steps: bound of their length, which
    lets diameters up to blur / scaling^(most_steps - 2) be (larger ones start there);
    power: 2 for the cost |x - y|^2 / 2, 1 for |x - y|, with which a far point pulls no harder than a near one;
    converge: steps at the last temperature after the schedule, 0 for GeomLoss' early end. Early ending matters: with
    little blur the mass term is at half its value then.
    """

    blur: float = 0.001
    reach: float = 0.5
    scaling: float = 0.5
    diameter: float | None = None
    most_steps: int = 20
    converge: int = 0
    power: int = 2

    def __post_init__(self) -> None:
        if not (self.blur > 0 and self.reach > 0 and 0 < self.scaling < 1):
            raise ValueError('blur and reach must be positive, scaling between 0 and 1')
        if self.power not in (1, 2):
            raise ValueError('power must be 1 or 2')
        if self.most_steps < 2 or self.converge < 0 or (self.diameter is not None and self.diameter <= 0):
            raise ValueError('most_steps must be at least 2, converge at least 0, diameter positive')


class _Clouds(NamedTuple):
    """Points first and problems last: what a step adds and reduces is then contiguous over all problems.

    mass (P, 2, B, K) of both clouds, zero where there is no point; log_mass the same; cost (P, P, 4, B, K), the
    second index that of the updated potential's points, differentiable by these; points (D, P, 2, B, K)."""

    mass: Tensor
    log_mass: Tensor
    cost: Tensor
    points: Tensor


class _SquaredDistance(torch.autograd.Function):
    """|x - y|^2 of points (D, P, 4, B, K), differentiable by the first: (P, P, 4, B, K), the second index that of the
    first points.

    The difference of the points, not |x|^2 - 2 x y + |y|^2: in float32 that would be lost in blur^2. One coordinate
    after the other: codes have 16, and what autograd would keep of all at once is 16 times the cost.
    """

    @staticmethod
    def forward(ctx: Any, updated: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(updated, other)
        total = (updated[0] - other[0][:, None]).square_()
        for mine, theirs in zip(updated[1:], other[1:], strict=True):
            total += (mine - theirs[:, None]).square_()
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        updated, other = ctx.saved_tensors
        parts = [(mine - theirs[:, None]).mul_(gradient).sum(0) for mine, theirs in zip(updated, other, strict=True)]
        return 2 * torch.stack(parts), None


def sinkhorn_divergence(
    source_mass: Tensor, source: Tensor, target_mass: Tensor, target: Tensor, settings: SinkhornSettings
) -> Tensor:
    """Divergence (B, K) of K clusters of B problems, each between N source and M target points.

    Args:
        source_mass, target_mass: (B, N) and (B, M), not negative, shared by the clusters. Padding has mass zero
            and anything as coordinates, and counts for nothing.
        source, target: (B, K, N, D) and (B, K, M, D).
        settings: see ``SinkhornSettings``. The schedule of a problem starts at the diagonal of the box around
            all points with mass of its K clusters, source and target.

    A problem in which one side has no mass is zero with zero gradient. Float64 stays float64, everything else is
    computed in float32, also under autocast.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(source_mass, source, target_mass, target)
    dtype = torch.float64 if source.dtype == torch.float64 else torch.float32
    with torch.autocast(source.device.type, enabled=False):
        both = (source_mass.sum(1) > 0) & (target_mass.sum(1) > 0)
        masses = source_mass.to(dtype), target_mass.to(dtype)
        clouds = _stack(masses, (source.to(dtype), target.to(dtype)), both, settings.power)
        value = _divergence(clouds, settings)
        return torch.where(both[:, None], value, torch.zeros_like(value))


def _check(source_mass: Tensor, source: Tensor, target_mass: Tensor, target: Tensor) -> None:
    batch, clusters, _, size = source.shape
    fits = target.shape[:2] == (batch, clusters) and target.shape[3] == size
    fits = fits and source_mass.shape == (batch, source.shape[2]) and target_mass.shape == (batch, target.shape[2])
    if not fits:
        shapes = ', '.join(str(tuple(t.shape)) for t in (source_mass, source, target_mass, target))
        raise ValueError(f'expected (B, N), (B, K, N, D), (B, M), (B, K, M, D), got {shapes}')


def _stack(given: tuple[Tensor, Tensor], clouds: tuple[Tensor, Tensor], both: Tensor, power: int) -> _Clouds:
    """Both clouds padded to one length; a point of mass one stands in where a problem is void."""
    length = max(*(cloud.shape[2] for cloud in clouds), 1)
    masses, places = [], []
    for own_mass, own_points in zip(given, clouds, strict=True):
        missing = length - own_points.shape[2]
        padded = torch.nn.functional.pad(own_mass, (0, missing))
        used = ((padded > 0) & both[:, None])[:, None, :, None]
        spread = torch.nn.functional.pad(own_points, (0, 0, 0, missing))
        stand_in = torch.zeros_like(padded)
        stand_in[:, 0] = 1.0
        masses.append(torch.where(both[:, None], padded, stand_in).T[..., None].expand(-1, -1, spread.shape[1]))
        places.append(torch.where(used, spread, torch.zeros_like(spread)).permute(3, 2, 0, 1))
    mass, points = torch.stack(masses, 1), torch.stack(places, 2)
    safe = torch.where(mass > 0, mass, torch.ones_like(mass)).log()
    log_mass = torch.where(mass > 0, safe, torch.full_like(mass, LOG_OF_NOTHING)).detach()
    updated, other = points[:, :, [0, 1, 0, 1]], points.detach()[:, :, [1, 0, 0, 1]]
    squared: Tensor = _SquaredDistance.apply(updated, other)  # type: ignore[no-untyped-call]
    cost = 0.5 * squared if power == 2 else squared.clamp_min(LEAST_SQUARE).sqrt()
    return _Clouds(mass, log_mass, cost, points)


def _divergence(clouds: _Clouds, settings: SinkhornSettings) -> Tensor:
    rho, last = settings.reach**settings.power, settings.blur**settings.power
    weights = clouds.log_mass[:, [1, 0, 0, 1]]
    with torch.no_grad():
        potentials = _anneal(clouds, weights, rho, settings)
        for _ in range(settings.converge):
            averaged = 0.5 * (potentials + _update(clouds.cost, weights, potentials, last, rho))
            potentials = _recentred(averaged, clouds.log_mass, rho)
    potentials = _update(clouds.cost, weights, potentials, last, rho)
    present = (clouds.mass > 0)[:, [0, 1, 0, 1]]
    shrunk = (-torch.where(present, potentials, 0.0) / rho).exp()  # padding may lie anywhere: 0 times infinity
    value = (rho + last / 2) * (clouds.mass * (shrunk[:, 2:] - shrunk[:, :2])).sum((0, 1))
    if not settings.converge:
        return value  # with the gradient that autograd gives GeomLoss
    # At the optimum the gradient is that of this expression times (rho + eps) / (rho + eps / 2): prop. 12.
    surplus = (last / 2) / (rho + last / 2)
    return value + surplus * (value - value.detach())


def _anneal(clouds: _Clouds, weights: Tensor, rho: float, settings: SinkhornSettings) -> Tensor:
    """Potentials (P, 4, B, K) at the end of the schedules."""
    cost = clouds.cost.detach()
    schedule, lengths = _schedules(clouds, settings)
    potentials = _update(cost, weights, torch.zeros_like(weights), schedule[0], rho)
    # Without a wait for the device: on it, all steps that could be needed are done.
    steps = int(lengths.max()) if cost.device.type == 'cpu' else settings.most_steps
    for step in range(steps):
        averaged = 0.5 * (potentials + _update(cost, weights, potentials, schedule[step], rho))
        potentials = torch.where((step < lengths)[:, None], averaged, potentials)
    return potentials


def _update(cost: Tensor, weights: Tensor, potentials: Tensor, epsilon: Tensor | float, rho: float) -> Tensor:
    """Damped soft minimum of every potential against its partner; epsilon a number or (B, 1)."""
    damping = 1.0 / (1.0 + epsilon / rho)
    hidden = (weights + potentials[:, list(SWAP)] / epsilon).detach()
    result: Tensor = -damping * epsilon * torch.logsumexp(hidden[:, None] - cost / epsilon, 0)
    return result


def _recentred(potentials: Tensor, log_mass: Tensor, rho: float) -> Tensor:
    """Shift f up and g down by what is best for the dual: plain steps would need rho / eps of them for it."""
    total = torch.logsumexp(log_mass - potentials[:, :2] / rho, 0)
    shift = 0.5 * rho * (total[0] - total[1])
    return torch.cat([potentials[:, :2] + torch.stack([shift, -shift]), potentials[:, 2:]], 1)


def _schedules(clouds: _Clouds, settings: SinkhornSettings) -> tuple[Tensor, Tensor]:
    """Temperatures (T, B, 1) and how many of them (B,) each problem uses: diameter^power, then from there by
    scaling^power down to above blur^power, then blur^power."""
    dtype = clouds.points.dtype
    log_blur, log_scaling = math.log(settings.blur), math.log(settings.scaling)
    largest = log_blur - (settings.most_steps - 2) * log_scaling
    log_start = _diameters(clouds, settings).double().log().clamp(max=largest)
    between = torch.ceil((log_blur - log_start) / log_scaling).clamp_min(0)
    step = torch.arange(settings.most_steps, device=log_start.device, dtype=torch.float64)[:, None]
    logs = log_start + (step - 1).clamp_min(0) * log_scaling
    logs = torch.where(step >= between + 1, torch.full_like(logs, log_blur), logs)
    return (settings.power * logs).exp().to(dtype)[..., None], (between + 2).long()


def _diameters(clouds: _Clouds, settings: SinkhornSettings) -> Tensor:
    """(B,) diagonals of the boxes around the points with mass; where all are in one place, next to nothing."""
    if settings.diameter is not None:
        return torch.full_like(clouds.mass[0, 0, :, 0], settings.diameter)
    present = clouds.mass > 0
    points = clouds.points.detach()
    high = points.masked_fill(~present, -math.inf).amax((1, 2, 4))
    low = points.masked_fill(~present, math.inf).amin((1, 2, 4))
    extent: Tensor = (high - low).square().sum(0).sqrt()
    return extent.clamp_min(1e-6 * settings.blur)
