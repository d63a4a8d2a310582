"""The feature term against its formulas written out, and what it leaves alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.distillation.features import FeatureTerm, LevelAdapter, Relation  # noqa: E402
from kd6d_ros.distillation.settings import FeatureSettings  # noqa: E402


def maps(seed, channels, sizes=((8, 8), (4, 4))):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, channels, *size, generator=generator, requires_grad=True) for size in sizes]


def test_the_attended_part_is_that_of_the_paper():
    settings = FeatureSettings(weight=1, attended=1, attention=0, relation=0, temperature=0.5)
    adapter = LevelAdapter(16, 16)
    mine, theirs = maps(0, 16)[0], maps(1, 16)[0]
    expected = []
    for image in range(3):
        a, b = mine[image], theirs[image]
        place = sum(64 * torch.softmax((x.abs().mean(0) / 0.5).flatten(), 0) for x in (a, b)) / 2
        channel = sum(16 * torch.softmax(x.abs().mean((1, 2)) / 0.5, 0) for x in (a, b)) / 2
        gap = (b - adapter.features(mine[image : image + 1])[0]).flatten(1)
        expected.append((gap**2 * place[None] * channel[:, None]).sum().sqrt())
    assert torch.allclose(adapter(mine, theirs, settings), torch.stack(expected), rtol=1e-5)


def test_the_relation_gathers_from_all_places():
    block, x = Relation(4), torch.randn(1, 4, 2, 3)
    query, key, value = (layer(x).flatten(2)[0] for layer in (block.query, block.key, block.value))
    gathered = torch.stack([sum(value[:, j] * (query[:, i] @ key[:, j]) for j in range(6)) / 6 for i in range(6)], 1)
    expected = x + block.out(gathered.reshape(1, 2, 2, 3))
    assert torch.allclose(block(x), expected, atol=1e-6)


@pytest.mark.parametrize('widths', [(16, 16), (8, 32)])
def test_the_student_learns_and_the_teacher_does_not(widths):
    term = FeatureTerm(*widths, levels=2)
    mine, theirs = maps(0, widths[0]), maps(1, widths[1])
    result = term(mine, theirs, FeatureSettings(weight=1))
    assert result.amount.item() == 3
    result.total.backward()
    assert all(x.grad.abs().sum() > 0 for x in mine)
    assert all(x.grad is None for x in theirs)
    assert all(p.grad is not None for p in term.parameters())


def test_following_the_gradient_makes_maps_alike():
    torch.manual_seed(0)
    settings = FeatureSettings(weight=1, attended=1, attention=1, relation=0.1)
    term, mine, theirs = FeatureTerm(8, 12, levels=2), maps(0, 8), maps(1, 12)
    optimiser = torch.optim.Adam([*mine, *term.parameters()], lr=0.02)
    values = []
    for _ in range(200):
        optimiser.zero_grad()
        value = term(mine, theirs, settings).total
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


def test_it_computes_in_float32_under_autocast():
    term, mine, theirs = FeatureTerm(8, 12, levels=2), maps(0, 8), maps(1, 12)
    expected = term(mine, theirs, FeatureSettings(weight=1)).total
    with torch.autocast('cpu', torch.bfloat16):
        got = term(mine, theirs, FeatureSettings(weight=1)).total
    assert torch.equal(expected, got)
