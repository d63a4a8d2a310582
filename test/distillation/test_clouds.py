"""The clouds that are compared, against plain loops and the rule that the robot decodes by."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from distillation_scenes import BOXES, SPEC, grid, make_batch, make_instances, make_output  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from kd6d_ros.distillation.clouds import (  # noqa: E402
    best_clouds,
    level_share,
    on_instance,
    student_clouds,
    teacher_clouds,
)
from kd6d_ros.distillation.settings import DistillationSettings  # noqa: E402
from kd6d_ros.inference.allocation import allocate_cells  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402


def test_the_students_cloud_is_its_positive_cells():
    output, batch = make_output(), make_batch()
    clouds = student_clouds(output, batch)
    assert clouds.mass.shape == (3, 4)
    assert clouds.points.shape == (3, 4, 8, 2)
    for row, cells in enumerate(((0, 1, 9), (14, 15), (3, 20, 40, 70))):
        image, label, _ = BOXES[row]
        for slot, cell in enumerate(cells):
            expected = torch.sigmoid(output.logits[image, cell, label])
            assert clouds.mass[row, slot].item() == pytest.approx(expected.item(), abs=1e-6)
            assert torch.equal(clouds.points[row, slot], output.keypoints[image, cell, label])
        assert (clouds.mass[row, len(cells) :] == 0).all()


def test_masses_stay_off_zero_and_one():
    output, batch = make_output(), make_batch()
    sure = output._replace(logits=torch.where(output.logits > 0, 60.0, -60.0))
    mass = student_clouds(sure, batch).mass
    assert mass[mass > 0].min().item() == pytest.approx(1e-3)
    assert mass.max().item() == pytest.approx(1 - 1e-3)


def plain_teacher_cloud(output, instance, settings, anchors=SPEC.anchor_sizes):
    """Cells of one instance as a loop over levels picks them."""
    image, label, (x0, y0, x1, y1) = BOXES[instance]
    score = torch.sigmoid(output.logits[image, :, label]).detach().numpy()
    points = output.keypoints[image, :, label].detach().numpy()
    x, y = output.grid.centre.numpy().T
    inside = (np.rint(x / 4) * 4 >= x0) & (np.rint(x / 4) * 4 <= x1) & (np.rint(y / 4) * 4 >= y0)
    inside &= np.rint(y / 4) * 4 <= y1
    if instance == 2:
        assert inside.all()
    usable = (score > settings.threshold) & (inside | (not settings.within_mask))
    best = max(np.flatnonzero(usable), key=lambda cell: score[cell])
    size = (points[best].max(0) - points[best].min(0)).max()
    chosen = []
    for level, count in enumerate(allocate_cells(size, anchors, settings.cells, settings.sharpness)):
        cells = [c for c in np.flatnonzero(usable) if output.grid.level[c] == level]
        chosen += sorted(cells, key=lambda c: -score[c])[:count]
    order = sorted(chosen, key=lambda c: -score[c])
    return score[order], points[order]


@pytest.mark.parametrize('settings', [
    DistillationSettings(), DistillationSettings(threshold=0.5, cells=16), DistillationSettings(within_mask=False),
    DistillationSettings(cells=4, sharpness=0.3),
])  # fmt: skip
@pytest.mark.parametrize('seed', range(4))
def test_the_teachers_cloud_follows_the_rule_of_decoding(settings, seed):
    output = make_output(seed)
    clouds = teacher_clouds(output, SPEC.anchor_sizes, make_instances(), settings)
    for instance in range(3):
        mass, points = plain_teacher_cloud(output, instance, settings)
        used = clouds.mass[instance] > 0
        np.testing.assert_allclose(clouds.mass[instance][used].numpy(), mass, atol=1e-6)
        np.testing.assert_allclose(clouds.points[instance][used].numpy(), points, atol=1e-5)


def test_the_students_best_cells_are_chosen_as_a_teachers_and_learn():
    output, settings = make_output(3), DistillationSettings(threshold=0.6)
    logits, keypoints = (x.detach().clone().requires_grad_() for x in (output.logits, output.keypoints))
    clouds = best_clouds(
        output._replace(logits=logits, keypoints=keypoints), SPEC.anchor_sizes, make_instances(), settings
    )
    same = teacher_clouds(output, SPEC.anchor_sizes, make_instances(), DistillationSettings(threshold=0.0))
    assert torch.equal(clouds.mass, same.mass)
    assert torch.equal(clouds.points, same.points)
    (clouds.mass.sum() + clouds.points.sum()).backward()
    chosen = int((same.mass > 0).sum())
    assert int((logits.grad != 0).sum()) == chosen
    assert int((keypoints.grad != 0).all(-1).all(-1).sum()) == chosen


def test_two_instances_of_one_class_have_their_own_clouds():
    boxes = ((0, 1, (0, 0, 60, 127)), (0, 1, (68, 0, 127, 127)))
    output = make_output(images=1)
    clouds = teacher_clouds(output, SPEC.anchor_sizes, make_instances(boxes, 1), DistillationSettings(cells=100))
    cells = [{tuple(p.flatten().tolist()) for p, m in zip(*pair, strict=True) if m > 0}
             for pair in zip(clouds.points, clouds.mass, strict=True)]  # fmt: skip
    assert cells[0]
    assert cells[1]
    assert not cells[0] & cells[1]


def test_a_teacher_that_sees_nothing_or_no_numbers_has_no_mass():
    output = make_output()
    blind = output._replace(logits=torch.full_like(output.logits, -9.0))
    assert teacher_clouds(blind, SPEC.anchor_sizes, make_instances(), DistillationSettings()).mass.sum() == 0
    broken = output._replace(keypoints=torch.full_like(output.keypoints, float('nan')))
    clouds = teacher_clouds(broken, SPEC.anchor_sizes, make_instances(), DistillationSettings())
    assert clouds.mass.sum() == 0
    assert torch.isfinite(clouds.points).all()
    without_scores = output._replace(logits=torch.full_like(output.logits, float('nan')))
    clouds = teacher_clouds(without_scores, SPEC.anchor_sizes, make_instances(), DistillationSettings())
    assert clouds.mass.sum() == 0


def test_no_instances_and_no_positive_cells_are_empty_clouds():
    output, batch = make_output(), make_batch(((), (), ()))
    clouds = student_clouds(output, batch)
    assert clouds.mass.shape == (3, 0)
    nobody = make_instances((), 2)
    assert teacher_clouds(output, SPEC.anchor_sizes, nobody, DistillationSettings()).mass.shape[0] == 0


@given(
    st.lists(st.floats(0.0, 2000.0), min_size=1, max_size=5),
    st.sampled_from([(32.0, 64.0, 128.0, 256.0, 512.0), (64.0, 128.0, 256.0), (64.0,)]),
    st.integers(1, 100),
    st.sampled_from([0.2, 1.0, 4.0]),
)
def test_the_share_of_levels_is_that_of_the_robot_side(sizes, anchors, total, sharpness):
    got = level_share(torch.tensor(sizes, dtype=torch.float64), anchors, total, sharpness)
    expected = [allocate_cells(size, anchors, total, sharpness) for size in sizes]
    # Halves may fall to either side, where the two ways to normalise differ in the last bit.
    assert np.abs(got.numpy() - np.array(expected)).max() <= 1
    assert np.mean(got.numpy() == np.array(expected)) > 0.5


def test_the_map_of_instances_serves_every_stride():
    spec = NetworkSpec('darknet53', (8, 16, 32, 64), 32, 1, classes=2)
    cells, instances = grid(spec), make_instances()
    inside = on_instance(cells, instances)
    for row, (_, _, (x0, y0, x1, y1)) in enumerate(BOXES):
        x, y = cells.centre.T
        clearly_in = (x > x0 + 3) & (x < x1 - 3) & (y > y0 + 3) & (y < y1 - 3)
        clearly_out = (x < x0 - 3) | (x > x1 + 3) | (y < y0 - 3) | (y > y1 + 3)
        assert inside[row][clearly_in].all()
        assert not inside[row][clearly_out].any()
