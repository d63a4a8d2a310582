"""Batched transport against GeomLoss, closed forms and finite differences."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from kd6d_ros.distillation.sinkhorn import SinkhornSettings, sinkhorn_divergence  # noqa: E402

RELEASED = SinkhornSettings()


def clouds(seed, batch=3, clusters=8, source=10, target=7, spread=0.02, dtype=torch.float64):
    """Keypoint clouds as they occur: clusters some tenths of the image apart, predictions some pixels."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    centre = 0.2 + 0.5 * rand(batch, clusters, 1, 2)
    points = [centre + spread * (rand(batch, clusters, n, 2) - 0.5) for n in (source, target)]
    masses = [0.001 + rand(batch, n) for n in (source, target)]
    return [t.to(dtype).requires_grad_() for t in (masses[0], points[0], masses[1], points[1])]


def gradients(value, inputs):
    return torch.autograd.grad(value.sum(), inputs)


def geomloss_per_image(inputs, how):
    """As in the released code: one call per image, a batch of clusters, masses repeated."""
    geomloss = pytest.importorskip('geomloss', reason='geomloss is not installed: pip install geomloss')
    loss = geomloss.SamplesLoss(
        'sinkhorn', p=how.power, blur=how.blur, reach=how.reach, scaling=how.scaling,
        diameter=how.diameter,
    )  # fmt: skip
    values = []
    for source_mass, source, target_mass, target in zip(*inputs, strict=True):
        count = len(source)
        masses = [m.expand(count, -1).contiguous() for m in (source_mass, target_mass)]
        values.append(loss(masses[0], source, masses[1], target))
    return torch.stack(values)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 12), st.integers(1, 12)),
    spread=st.sampled_from([0.001, 0.02, 0.5]),
    diameter=st.sampled_from([None, 0.3, 2.0]),
    scaling=st.sampled_from([0.5, 0.8]),
    power=st.sampled_from([1, 2]),
)
def test_values_and_gradients_are_those_of_geomloss(seed, sizes, spread, diameter, scaling, power):
    how = SinkhornSettings(diameter=diameter, scaling=scaling, most_steps=60, power=power)
    inputs = clouds(seed, *sizes, spread)
    value, wanted = sinkhorn_divergence(*inputs, how), geomloss_per_image(inputs, how)
    assert value.shape == (sizes[0], sizes[1])
    torch.testing.assert_close(value, wanted, rtol=0, atol=1e-8)
    for got, expected in zip(gradients(value, inputs), gradients(wanted, inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_problems_of_a_batch_do_not_see_each_other_nor_their_padding(seed):
    """Sizes and extents differ, so do the schedules; padding holds NaN."""
    parts = [clouds(seed, 1, 8, 3, 9, 0.5), clouds(seed + 1, 1, 8, 10, 2, 0.001)]
    alone = torch.cat([sinkhorn_divergence(*part, RELEASED) for part in parts])
    wanted = [gradients(value, part) for value, part in zip(alone, parts, strict=True)]

    def padded(index, length, value):
        pad = (0, length) if index % 2 == 0 else (0, 0, 0, length)
        rows = [
            torch.nn.functional.pad(part[index], (*pad[:-1], length - part[index].shape[1 + index % 2]), value=value)
            for part in parts
        ]
        return torch.cat(rows).detach().requires_grad_()

    together = [padded(0, 10, 0.0), padded(1, 10, math.nan), padded(2, 9, 0.0), padded(3, 9, math.nan)]
    value = sinkhorn_divergence(*together, RELEASED)
    torch.testing.assert_close(value, alone, rtol=1e-10, atol=1e-12)
    for index, gradient in enumerate(gradients(value, together)):
        for row, part in enumerate(parts):
            length = part[index].shape[1 + index % 2]
            own = gradient[row, :length] if index % 2 == 0 else gradient[row, :, :length]
            torch.testing.assert_close(own, wanted[row][index][0], rtol=1e-8, atol=1e-10)
    assert all(
        torch.isfinite(gradient).all() for gradient in gradients(sinkhorn_divergence(*together, RELEASED), together)
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.005, 0.02, 0.1]))
def test_float32_is_close_to_float64(seed, spread):
    exact = clouds(seed, 4, 8, 10, 10, spread)
    rough = [t.detach().float().requires_grad_() for t in exact]
    value, wanted = sinkhorn_divergence(*rough, RELEASED), sinkhorn_divergence(*exact, RELEASED)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), wanted, rtol=0, atol=1e-5)
    for index, (got, expected) in enumerate(zip(gradients(value, rough), gradients(wanted, exact), strict=True)):
        limit = 1e-5 if index % 2 == 0 else 1e-2 * float(expected.abs().max())
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=limit)


def test_autocast_changes_nothing():
    inputs = clouds(3, dtype=torch.float32)
    wanted = sinkhorn_divergence(*inputs, RELEASED)
    with torch.autocast('cpu', torch.bfloat16):
        value = sinkhorn_divergence(*inputs, RELEASED)
    torch.testing.assert_close(value, wanted, rtol=0, atol=0)
    halves = [t.detach().bfloat16() for t in inputs]
    assert sinkhorn_divergence(*halves, RELEASED).dtype == torch.float32


@pytest.mark.parametrize(('source', 'target'), [(0, 5), (5, 0), (0, 0)])
def test_an_empty_cloud_gives_zero_and_no_gradient(source, target):
    inputs = clouds(1, 2, 8, source, target)
    value = sinkhorn_divergence(*inputs, RELEASED)
    assert value.abs().sum() == 0
    assert all((gradient == 0).all() for gradient in gradients(value, inputs))


def test_a_problem_without_mass_is_void_and_leaves_the_others_alone():
    inputs = clouds(2, 2)
    wanted = sinkhorn_divergence(*inputs, RELEASED)[1]
    inputs[2].data[0] = 0.0
    inputs[1].data[0] = math.nan  # whatever stands there
    value = sinkhorn_divergence(*inputs, RELEASED)
    assert (value[0] == 0).all()
    torch.testing.assert_close(value[1], wanted)
    for gradient in gradients(value, inputs):
        assert (gradient[0] == 0).all()
        assert gradient[1].abs().sum() > 0


@pytest.mark.parametrize('masses', [(0.3, 0.9), (6.0, 9.0), (1.0, 1.0)])
def test_two_heaps_in_one_place_cost_their_difference_in_mass(masses):
    """Without a way to go, S = rho (sqrt(m_a) - sqrt(m_b))^2 when eps is small; one-point clouds, diameter zero."""
    place = torch.full((1, 1, 1, 2), 0.4, dtype=torch.float64)
    heaps = [torch.tensor([[mass]], dtype=torch.float64) for mass in masses]
    value = sinkhorn_divergence(heaps[0], place, heaps[1], place, SinkhornSettings(converge=200))
    wanted = 0.25 * (math.sqrt(masses[0]) - math.sqrt(masses[1])) ** 2
    assert float(value) == pytest.approx(wanted, abs=1e-5)
    early = sinkhorn_divergence(heaps[0], place, heaps[1], place, RELEASED)
    assert torch.isfinite(early).all()


def test_moving_a_cloud_costs_half_its_mass_times_the_squared_way():
    inputs = [t.detach() for t in clouds(4, 1, 1, 6, 6, 0.3)]
    inputs[2], inputs[3] = inputs[0], inputs[1] + 0.001
    value = sinkhorn_divergence(*inputs, SinkhornSettings(blur=1e-4, reach=5.0, converge=300))
    assert float(value) == pytest.approx(0.5 * float(inputs[0].sum()) * 2 * 0.001**2, rel=1e-3)


def test_the_same_cloud_is_at_distance_zero():
    mass, points, _, _ = clouds(5)
    value = sinkhorn_divergence(mass, points, mass.detach(), points.detach(), SinkhornSettings(blur=0.01, converge=100))
    assert float(value.detach().abs().max()) < 1e-9
    assert all(float(gradient.abs().max()) < 1e-6 for gradient in gradients(value, (mass, points)))


def test_gradients_of_the_converged_mode_are_those_of_its_value():
    inputs = clouds(6, 1, 2, 3, 4, 0.3)
    how = SinkhornSettings(blur=0.1, reach=0.4, converge=150)
    assert torch.autograd.gradcheck(lambda *t: sinkhorn_divergence(*t, how), inputs, eps=1e-6, atol=1e-7)


def test_the_converged_value_depends_on_the_start_no_more():
    inputs = clouds(7, 2, 2, 5, 6)
    values = [
        sinkhorn_divergence(*inputs, SinkhornSettings(blur=0.02, converge=200, diameter=diameter))
        for diameter in (0.1, 3.0)
    ]
    torch.testing.assert_close(values[0], values[1], rtol=1e-6, atol=1e-9)


def test_shapes_that_do_not_fit_are_refused():
    mass, points, other, target = clouds(8)
    for wrong in (
        (mass[:2], points, other, target),
        (mass, points, other, target[:, :4]),
        (other, points, mass, target),
    ):
        with pytest.raises(ValueError, match='expected'):
            sinkhorn_divergence(*wrong, RELEASED)


@pytest.mark.parametrize(
    'wrong', [{'blur': 0.0}, {'reach': -1.0}, {'scaling': 1.0}, {'most_steps': 1}, {'diameter': 0.0}]
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match='must be'):
        SinkhornSettings(**wrong)


def test_padding_far_from_the_points_costs_nothing():
    """Padding is moved to the origin; from there to points ten reaches away float32 overflows."""
    mass, points = (
        torch.full((1, 3), 0.01),
        0.1 * torch.rand(1, 8, 3, 2, generator=torch.Generator().manual_seed(0)),
    )
    target_mass = torch.tensor([[0.01, 0.0, 0.0, 0.0]])
    target = torch.full((1, 8, 4, 2), 8.0)
    how = SinkhornSettings(blur=0.05)
    inputs = [mass.requires_grad_(), points.requires_grad_(), target_mass, target]
    value = sinkhorn_divergence(*inputs, how)
    without = sinkhorn_divergence(mass, points, target_mass[:, :1], target[:, :, :1], how)
    exact = sinkhorn_divergence(*(t.double() for t in inputs), how)
    assert torch.allclose(value.double(), exact, rtol=1e-4)
    assert torch.allclose(value, without, rtol=1e-4)
    assert all(torch.isfinite(g).all() for g in gradients(value, inputs[:2]))
