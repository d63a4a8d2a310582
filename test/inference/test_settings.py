"""Settings: every field is described and bounded, wrong values are refused by name."""

from dataclasses import fields

import pytest

from kd6d_ros.errors import ConfigError
from kd6d_ros.inference.settings import EstimatorSettings


def test_every_field_has_a_sentence_and_a_default_within_its_bounds():
    for item in fields(EstimatorSettings):
        assert item.metadata['description'].endswith('.')
        if isinstance(item.default, (int, float)) and not isinstance(item.default, bool):
            assert item.metadata['min'] <= item.default <= item.metadata['max']


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('min_score', 2.0, r'setting min_score: expected 0 .. 1, got 2.0'),
        ('min_score', '0.5', r"setting min_score: expected a number, got '0.5'"),
        ('min_score', float('nan'), r'setting min_score: expected 0 .. 1, got nan'),
        ('min_inliers', 3.5, r'setting min_inliers: expected a whole number, got 3.5'),
        ('min_inliers', True, r'setting min_inliers: expected a whole number, got True'),
        ('min_inliers', float('inf'), r'setting min_inliers: expected a whole number, got inf'),
        ('track', 1, r'setting track: expected true or false, got 1'),
        ('objects', 'mug', r"setting objects: expected a list of names, got 'mug'"),
        ('min_distance', 50.0, r'setting min_distance: 50.0 m must be less than max_distance 10.0 m'),
    ],
)
def test_wrong_values_are_named(field, value, message):
    with pytest.raises(ConfigError, match=message):
        EstimatorSettings(**{field: value})
