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


STUDIES = [path for path in sorted(CONFIG.glob('study_*.yaml')) if 'tuning' not in path.name]


@pytest.mark.parametrize('names', [('study_tuning_cpu', 'study_cpu'), ('study_dense_tuning_cpu', 'study_dense_cpu')])
def test_tuning_shares_the_grid_but_neither_seeds_nor_test_scenes(names):
    tuning, study = (load_plan(CONFIG / f'{name}.yaml') for name in names)
    assert tuning.settings.validation == study.settings.validation
    assert tuning.settings.test != study.settings.test
    assert tuning.settings.min_visible == study.settings.min_visible
    assert tuning.recipe(tuning.jobs()[0]).network == study.recipe(study.jobs()[0]).network
    for student, seeds in tuning.seeds.items():
        assert not set(seeds) & set(study.seeds[student])
    for arm in ('naive', 'feature', 'adlp'):  # what the study compares is one of the trials
        chosen = {k: v for k, v in study.arms[arm].items() if k.startswith('distillation.')}
        tried = [changes for name, changes in tuning.arms.items() if name.startswith(arm)]
        assert chosen in [{k: v for k, v in changes.items() if k.startswith('distillation.')} for changes in tried]


@pytest.mark.parametrize('path', STUDIES, ids=lambda p: p.name)
def test_studies_load_and_compare_equal_budgets(path):
    plan = load_plan(path)
    recipes = {job.key: plan.recipe(job) for job in plan.jobs()}
    assert plan.settings.test_instances >= 2000
    first = next(iter(plan.arms))
    for student in plan.students:
        assert len(plan.seeds[student]) >= 3
        for arm in plan.arms:
            seeds = plan.seeds_of(student, arm)
            assert set(seeds) <= set(plan.seeds_of(student, first))
            if not seeds:  # a form that this student is not trained with
                continue
            pair = [recipes[f'{student}/{name}/{seeds[0]}'] for name in (arm, first)]
            if first == 'plain':  # else networks are what is compared
                assert pair[0].network == pair[1].network
            assert pair[0].sampling == pair[1].sampling
            if not arm.endswith('_x3'):
                assert pair[0].train == pair[1].train
    if 'adlp' in plan.arms:
        assert ('adlp', 'plain') in plan.compare
        assert ('adlp', 'naive') in plan.compare
        teacher, student = recipes['teacher'].network, pair[0].network
        assert set(student.strides) <= set(teacher.strides)  # the naive and the feature term need that
