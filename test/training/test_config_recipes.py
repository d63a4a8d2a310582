"""The committed recipes and studies load; what they name exists."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.training.recipe import load_recipe
from kd6d_ros.training.study.plan import load_plan

CONFIG = Path(__file__).resolve().parents[2] / 'config'


@pytest.mark.parametrize(
    'path', sorted([*CONFIG.glob('train_*.yaml'), *CONFIG.glob('distill_*.yaml')]), ids=lambda p: p.name
)
def test_recipes_load(path):
    recipe = load_recipe(path)
    assert recipe.name
    if path.name.startswith('distill'):
        assert recipe.distillation.used


@pytest.mark.parametrize('path', sorted(CONFIG.glob('study_*.yaml')), ids=lambda p: p.name)
def test_studies_load_and_compare_equal_budgets(path):
    plan = load_plan(path)
    recipes = {job.key: plan.recipe(job) for job in plan.jobs()}
    assert plan.settings.test_instances >= 2000
    for student in plan.students:
        assert len(plan.seeds[student]) >= 3
        for arm in plan.arms:
            pair = [recipes[f'{student}/{name}/{plan.seeds[student][0]}'] for name in (arm, 'plain')]
            assert pair[0].network == pair[1].network
            assert pair[0].sampling == pair[1].sampling
            if not arm.endswith('_x3'):
                assert pair[0].train == pair[1].train
    if 'adlp' in plan.arms:
        assert ('adlp', 'plain') in plan.compare
        assert ('adlp', 'naive') in plan.compare
        teacher, student = recipes['teacher'].network, pair[0].network
        assert set(student.strides) <= set(teacher.strides)  # the naive and the feature term need that
