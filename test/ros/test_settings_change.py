"""A new estimator forgets its tracks, so one is made only when a setting of the estimator changed."""

from types import SimpleNamespace

import pytest

from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.ros.params import all_specs

pytestmark = pytest.mark.ros


def test_only_a_changed_setting_makes_a_new_estimator(ros):
    from kd6d_ros.ros.node import PoseEstimatorNode

    made = []
    node = SimpleNamespace(
        loaded=SimpleNamespace(rebuild=lambda settings: made.append(settings) or 'new'),
        worker=SimpleNamespace(submit=lambda work: work()),
        _pipeline=SimpleNamespace(estimator='old'),
        inputs=None,
        _settings=EstimatorSettings(),
    )
    values = {name: spec.default for name, spec in all_specs().items()}
    PoseEstimatorNode._apply_settings(node, {**values, 'publish_tf': False})
    assert node._pipeline.estimator == 'old'
    PoseEstimatorNode._apply_settings(node, {**values, 'min_score': 0.5})
    assert node._pipeline.estimator == 'new'
    PoseEstimatorNode._apply_settings(node, {**values, 'min_score': 0.5, 'publish_tf': False})
    assert [settings.min_score for settings in made] == [0.5]
