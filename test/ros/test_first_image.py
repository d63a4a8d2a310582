"""Images that come while the node is being activated."""

import time
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.ros


@pytest.fixture
def node(ros):
    import rclpy

    from kd6d_ros.ros.node import PoseEstimatorNode

    context = rclpy.Context()
    rclpy.init(context=context)
    node = PoseEstimatorNode('first', context=context)
    node._pipeline = SimpleNamespace(reset=lambda: None, estimator=SimpleNamespace(can_find=True))
    node.loaded = SimpleNamespace(
        models={}, bundle='', engine='', precision='', folder='', rebuild=lambda settings: node._pipeline.estimator
    )
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_an_image_that_comes_with_the_subscription_is_worked_on(node, monkeypatch):
    class Eager:
        """A camera that publishes before the constructor returns."""

        def __init__(self, node, compressed, boxes, offer, *callbacks):
            self.topics = {'image': '/image'}
            offer('frame')

        def destroy(self): ...

    seen = []
    monkeypatch.setattr('kd6d_ros.ros.node.Inputs', Eager)
    monkeypatch.setattr(node.worker, '_handle', lambda frame: seen.append((frame, node.publishing)))
    assert node.on_activate(None).name == 'SUCCESS'
    end = time.monotonic() + 60
    while node.worker.waiting and time.monotonic() < end:
        time.sleep(0.002)
    assert seen == [('frame', True)]
    assert (node.worker.offered, node.worker.dropped) == (1, 0)
