"""The terms against GeomLoss, plain loops and finite differences, and what bad input gives."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from dataclasses import replace  # noqa: E402

from distillation_scenes import SPEC, grid, make_batch, make_instances, make_output  # noqa: E402

from kd6d_ros.distillation.clouds import Clouds, student_clouds, teacher_clouds  # noqa: E402
from kd6d_ros.distillation.settings import AdlpSettings, DistillationSettings  # noqa: E402
from kd6d_ros.distillation.teacher import answer_of  # noqa: E402
from kd6d_ros.distillation.terms import adlp, naive, surface, to_unit  # noqa: E402
from kd6d_ros.errors import ConfigError  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402

RELEASED = AdlpSettings(weight=5 / 160, coordinates='frame')
NORMALISED = AdlpSettings(weight=1.0, coordinates='object')


def answer(theirs, batch):
    return answer_of(theirs, SPEC, batch, DistillationSettings(), SPEC.strides)


def both_clouds(seed=0, dtype=torch.float64):
    mine, theirs = make_output(seed, dtype=dtype), make_output(seed + 100, dtype=dtype)
    batch = make_batch()
    teacher = teacher_clouds(theirs, SPEC.anchor_sizes, batch.instances, DistillationSettings())
    return mine, student_clouds(mine, batch), teacher, batch


@pytest.mark.parametrize('settings', [RELEASED, NORMALISED])
def test_adlp_is_geomloss_per_instance_and_corner(settings):
    geomloss = pytest.importorskip('geomloss', reason='geomloss is not installed: pip install geomloss')
    loss = geomloss.SamplesLoss('sinkhorn', p=2, blur=0.001, scaling=0.5, reach=0.5)
    _, student, teacher, batch = both_clouds()
    unit = to_unit(batch.instances, settings.coordinates).double()
    expected = 0.0
    for row in range(3):
        mine, theirs = student.mass[row] > 0, teacher.mass[row] > 0
        points = [(c.points[row][used] * unit[row]).double().transpose(0, 1).contiguous()
                  for c, used in ((student, mine), (teacher, theirs))]  # fmt: skip
        masses = [
            c.mass[row][used].double().expand(8, -1).contiguous() for c, used in ((student, mine), (teacher, theirs))
        ]
        expected += loss(masses[0], points[0], masses[1], points[1]).sum().item()
    term = adlp(student, teacher, batch.instances, settings)
    assert term.total.item() == pytest.approx(expected, rel=1e-4)
    assert term.amount.item() == 3


def test_frame_coordinates_undo_the_crop_and_object_coordinates_know_the_size():
    instances = make_instances()
    assert torch.allclose(to_unit(instances, 'frame'), torch.tensor([[0.002, 0.003]]).expand(3, 2))
    assert torch.allclose(to_unit(instances, 'object'), (1 / torch.tensor([64.0, 80.0, 127.0]))[:, None].expand(3, 2))


def gradients(settings):
    mine, student, teacher, batch = both_clouds()
    term = adlp(student, teacher, batch.instances, settings)
    return term.total.item(), torch.autograd.grad(term.total, (mine.logits, mine.keypoints))


def test_geometry_and_mass_weigh_the_gradients_and_leave_the_value():
    value, (scores, corners) = gradients(NORMALISED)
    assert scores.abs().sum() > 0
    assert corners.abs().sum() > 0
    for settings, factors in (
        (replace(NORMALISED, mass=0.0), (0, 1)),
        (replace(NORMALISED, geometry=0.0), (1, 0)),
        (replace(NORMALISED, geometry=3.0, mass=0.25), (0.25, 3)),
    ):
        same, parts = gradients(settings)
        assert same == pytest.approx(value, rel=1e-12)
        assert torch.allclose(parts[0], factors[0] * scores, atol=1e-12)
        assert torch.allclose(parts[1], factors[1] * corners, atol=1e-12)


def test_following_the_gradient_brings_the_clouds_together():
    """Random corners lie further apart than the released reach, and with the released blur and its early end the
    gradient assigns each point to one other, hardly better than at random: two thirds of the distance stay."""
    mine, theirs = make_output(3, dtype=torch.float64), make_output(4, dtype=torch.float64)
    batch, far = make_batch(), replace(NORMALISED, reach=5.0, blur=0.05, converge=100)
    teacher = teacher_clouds(theirs, SPEC.anchor_sizes, batch.instances, DistillationSettings())
    where = batch.positive_image, batch.positive_cell, batch.positive_class

    def distance():
        mean = (teacher.points * teacher.mass[..., None, None]).sum(1) / teacher.mass.sum(1)[:, None, None]
        cloud = student_clouds(mine, batch)
        own = (cloud.points * cloud.mass[..., None, None]).sum(1) / cloud.mass.sum(1)[:, None, None]
        return (own - mean).norm(dim=-1).mean().item()

    before = distance()
    optimiser = torch.optim.Adam([mine.keypoints], lr=0.5)
    for _ in range(150):
        optimiser.zero_grad()
        adlp(student_clouds(mine, batch), teacher, batch.instances, far).total.backward()
        optimiser.step()
    assert distance() < 0.2 * before
    untouched = torch.ones_like(mine.keypoints[..., 0, 0], dtype=torch.bool)
    untouched[where] = False
    start = make_output(3, dtype=torch.float64).keypoints
    assert torch.equal(mine.keypoints[untouched], start[untouched])


def test_a_student_that_has_the_teachers_cloud_learns_nothing():
    _, student, _, batch = both_clouds()
    points = student.points.detach().clone().requires_grad_()
    mass = student.mass.detach().clone().requires_grad_()
    term = adlp(
        Clouds(mass, points), Clouds(student.mass.detach(), student.points.detach()), batch.instances, NORMALISED
    )
    assert term.total.item() == pytest.approx(0, abs=1e-9)
    for gradient in torch.autograd.grad(term.total, (mass, points)):
        assert gradient.abs().max() < 1e-6


def test_adlp_counts_what_both_see_and_is_zero_for_the_rest():
    mine, student, teacher, batch = both_clouds()
    blind = teacher._replace(mass=torch.zeros_like(teacher.mass))
    term = adlp(student, blind, batch.instances, NORMALISED)
    assert (term.total.item(), term.amount.item()) == (0, 0)
    assert torch.autograd.grad(term.total, mine.keypoints)[0].abs().sum() == 0
    one = teacher._replace(mass=teacher.mass * torch.tensor([1.0, 0.0, 0.0])[:, None])
    assert adlp(student, one, batch.instances, NORMALISED).amount.item() == 1


def test_no_positive_cells_and_no_instances_give_zero_with_a_gradient():
    mine, theirs, batch = make_output(), make_output(1), make_batch(((), (), ()))
    teacher = teacher_clouds(theirs, SPEC.anchor_sizes, batch.instances, DistillationSettings())
    for term in (
        adlp(student_clouds(mine, batch), teacher, batch.instances, NORMALISED),
        naive(mine, answer(theirs, batch), batch, 0.1, 1),
    ):
        assert (term.total.item(), term.amount.item()) == (0, 0)
        term.total.backward()  # part of the graph, as distributed training asks for
    assert mine.keypoints.grad.abs().sum() == 0
    nobody = make_instances((), 2)
    nothing = Clouds(torch.zeros(0, 3), torch.zeros(0, 3, 8, 2, requires_grad=True))
    assert adlp(nothing, Clouds(torch.zeros(0, 5), torch.zeros(0, 5, 8, 2)), nobody, NORMALISED).amount == 0


def test_a_number_that_is_none_shows_in_the_total():
    mine, _, teacher, batch = both_clouds()
    with torch.no_grad():
        mine.keypoints[0, 1, 0, 0, 0] = math.nan
    assert torch.isnan(adlp(student_clouds(mine, batch), teacher, batch.instances, NORMALISED).total)


def test_bfloat16_outputs_are_compared_in_float32():
    mine, theirs, batch = make_output(), make_output(1), make_batch()
    teacher = teacher_clouds(theirs, SPEC.anchor_sizes, batch.instances, DistillationSettings())
    expected = adlp(student_clouds(mine, batch), teacher, batch.instances, NORMALISED).total
    with torch.autocast('cpu', torch.bfloat16):
        got = adlp(student_clouds(mine, batch), teacher, batch.instances, NORMALISED).total
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_naive_is_the_weighted_sum_over_the_cells_that_the_teacher_believes_in():
    mine, theirs, batch = make_output(dtype=torch.float64), make_output(1, dtype=torch.float64), make_batch()
    total = amount = 0.0
    for image, cell, label, size in zip(
        batch.positive_image, batch.positive_cell, batch.positive_class, batch.size_px, strict=True
    ):
        belief = 1 / (1 + math.exp(-theirs.logits[image, cell, label].item()))
        if belief <= 0.4:
            continue
        gap = (
            mine.keypoints[image, cell, label] - theirs.keypoints[image, cell, label]
        ).abs().mean().item() / size.item()
        score = 1 / (1 + math.exp(-mine.logits[image, cell, label].item()))
        entropy = -(belief * math.log(score) + (1 - belief) * math.log(1 - score))
        total, amount = total + belief * (gap + 0.5 * entropy), amount + belief
    term = naive(mine, answer(theirs, batch), batch, 0.4, 0.5)
    assert amount > 0
    assert term.total.item() == pytest.approx(total, rel=1e-5)
    assert term.amount.item() == pytest.approx(amount, rel=1e-5)


def test_a_teacher_with_more_levels_answers_in_the_cells_of_the_student():
    deeper = NetworkSpec('darknet53', (8, 16, 32, 64, 128), 32, 1, classes=2)
    theirs, batch = make_output(1, deeper), make_batch()
    found = answer_of(theirs, deeper, batch, DistillationSettings(), SPEC.strides)
    own, others = grid(SPEC), grid(deeper)
    where = zip(batch.positive_image, batch.positive_cell, batch.positive_class, strict=True)
    for row, (image, cell, label) in enumerate(where):
        same = (others.centre == own.centre[cell]).all(1) & (others.anchor == own.anchor[cell])
        assert same.sum() == 1
        assert torch.equal(found.corners[row], theirs.keypoints[image, same, label][0])
    narrower = NetworkSpec('darknet53', (16, 32), 32, 1, classes=2)
    none = answer_of(make_output(1, narrower), narrower, batch, DistillationSettings(), SPEC.strides)
    assert (none.belief.numel(), none.corners.numel()) == (0, 0)


def test_a_teacher_without_numbers_teaches_nothing_naively():
    mine, theirs, batch = make_output(), make_output(1), make_batch()
    broken = theirs._replace(
        keypoints=torch.full_like(theirs.keypoints, math.nan), logits=torch.full_like(theirs.logits, math.nan)
    )
    term = naive(mine, answer(broken, batch), batch, 0.1, 1.0)
    assert (term.total.item(), term.amount.item()) == (0, 0)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'adlp': AdlpSettings(coordinates='crop')}, 'coordinates must be one of frame, object'),
        ({'adlp': AdlpSettings(weight=-1)}, 'adlp.weight must not be negative'),
        ({'adlp': AdlpSettings(blur=0)}, 'adlp.blur must be positive'),
        ({'adlp': AdlpSettings(scaling=1)}, 'scaling must lie between 0 and 1'),
        ({'threshold': 1.0}, 'threshold'),
        ({'cells': 0}, 'cells must be positive'),
        ({'adlp': AdlpSettings(weight=1)}, 'distillation.teacher is missing'),
    ],
)
def test_settings_that_cannot_be_meant_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        DistillationSettings(**change).check('recipe.yaml')


def test_surface_points_are_compared_where_the_teacher_sees_the_object():
    generator = torch.Generator().manual_seed(0)
    mine = torch.randn(2, 3, 4, 5, 6, generator=generator, requires_grad=True)
    theirs = torch.randn(2, 3, 4, 5, 6, generator=generator)
    term = surface(mine, theirs, 0.5)
    expected = amount = entropy = 0.0
    for n, c, y, x in ((n, c, y, x) for n in range(2) for c in range(3) for y in range(5) for x in range(6)):
        belief = 1 / (1 + math.exp(-theirs[n, c, 3, y, x].item()))
        logit = mine[n, c, 3, y, x].item()
        entropy += (math.log1p(math.exp(-logit)) * belief + math.log1p(math.exp(logit)) * (1 - belief)) / 180
        if belief > 0.5:
            gap = (mine[n, c, :3, y, x] - theirs[n, c, :3, y, x]).abs().mean().item()
            expected, amount = expected + belief * gap, amount + belief
    assert term.amount.item() == pytest.approx(amount, rel=1e-5)
    assert (term.total / term.amount).item() == pytest.approx(expected / amount + 0.5 * entropy, rel=1e-5)
    term.total.backward()
    unseen = (theirs[:, :, 3] <= 0)[:, :, None].expand(-1, -1, 3, -1, -1)
    assert (mine.grad[:, :, :3][unseen] == 0).all()
    assert (mine.grad[:, :, :3][~unseen] != 0).all()


def test_a_teacher_that_sees_no_surface_or_no_numbers_teaches_none():
    mine = torch.zeros(1, 1, 4, 2, 2, requires_grad=True)
    nothing = torch.zeros(1, 1, 4, 2, 2)
    nothing[:, :, 3] = -9.0
    assert surface(mine, nothing, 0.5).amount.item() == 0
    broken = torch.full((1, 1, 4, 2, 2), float('nan'))
    term = surface(mine, broken, 0.5)
    (term.total / term.amount.clamp_min(1e-6)).backward()
    assert term.total.item() == 0
    assert torch.isfinite(mine.grad).all()
