"""Settings: every field is described and bounded, wrong values are refused by name."""

from dataclasses import fields

import pytest

from kd6d_ros.errors import ConfigError
from kd6d_ros.inference.bundle_records import DecodeSpec
from kd6d_ros.inference.settings import EstimatorSettings


def test_every_field_has_a_sentence_and_a_default_within_its_bounds():
    for item in fields(EstimatorSettings):
        assert item.metadata['description'].endswith('.')
        if isinstance(item.default, (int, float)) and not isinstance(item.default, bool):
            assert item.metadata['min'] <= item.default <= item.metadata['max']


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('min_score', 2.0, r'setting min_score: expected -1 .. 1, got 2.0'),
        ('min_score', '0.5', r"setting min_score: expected a number, got '0.5'"),
        ('min_score', float('nan'), r'setting min_score: expected -1 .. 1, got nan'),
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


@pytest.mark.parametrize(
    ('setting', 'recommended', 'score'),
    [(-1.0, None, 0.6), (-1.0, 0.35, 0.35), (-1.0, 0.0, 0.0), (0.8, 0.35, 0.8), (0.0, 0.35, 0.0), (0.8, None, 0.8)],
)
def test_the_least_score_is_the_setting_else_the_bundle_s_else_the_default(setting, recommended, score):
    settings = EstimatorSettings(min_score=setting, min_inliers=7)
    resolved = settings.resolved(DecodeSpec(score_threshold=0.25, min_score=recommended))
    assert (resolved.min_score, resolved.score_threshold, resolved.min_inliers) == (score, 0.25, 7)
