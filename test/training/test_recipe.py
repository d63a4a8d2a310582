"""Recipes: defaults, overrides, and one clear line for each kind of mistake."""

import re
from pathlib import Path

import pytest
import yaml

from kd6d_ros.errors import ConfigError
from kd6d_ros.training.recipe import Recipe, from_mapping, load_recipe, to_mapping

CONFIG = Path(__file__).resolve().parents[2] / 'config'


def write(tmp_path, text):
    path = tmp_path / 'recipe.yaml'
    path.write_text(text)
    return path


def test_overrides_replace_values_and_keep_types(tmp_path):
    path = write(tmp_path, 'data: {train: here}\noptimiser: {lr: 1e-3}\n')
    recipe = load_recipe(path, ['train.steps=7', 'optimiser.lr=5e-4', 'network.strides=[8, 16, 32]'])
    assert (recipe.train.steps, recipe.optimiser.lr) == (7, 5e-4)
    assert recipe.network.strides == (8, 16, 32)


def test_mapping_round_trip():
    recipe = Recipe(name='x', seed=3)
    again = from_mapping(Recipe, yaml.safe_load(yaml.safe_dump(to_mapping(recipe))), 'here')
    assert again == recipe


@pytest.mark.parametrize('path', sorted(CONFIG.glob('train_*.yaml')), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path):
    assert load_recipe(path).data.train


def test_a_duration_that_a_recipe_promises_is_on_record():
    recorded = (CONFIG.parent / 'docs' / 'results.md').read_text(encoding='utf-8')
    texts = [*CONFIG.glob('*.yaml'), *(CONFIG.parent / 'docs').glob('train_*.md')]
    for path in texts:
        for line in path.read_text(encoding='utf-8').splitlines():
            recipe = re.search(r'config/(\w+\.yaml)', line)
            name = recipe[1] if recipe else path.name
            assert name in recorded or not re.search(r'\b(minutes?|hours?)\b', line), f'{path.name}: {line}'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            'data: {train: x}\nnetwork: {stridez: [16]}',
            "unknown setting 'network.stridez'; did you mean 'network.strides'",
        ),
        ('data: {train: x}\ntrian: {steps: 3}', "unknown setting 'trian'; did you mean 'train'"),
        ('data: {train: x}\ntrain: {steps: many}', "train.steps must be a whole number, got 'many'"),
        ('data: {train: x}\ntrain: {steps: true}', 'train.steps must be a whole number, got True'),
        ('data: {train: x}\nsampling: {window_scale: [1]}', 'sampling.window_scale must be a list of 2 numbers'),
        ('data: {train: x}\ninput: {crop_size: 100}', 'multiples of 16'),
        ('data: {train: x}\naugmentation: {blur: 2}', r'augmentation.blur must lie in \[0, 1\]'),
        ('data: {train: x}\ntrain: {validate_every: 0}', 'train.validate_every must be positive'),
        ('data: {train: x}\noptimiser: {lr: .nan}', 'optimiser.lr must be a number, got nan'),
        ('data: {train: x}\ntrain: {workers: -1}', 'must not be negative'),
        (
            'data: {train: x}\nsampling: {window_scale: [2, 1]}',
            'sampling.window_scale = .* the low end is above the high end',
        ),
        ('data: {train: x}\nsampling: {window_scale: [0, 1]}', 'sampling.window_scale = .*: must be above 0'),
        ('data: {train: x, validation_fraction: 1.5}', 'data.validation_fraction = 1.5: a fraction lies in 0..1'),
        ('data: {train: x}\nsteps: 5', "unknown setting 'steps'; did you mean 'train.steps'"),
        ('data: {train: x}\nnetwork: {norm: none}', 'network.norm: .* is unknown; one of group, batch'),
        ('name: x', 'data.train is missing'),
        ('', 'data.train is missing'),
        ('[1, 2', 'not valid YAML'),
        ('- 1', 'the top level must be a mapping'),
        ('data: 5', 'data must be a mapping of settings, got 5'),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as info:
        load_recipe(write(tmp_path, text))
    assert 'recipe.yaml' in str(info.value)
    assert '\n' not in str(info.value)


@pytest.mark.parametrize('override', ['steps', 'name.x=3', 'a=[1', 'name=2024-13-01'])
def test_bad_overrides(tmp_path, override):
    with pytest.raises(ConfigError, match='override'):
        load_recipe(write(tmp_path, 'name: x\ndata: {train: x}'), [override])
