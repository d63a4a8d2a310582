"""Detections of other nodes, as they come."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not built: run test/interfaces/build.py')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not built: run test/interfaces/build.py')


def test_a_score_that_is_no_number_counts_as_none():
    from kd6d_ros.ros.messages import boxes_from

    def hypothesis(name, score):
        return SimpleNamespace(hypothesis=SimpleNamespace(class_id=name, score=score))

    bbox = SimpleNamespace(center=SimpleNamespace(position=SimpleNamespace(x=50.0, y=40.0)), size_x=20.0, size_y=10.0)
    cases = (([float('nan')], 0.0), ([float('nan'), 0.4], 0.4), ([float('inf')], 1.0), ([-3.0], 0.0), ([0.4, 0.6], 0.6))
    for scores, best in cases:
        results = [hypothesis('mug', score) for score in scores]
        (found,) = boxes_from(SimpleNamespace(detections=[SimpleNamespace(bbox=bbox, results=results)]), {'mug': 'mug'})
        assert (found.object_name, found.score) == ('mug', best)
        np.testing.assert_allclose(found.box, [40, 35, 60, 45])
