from array import array
from pathlib import Path

import pytest
import yaml

from kd6d_ros.errors import ConfigError
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.ros.parameter_file import SHIPPED_BUNDLE, markdown_table, parameter_file
from kd6d_ros.ros.params import (
    all_specs,
    coerce,
    object_names,
    settings_from,
    tf_prefix,
    unknown_message,
    workspace_bounds,
)

ROOT = Path(__file__).resolve().parents[2]
SPECS = all_specs()


def test_every_parameter_has_a_description_and_a_default_it_accepts():
    for spec in SPECS.values():
        assert len(spec.description) > 10, spec.name
        assert spec.description.endswith('.'), spec.name
        assert coerce(spec, spec.default) == spec.default


def test_settings_of_the_estimator_are_parameters_with_the_same_defaults():
    values = {name: spec.default for name, spec in SPECS.items()}
    assert settings_from(values) == EstimatorSettings()


def test_the_shipped_file_is_the_table():
    text = (ROOT / 'config' / 'pose.yaml').read_text()
    assert text == parameter_file(), 'run: python -m kd6d_ros.ros.parameter_file > config/pose.yaml'
    values = yaml.safe_load(text)['/**']['ros__parameters']
    assert list(values) == list(SPECS)
    for name, value in values.items():
        assert coerce(SPECS[name], value) == (SHIPPED_BUNDLE if name == 'bundle' else SPECS[name].default)


def test_the_documentation_holds_the_table():
    text = (ROOT / 'docs' / 'use_on_a_robot.md').read_text()
    assert markdown_table() in text, 'replace the table by kd6d_ros.ros.parameter_file.markdown_table()'


@pytest.mark.parametrize(
    ('name', 'value', 'text'),
    [
        ('image_transport', 'zip', "image_transport: expected one of raw, compressed, got 'zip'"),
        ('image_rectified', 1, 'image_rectified: expected true or false, got 1'),
        ('image_rectified', 'yes', "expected true or false, got 'yes'"),
        ('threads', 2.5, 'threads: expected a whole number 0 .. 256, got 2.5'),
        ('threads', True, 'expected a whole number'),
        ('threads', 1000, 'got 1000'),
        ('min_distance', 'near', "min_distance: expected a number .*, got 'near'"),
        ('min_distance', -1.0, 'got -1.0'),
        ('min_score', float('nan'), 'got nan'),
        ('bundle', 7, 'bundle: expected a string, got 7'),
        ('objects', 3, 'objects: expected a string, got 3'),
        ('objects', [1, 2], 'objects: expected a string'),
        ('workspace_min', [0.0, 1.0], r'workspace_min: expected 3 numbers -1000 .. 1000, got \[0.0, 1.0\]'),
        ('workspace_min', [0.0, True, 1.0], 'expected 3 numbers'),
        ('workspace_max', [0.0, float('nan'), 1.0], 'expected 3 numbers'),
        ('workspace_max', [0.0, 0.0, 2000.0], 'expected 3 numbers'),
        ('workspace_max', 'far', "expected 3 numbers -1000 .. 1000, got 'far'"),
        ('workspace_max', 3.0, 'expected 3 numbers'),
    ],
)
def test_wrong_values_name_what_is_expected(name, value, text):
    with pytest.raises(ConfigError, match=text):
        coerce(SPECS[name], value)


def test_a_whole_number_is_a_number_and_names_come_in_two_ways():
    assert coerce(SPECS['min_distance'], 1) == 1.0
    assert isinstance(coerce(SPECS['min_distance'], 1), float)
    assert object_names(coerce(SPECS['objects'], ['mug', 'can'])) == ('mug', 'can')
    assert object_names('mug, can,') == ('mug', 'can')
    assert object_names('') == ()


def test_a_workspace_is_a_box_or_none():
    values = {name: SPECS[name].default for name in ('workspace_min', 'workspace_max')}
    assert workspace_bounds(values) is None
    low, high = workspace_bounds({**values, 'workspace_max': coerce(SPECS['workspace_max'], array('d', [1, 2, 3]))})
    assert (low.tolist(), high.tolist()) == ([-1000.0] * 3, [1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match=r'workspace_min: .* must be less than workspace_max'):
        workspace_bounds({'workspace_min': (0.0, 0.0, 1.0), 'workspace_max': (1.0, 1.0, 1.0)})


def test_a_misspelt_name_gets_the_nearest_right_one():
    assert unknown_message('min_scor', SPECS) == (
        'parameter min_scor is not known and has no effect: did you mean min_score?'
    )
    assert 'see ros2 param list' in unknown_message('zzz', SPECS)


def test_tf_prefix_defaults_to_the_namespace():
    assert tf_prefix('auto', '/') == ''
    assert tf_prefix('auto', '/left') == 'left/'
    assert tf_prefix('auto', '/cell/left') == 'cell/left/'
    assert tf_prefix('', '/left') == ''
    assert tf_prefix('robot_', '/left') == 'robot_'


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match='min_distance'):
        settings_from({'min_distance': 5.0, 'max_distance': 1.0})
