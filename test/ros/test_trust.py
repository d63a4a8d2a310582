"""What keeps a pose from being published: the workspace, time spent waiting, old stamps; and clocks that disagree."""

import array
import time
from pathlib import Path

import numpy as np
import pytest
from pose_client import Client

from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.engines.fake import coordinate_image

pytestmark = pytest.mark.ros
FAKE_TF2 = str(Path(__file__).resolve().parent / 'fake_tf2')
CAMERA = make_camera([600, 0, 320, 0, 600, 240, 0, 0, 1], 640, 480)
DISAGREE = 'stamps and clock disagree: use_sim_time and --clock'
TOPICS = ('-r', 'image:=/camera/image', '-r', 'camera_info:=/camera/info')


class Scene:
    """A camera that sees the mug at (0.1, -0.05, 0.7) m."""

    def __init__(self, peer):
        from sensor_msgs.msg import CameraInfo, Image

        self.peer, self._image = peer, Image
        self.data = array.array('B', coordinate_image(CAMERA).tobytes())
        self.info = CameraInfo(
            width=640, height=480, k=CAMERA.matrix.reshape(9), distortion_model='plumb_bob', d=[0.0] * 5
        )
        self.info.header.frame_id = 'cam'

    def image(self):
        image = self._image(width=640, height=480, encoding='rgb8', step=1920, data=self.data)
        image.header.stamp, image.header.frame_id = self.peer.stamp(time.time_ns()), 'cam'
        return image

    def until(self, condition, what):
        self.peer.send_until(condition, what, self.image, lambda: self.info)


@pytest.fixture(scope='module')
def fake(module_start, module_peer):
    module_start('-r', '__node:=trust', *TOPICS, '-p', 'bundle:=fake')
    return module_peer('/trust')


@pytest.fixture(scope='module')
def seen(module_start, module_peer):
    """The real estimator around a network that is none, with a tf2_ros that is none."""
    module_start('-r', '__node:=seen', *TOPICS, '-p', 'bundle:=scene', path=FAKE_TF2)
    return module_peer('/seen')


class Nothing:
    message = ''


def image_of_now(peer, back_s=0.0):
    return peer.make_image(peer.stamp(time.time_ns() - int(back_s * 1e9)))


def test_an_old_bag_without_clock_yields_poses_and_a_warning(fake):
    fake.reconfigure(bundle='fake')
    assert len(fake.send_until_detections().detections) == 1
    fake.wait(lambda: (fake.status('input') or Nothing).message.startswith(DISAGREE), 'the warning')
    assert fake.status('input').level == b'\x01'
    fake.settle()
    assert fake.values('estimation')['age p50 / p95 / p99 (ms)'] == 'unknown'
    # Images of now: the warning goes, the age is known.
    fake.send_until(lambda: fake.got['detections'], 'an image', lambda: image_of_now(fake))
    fake.send_until(
        lambda: '/' in fake.values('estimation')['age p50 / p95 / p99 (ms)'], 'an age', lambda: image_of_now(fake)
    )
    assert not fake.status('input').message.startswith(DISAGREE)
    values = fake.values('estimation')
    assert all(len(value.split(' / ')) == 3 for key, value in values.items() if key.endswith('p99 (ms)'))


def test_images_with_old_stamps_are_dropped_when_that_is_asked_for(fake):
    fake.reconfigure(bundle='fake', max_image_age_s=1.5)
    key = 'images dropped: older than max_image_age_s'

    def count():
        return int(fake.values('input').get(key, 0))

    fake.send_until(lambda: count() > 1, 'drops', lambda: image_of_now(fake, 3.0))
    fake.wait(lambda: 's old, max_image_age_s is 1.5: dropped' in fake.texts(), 'the reason')
    before = count()
    fake.send_until(lambda: count() > before, 'drops of an unknown age', fake.make_image)
    fake.wait(lambda: 'of unknown age' in fake.texts(), 'the reason')
    assert fake.got['detections'] == []
    fake.send_until_detections(lambda: image_of_now(fake))
    fake.reconfigure(max_image_age_s=0.0)


def test_an_image_that_waited_too_long_is_not_published(fake, tmp_path):
    gate = tmp_path / 'gate'
    gate.touch()
    fake.reconfigure(bundle=f'fake:hold={gate}')
    assert fake.get('max_wait_s').double_value == 0.1
    fake.send_until(gate.with_name('gate.inside').exists, 'an image in work')
    # This one waits in the slot while the other one is in work.
    late = fake.make_image()
    fake.send(late)
    fake.spin(0.5)
    gate.unlink()
    fake.settle()
    assert late.header.stamp not in [item.header.stamp for item in fake.got['detections']]
    values = fake.values('input')
    assert int(values['images dropped: waited longer than max_wait_s']) == 1
    assert 'more than max_wait_s 0.1: dropped' in fake.texts()
    total = sum(
        int(values[f'images {name}'])
        for name in ('refused', 'replaced by a newer one', 'dropped: waited longer than max_wait_s')
    )
    assert int(values['images arrived']) == total + int(fake.values('estimation')['images processed'])
    fake.send_until_detections()


def test_an_object_outside_the_workspace_is_counted_and_not_published(seen):
    seen.reconfigure(bundle='scene')
    scene = Scene(seen)
    scene.until(lambda: seen.got['pose'], 'a pose')
    assert seen.set(workspace_max=[0.05, 1.0, 1.0]) == [(True, '')]
    seen.settle()
    seen.forget()
    key = 'rejected: outside the workspace'
    scene.until(lambda: int(seen.values('estimation').get(key, 0)) > 1, 'rejections')
    assert seen.got['pose'] == []
    assert all(item.detections == [] for item in seen.got['detections'])
    # Whole numbers are numbers, too.
    assert seen.set(workspace_max=[1, 1, 1]) == [(True, '')]
    scene.until(lambda: seen.got['pose'], 'a pose')
    (answer,) = seen.set(workspace_max=[-2000.0, 0.0, 0.0])
    assert answer == (False, 'parameter workspace_max: expected 3 numbers -1000 .. 1000, got [-2000.0, 0.0, 0.0]')
    (answer,) = seen.set(workspace_min=[1.0, 1.0, 1.0])
    assert not answer[0]
    assert 'must be less than workspace_max' in answer[1]
    assert seen.set(workspace_max=[1000.0] * 3) == [(True, '')]


def test_a_workspace_in_another_frame_follows_the_camera(seen):
    from geometry_msgs.msg import TransformStamped
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from tf2_msgs.msg import TFMessage

    # In 'table', which the camera sees from 1 m above, the mug is at (0.1, 0.05, 0.3).
    seen.reconfigure(
        bundle='scene', workspace_frame='table', workspace_min=[0.0, 0.0, 0.2], workspace_max=[0.2, 0.1, 0.4]
    )
    scene = Scene(seen)
    text = 'no transform from cam to table at the image stamp: "table" passed to lookupTransform'
    scene.until(lambda: text in seen.texts(), text)
    assert seen.got['pose'] == []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = seen.node.create_publisher(TFMessage, '/tf_static', latched)
    edge = TransformStamped(child_frame_id='cam')
    edge.header.frame_id = 'table'
    edge.transform.translation.z, edge.transform.rotation.x, edge.transform.rotation.w = 1.0, 1.0, 0.0
    publisher.publish(TFMessage(transforms=[edge]))
    scene.until(lambda: seen.got['pose'], 'a pose')
    assert seen.set(workspace_min=[0.0, 0.0, 0.35]) == [(True, '')]
    scene.until(lambda: 'rejected: outside the workspace' in seen.values('estimation'), 'a rejection')

    # The same tf2 serves requests.
    assert seen.set(workspace_min=[0.0, 0.0, 0.2]) == [(True, '')]
    client = Client(seen)
    _, future = client.send('mug', 'table')
    scene.until(future.done, 'an answer')
    status, result = client.result(future)
    assert (status, result.transform.header.frame_id) == (4, 'table')
    place = result.transform.transform.translation
    np.testing.assert_allclose([place.x, place.y, place.z], [0.1, 0.05, 0.3], atol=0.01)
    _, future = client.send('mug', 'cellar', timeout=1.5)
    scene.until(future.done, 'an answer')
    error = client.result(future)[1].error
    assert error.error == 1
    assert error.error_string.startswith('no transform from cam to cellar at the image stamp')
    seen.node.destroy_publisher(publisher)
    seen.release()


def test_a_workspace_in_another_frame_needs_tf2_ros(fake):
    fake.release()
    fake.set(workspace_frame='table')
    assert fake.change('configure') == [False]
    text = "configure failed: workspace_frame 'table' needs tf2_ros, which does not load"
    fake.wait(lambda: text in fake.texts(), text)
    assert 'sudo apt install ros-$ROS_DISTRO-tf2-ros-py' in fake.texts()
    assert fake.set(workspace_frame='') == [(True, '')]
    assert fake.change('configure') == [True]


def test_another_camera_resets_the_tracks(fake):
    fake.reconfigure(bundle='fake')
    fake.send_until_detections()

    def other():
        return fake.make_image(frame='right_optical_frame')

    text = "the camera changed from frame 'camera_optical_frame' to 'right_optical_frame': tracking reset"
    fake.send_until(lambda: text in fake.texts(), text, other, lambda: fake.make_info(frame='right_optical_frame'))
