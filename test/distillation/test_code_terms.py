"""Pooled code maps and their terms against GeomLoss, plain loops and finite differences, and what bad input gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from distillation_scenes import make_instances  # noqa: E402

from kd6d_ros.distillation import code_terms  # noqa: E402
from kd6d_ros.distillation.code_maps import (  # noqa: E402
    CodeMaps,
    cells_of,
    code_clouds,
    held_cells,
    placed,
    pooled_maps,
    taught_cells,
    thinned_cells,
)
from kd6d_ros.distillation.code_terms import code_adlp, code_naive  # noqa: E402
from kd6d_ros.distillation.settings import AdlpSettings  # noqa: E402
from kd6d_ros.networks.dense_network import DenseOutput  # noqa: E402

HOW = AdlpSettings(weight=1.0, power=1, blur=0.05)
TWO_ALIKE = ((0, 0, (0, 0, 60, 127)), (0, 0, (64, 0, 127, 127)), (1, 1, (0, 0, 127, 127)))
"""Image, class and mask of three instances, two of one object side by side in one window."""


def random_maps(seed, instances=3, cells=16, dtype=torch.float64):
    """Differentiable leaves, masses on both sides of the threshold."""
    generator = torch.Generator().manual_seed(seed)
    mass = torch.rand(instances, cells, generator=generator, dtype=torch.float64)
    code = torch.rand(instances, cells, 16, generator=generator, dtype=torch.float64)
    return CodeMaps(mass.to(dtype).requires_grad_(), code.to(dtype).requires_grad_())


def random_output(seed, images=2, classes=2, side=32):
    generator = torch.Generator().manual_seed(seed)
    return DenseOutput(
        torch.randn(images, classes, side, side, generator=generator).requires_grad_(),
        torch.randn(images, classes, 16, side, side, generator=generator).requires_grad_(),
    )


def everywhere(maps):
    return torch.ones_like(maps.mass, dtype=torch.bool)


# --- maps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('side', 'own_side'), [(8, 32), (16, 32), (16, 64)])
def test_pooled_maps_are_means_over_squares_of_the_maps_of_each_instance(side, own_side):
    """Also from maps twice as fine, as the described teacher has them."""
    output, instances = random_output(0, side=own_side), make_instances()
    maps, square = pooled_maps(output, instances, side), own_side // side
    assert maps.mass.shape == (3, side * side)
    assert maps.code.shape == (3, side * side, 16)
    for row, (image, index) in enumerate(((0, 0), (0, 1), (1, 1))):
        for y, x in ((0, 0), (3, 5), (side - 1, 1)):
            part = slice(y * square, (y + 1) * square), slice(x * square, (x + 1) * square)
            mask, code = output.mask[image, index][part], output.code[image, index][:, part[0], part[1]]
            cell = y * side + x
            assert maps.mass[row, cell].item() == pytest.approx(torch.sigmoid(mask).mean().item(), rel=1e-5)
            torch.testing.assert_close(maps.code[row, cell], torch.sigmoid(code).mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('side', 'every'), [(12, 2), (7, 3), (4, 1)])
def test_thinned_cells_are_every_nth_and_all_of_them_in_turn(side, every):
    seen = [thinned_cells(side, every, step) for step in range(every**2)]
    assert sorted(torch.cat(seen).tolist()) == list(range(side * side))
    for cells in seen:
        rows, columns = cells.div(side, rounding_mode='floor'), cells % side
        assert set(rows.unique().diff().tolist()) <= {every}
        assert set(columns.unique().diff().tolist()) <= {every}
        assert len(cells) == len(rows.unique()) * len(columns.unique())
    torch.testing.assert_close(thinned_cells(side, every, every**2 + 1), thinned_cells(side, every, 1))


def test_cells_that_are_not_taken_learn_nothing():
    mine, theirs = random_maps(1), random_maps(2)
    cells = thinned_cells(4, 2, 3)
    term = code_adlp(mine.at(cells), theirs.at(cells), everywhere(mine)[:, cells], 0.1, HOW)
    term.total.backward()
    taken = torch.zeros(16, dtype=torch.bool)
    taken[cells] = True
    assert (mine.code.grad[:, taken].abs().sum((1, 2)) > 0).all()
    assert not mine.code.grad[:, ~taken].any()
    assert not mine.mass.grad[:, ~taken].any()


@pytest.mark.parametrize('side', [8, 16, 64])
def test_two_instances_of_one_object_share_a_map_but_not_its_cells(side):
    usable = cells_of(make_instances(TWO_ALIKE), side).reshape(3, side, side)
    assert usable[0, :, : side // 2 - 1].all()
    assert not usable[0, :, side // 2 + 1 :].any()
    assert usable[1, :, side // 2 + 1 :].all()
    assert not usable[1, :, : side // 2 - 1].any()
    assert usable[2].all()
    assert cells_of(make_instances(), side).all()  # other objects have maps of their own


# --- transport ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('power', 'blur', 'reach'), [(1, 0.05, 0.5), (2, 0.1, 1.0), (1, 0.2, 5.0)])
def test_adlp_is_geomloss_on_the_cells_that_either_sees(power, blur, reach):
    geomloss = pytest.importorskip('geomloss', reason='geomloss is not installed: pip install geomloss')
    loss = geomloss.SamplesLoss('sinkhorn', p=power, blur=blur, scaling=0.5, reach=reach)
    mine, theirs, threshold = random_maps(1), random_maps(2), 0.6
    usable = torch.rand(mine.mass.shape, generator=torch.Generator().manual_seed(5)) < 0.9
    expected = mine.mass.new_zeros(())
    for row in range(3):
        seen = usable[row] & (theirs.mass[row] > threshold)
        held = seen | (usable[row] & (mine.mass[row] > threshold))
        total = theirs.mass[row][seen].sum().detach()
        own_mass = mine.mass[row][held].clamp(1e-3, 1 - 1e-3) / total
        value = loss(own_mass, mine.code[row][held] / 4, theirs.mass[row][seen].detach() / total,
                     theirs.code[row][seen].detach() / 4)  # fmt: skip
        expected = expected + total * value
    taught = CodeMaps(*(x.detach() for x in theirs))
    term = code_adlp(mine, taught, usable, threshold, replace(HOW, power=power, blur=blur, reach=reach))
    seen = usable & (theirs.mass > threshold)
    assert term.amount.item() == pytest.approx(theirs.mass[seen].sum().item())
    assert term.total.item() == pytest.approx(expected.item(), rel=1e-8)
    for got, wanted in zip(torch.autograd.grad(term.total, mine), torch.autograd.grad(expected, mine), strict=True):
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-9)


def test_cells_with_places_that_count_are_compared_one_by_one():
    """Far apart for the transport, every cell goes to the one in its own place."""
    mine, theirs = random_maps(40), random_maps(41)
    theirs = CodeMaps(mine.mass.detach(), theirs.code.detach())
    how, cells = replace(HOW, blur=1e-3, reach=1e3), torch.arange(16)
    term = code_adlp(placed(mine, cells, 4, 50.0), placed(theirs, cells, 4, 50.0), everywhere(mine), 0.0, how)
    gap = (mine.code - theirs.code).square().mean(2).sqrt()
    assert term.total.item() == pytest.approx((theirs.mass * gap).sum().item(), rel=1e-3)
    without = code_adlp(mine, theirs, everywhere(mine), 0.0, how)
    assert without.total.item() < 0.95 * term.total.item()
    few = torch.tensor([3, 12, 0])
    there = placed(mine.at(few), few, 4, 0.5)
    torch.testing.assert_close(there.code[..., :16], mine.code[:, few])
    # In lengths of the longest distance of codes, 4: row and column of the cells' middles.
    assert (there.code[0, :, 16:] / 4).tolist() == [[1 / 16, 7 / 16], [7 / 16, 1 / 16], [1 / 16, 1 / 16]]


def test_the_gradient_is_that_of_finite_differences_once_the_transport_has_converged():
    mine, theirs = random_maps(3, 1, 4), random_maps(4, 1, 4)
    taught, how = CodeMaps(*(x.detach() for x in theirs)), replace(HOW, power=2, blur=0.2, converge=100)
    assert torch.autograd.gradcheck(
        lambda mass, code: code_adlp(CodeMaps(mass, code), taught, everywhere(taught), 0.1, how).total,
        tuple(mine),
        atol=1e-6,
    )


def test_the_value_knows_neither_the_order_nor_the_number_of_cells():
    """The same cloud twice over: what is compared is distributions, not cells."""
    mine, theirs = random_maps(5), random_maps(6)
    usable, order = everywhere(mine), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    once = code_adlp(mine, theirs, usable, 0.0, HOW)
    shuffled = code_adlp(CodeMaps(mine.mass[:, order], mine.code[:, order]), theirs, usable, 0.0, HOW)
    assert shuffled.total.item() == pytest.approx(once.total.item(), rel=1e-9)
    twice = [CodeMaps(torch.cat([m.mass] * 2, 1), torch.cat([m.code] * 2, 1)) for m in (mine, theirs)]
    doubled = code_adlp(twice[0], twice[1], torch.cat([usable] * 2, 1), 0.0, HOW)
    assert (doubled.total / doubled.amount).item() == pytest.approx((once.total / once.amount).item(), rel=1e-9)


@pytest.mark.parametrize('group', [1, 2, 100])
def test_instances_are_grouped_by_size_for_the_time_alone(group, monkeypatch):
    mine, theirs = random_maps(30, 5), random_maps(31, 5)
    sizes = torch.tensor([3, 16, 1, 0, 9])
    usable = torch.arange(16) < sizes[:, None]
    expected = code_adlp(mine, theirs, usable, 0.1, HOW)
    gradients = torch.autograd.grad(expected.total, mine)
    monkeypatch.setattr(code_terms, 'GROUP', group)
    term = code_adlp(mine, theirs, usable, 0.1, HOW)
    assert term.total.item() == pytest.approx(expected.total.item(), rel=1e-12)
    for got, wanted in zip(torch.autograd.grad(term.total, mine), gradients, strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_student_that_has_the_teachers_cloud_learns_nothing():
    mine = random_maps(7)
    same = CodeMaps(*(x.detach().clone() for x in mine))
    term = code_adlp(mine, same, everywhere(mine), 0.1, replace(HOW, power=2))
    assert term.total.item() == pytest.approx(0, abs=1e-9)
    for gradient in torch.autograd.grad(term.total, mine):
        assert gradient[mine.mass > 0.1].abs().max() < 1e-6


def test_following_the_gradient_brings_the_codes_together():
    mine, theirs = random_maps(8), random_maps(9)
    taught, usable = CodeMaps(*(x.detach() for x in theirs)), everywhere(mine)
    values = []
    optimiser = torch.optim.Adam(list(mine), lr=0.02)
    for _ in range(120):
        optimiser.zero_grad()
        term = code_adlp(mine, taught, usable, 0.1, HOW)
        (term.total / term.amount).backward()
        optimiser.step()
        values.append(term.total.item())
    assert values[-1] < 0.1 * values[0]


def test_geometry_and_mass_weigh_the_gradients_and_leave_the_value():
    mine, theirs = random_maps(10), random_maps(11)
    term = code_adlp(mine, theirs, everywhere(mine), 0.1, HOW)
    of_mass, of_code = torch.autograd.grad(term.total, mine)
    for settings, factors in ((replace(HOW, mass=0.0), (0, 1)), (replace(HOW, geometry=2.0, mass=0.25), (0.25, 2))):
        other = code_adlp(mine, theirs, everywhere(mine), 0.1, settings)
        parts = torch.autograd.grad(other.total, mine)
        assert other.total.item() == pytest.approx(term.total.item(), rel=1e-12)
        torch.testing.assert_close(parts[0], factors[0] * of_mass)
        torch.testing.assert_close(parts[1], factors[1] * of_code)


def test_cells_that_both_think_empty_are_left_out():
    mine, theirs = random_maps(12), random_maps(13)
    with torch.no_grad():
        mine.mass[:, 5:], theirs.mass[:, 4:] = 0.01, 0.02
        mine.mass[:, :5], theirs.mass[:, :4] = 0.5, 0.8
    seen = taught_cells(theirs, everywhere(mine), 0.1)
    student, teacher = code_clouds(mine, theirs, held_cells(mine, seen, everywhere(mine), 0.1), seen)
    assert student.points.shape == teacher.points.shape == (3, 5, 1, 16)
    assert (student.mass > 0).all()
    assert ((teacher.mass > 0).sum(1) == 4).all()
    torch.testing.assert_close(teacher.mass.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(student.mass, torch.full((3, 5), 0.5 / 3.2, dtype=torch.float64))


# --- cell by cell -------------------------------------------------------------------------------------------------


def test_naive_is_the_sum_over_cells_that_the_teacher_sees():
    mine, theirs, usable = random_maps(14), random_maps(15), everywhere(random_maps(14))
    usable[1, :3] = False
    with torch.no_grad():
        theirs.mass[2] = 0.05  # an instance that the teacher does not see

    def entropy(p, t):
        return -(t * math.log(p) + (1 - t) * math.log(1 - p))

    total = amount = 0.0
    for row, cell in ((r, c) for r in range(2) for c in range(16) if usable[r, c]):
        mass = theirs.mass[row, cell].item()
        total += 0.5 * entropy(mine.mass[row, cell].item(), mass)
        if mass > 0.3:
            bits = zip(mine.code[row, cell].tolist(), theirs.code[row, cell].tolist(), strict=True)
            total, amount = total + mass * sum(entropy(p, t) for p, t in bits) / 16, amount + mass
    term = code_naive(mine, theirs, usable, 0.3, 0.5)
    assert term.total.item() == pytest.approx(total, rel=1e-6)
    assert term.amount.item() == pytest.approx(amount, rel=1e-6)
    of_mass, of_code = torch.autograd.grad(term.total, mine)
    assert (of_mass[2] == 0).all()
    assert (of_code[2] == 0).all()
    assert (of_code[1, :3] == 0).all()


# --- nothing to learn from ----------------------------------------------------------------------------------------


def both_terms(mine, theirs, usable=None):
    usable = everywhere(mine) if usable is None else usable
    return code_adlp(mine, theirs, usable, 0.1, HOW), code_naive(mine, theirs, usable, 0.1, 1.0)


@pytest.mark.parametrize('what', ['sees nothing', 'has no masses', 'says no numbers', 'has nothing of its own'])
def test_a_teacher_that_has_nothing_to_say_teaches_nothing(what):
    mine, theirs = random_maps(16), CodeMaps(*(x.detach() for x in random_maps(17)))
    usable = everywhere(mine)
    if what == 'sees nothing':
        theirs.mass.fill_(0.09)
    elif what == 'has no masses':
        theirs.mass.zero_()
    elif what == 'says no numbers':
        theirs.code.fill_(math.nan)
        theirs.mass.fill_(math.nan)
    else:
        usable.fill_(False)
    for term in both_terms(mine, theirs, usable):
        assert (term.total.item(), term.amount.item()) == (0, 0)
        for gradient in torch.autograd.grad(term.total, mine, retain_graph=True, allow_unused=True):
            assert gradient is None or (gradient == 0).all()
        assert term.total.requires_grad  # part of the graph, as distributed training asks for


def test_a_cell_without_numbers_teaches_nothing_and_spoils_nothing():
    mine, theirs = random_maps(18), CodeMaps(*(x.detach() for x in random_maps(19)))
    theirs.mass.fill_(0.7)
    theirs.code[0, 3, 5] = math.nan
    theirs.mass[1, 2] = math.nan
    for term in both_terms(mine, theirs):
        assert term.amount.item() == pytest.approx(0.7 * 46)
        gradients = torch.autograd.grad(term.total, mine)
        assert all(torch.isfinite(g).all() for g in (term.total, *gradients))
    assert (gradients[1][0, 3] == 0).all()  # naive: nothing to compare with
    assert (gradients[1][1, 2] == 0).all()


def test_windows_without_objects_and_a_student_that_sees_nothing_are_no_errors():
    nothing = CodeMaps(torch.zeros(0, 16, requires_grad=True), torch.zeros(0, 16, 16, requires_grad=True))
    for term in both_terms(nothing, CodeMaps(torch.zeros(0, 16), torch.zeros(0, 16, 16))):
        assert (term.total.item(), term.amount.item()) == (0, 0)
        term.total.backward()
    output = random_output(0)
    assert pooled_maps(output, make_instances(()), 8).code.shape == (0, 64, 16)
    mine, theirs = random_maps(20), CodeMaps(*(x.detach() for x in random_maps(21)))
    with torch.no_grad():
        mine.mass.zero_()
    term = code_adlp(mine, theirs, everywhere(mine), 0.1, HOW)
    assert math.isfinite(term.total.item())
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(term.total, mine))


def test_a_student_without_numbers_shows_in_the_total():
    mine, theirs = random_maps(22), random_maps(23)
    with torch.no_grad():
        mine.code[0, 1, 2] = math.nan
    assert all(math.isnan(term.total.item()) for term in both_terms(mine, theirs))


def test_bfloat16_outputs_are_compared_in_float32():
    output, instances = random_output(24), make_instances()
    theirs = CodeMaps(*(x.detach() for x in pooled_maps(random_output(25), instances, 8)))
    expected = both_terms(pooled_maps(output, instances, 8), theirs)
    with torch.autocast('cpu', torch.bfloat16):
        got = both_terms(pooled_maps(output, instances, 8), theirs)
    for a, b in zip(got, expected, strict=True):
        assert a.total.dtype == torch.float32
        assert a.total.item() == pytest.approx(b.total.item(), rel=1e-5)
