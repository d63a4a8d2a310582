"""Ground truth from Detection3DArray, PoseStamped and TF, and what is odd about a bag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kd6d_ros.benchmark import bag_messages, messages
from kd6d_ros.benchmark.bag_writer import BagWriter
from kd6d_ros.benchmark.recording import TopicChoice, open_recording
from kd6d_ros.benchmark.truth import object_of_frame
from kd6d_ros.errors import BagError
from kd6d_ros.geometry.transforms import rotation_from_vector
from kd6d_ros.types import RigidTransform

START = 1_700_000_000_000_000_000
STEP = 100_000_000
IMAGE = np.zeros((48, 64, 3), np.uint8)
CAM_FROM_OBJ = RigidTransform(rotation_from_vector(np.array([0.3, -0.5, 1.1])), [0.1, -0.2, 0.7])
WORLD_FROM_CAM = RigidTransform(rotation_from_vector(np.array([0.0, 2.0, 0.4])), [1.0, 2.0, 3.0])


class Bag(BagWriter):
    """A bag of images without ground truth of its own; further messages by hand."""

    def __init__(self, path: Path, camera, stamps=None, frame='optical'):
        super().__init__(path, 'raw')
        self.stamps = [START + k * STEP for k in range(4)] if stamps is None else stamps
        self.camera, self.frame = camera, frame

    def __enter__(self):
        super().__enter__()
        for number, stamp in enumerate(self.stamps):
            frame = self.frame if isinstance(self.frame, str) else self.frame[number]
            head = bag_messages.header(stamp, frame)
            time = START + number * STEP
            info = bag_messages.camera_info(head, self.camera)
            self.write('/camera/camera_info', messages.CAMERA_INFO, time, info)
            self.write('/camera/image_raw', messages.IMAGE, time, bag_messages.raw_image(head, IMAGE))
        return self

    def pose(self, topic, stamp, transform=CAM_FROM_OBJ, frame='optical'):
        head = bag_messages.header(stamp, frame)
        self.write(topic, messages.POSE_STAMPED, stamp, bag_messages.pose_stamped(head, transform))

    def tf(self, parent, child, stamp, transform, topic='/tf'):
        head = bag_messages.header(stamp, parent)
        one = bag_messages.transform_stamped(head, child, transform)
        self.write(topic, messages.TF, stamp, bag_messages.tf_message([one]))


def open_bag(path, *truth, known=('mug', 'can')):
    return open_recording(path, TopicChoice(truth=truth), known)


def test_pose_topics_are_objects_and_near_stamps_count(tmp_path, camera):
    with Bag(tmp_path / 'bag', camera) as bag:
        for k, late in enumerate((0, 3_000_000, -4_000_000, 20_000_000)):
            bag.pose('/mocap/mug', START + k * STEP + late)
        bag.pose('/mocap/can', START)
    recording = open_bag(tmp_path / 'bag')
    assert sorted(recording.truth) == [START, START + STEP, START + 2 * STEP]
    assert sorted(item.object_name for item in recording.truth[START]) == ['can', 'mug']
    np.testing.assert_allclose(recording.truth[START][0].cam_from_obj.matrix(), CAM_FROM_OBJ.matrix(), atol=1e-12)
    assert recording.notes == ('1 of 4 images have no ground truth and count for speed only',)
    assert recording.rate_hz == pytest.approx(10.0)
    (named,) = open_bag(tmp_path / 'bag', '/mocap/can').truth[START]
    assert named.object_name == 'can'


def test_tf_leads_through_other_frames(tmp_path, camera):
    with Bag(tmp_path / 'bag', camera) as bag:
        bag.tf('world', 'mount', START, RigidTransform.identity(), '/tf_static')
        for k in range(3):
            bag.tf('mount', 'optical', START + k * STEP, WORLD_FROM_CAM)
            bag.tf('world', 'gt/mug_0', START + k * STEP, WORLD_FROM_CAM @ CAM_FROM_OBJ)
            bag.tf('world', 'robot', START + k * STEP, RigidTransform.identity())
        bag.tf('elsewhere', 'can', START, CAM_FROM_OBJ)
    recording = open_bag(tmp_path / 'bag')
    assert sorted(recording.truth) == [START, START + STEP, START + 2 * STEP]
    for objects in recording.truth.values():
        assert [item.object_name for item in objects] == ['mug']
        np.testing.assert_allclose(objects[0].cam_from_obj.matrix(), CAM_FROM_OBJ.matrix(), atol=1e-9)


@pytest.mark.parametrize(('frame', 'name'), [('mug', 'mug'), ('gt/mug_12', 'mug'), ('/a/b/big_mug_0', 'big_mug')])
def test_names_of_frames(frame, name):
    assert object_of_frame(frame) == name


def test_a_pose_in_another_frame_is_refused_with_the_way_out(tmp_path, camera):
    with Bag(tmp_path / 'bag', camera) as bag:
        bag.pose('/mocap/mug', START, frame='world')
    with pytest.raises(BagError, match=r"/mocap/mug is in frame 'world', its image in 'optical'; .*--truth /tf"):
        open_bag(tmp_path / 'bag')


def test_topics_that_cannot_be_truth(tmp_path, camera):
    with Bag(tmp_path / 'bag', camera) as bag:
        bag.pose('/mocap/mug', START)
        bag.pose('/mocap/mug', START)
        bag.tf('optical', 'can', START, CAM_FROM_OBJ)
    with pytest.raises(BagError, match=r'no topic /nothing; the bag has /camera/camera_info, .*/mocap/mug, /tf'):
        open_bag(tmp_path / 'bag', '/nothing')
    with pytest.raises(BagError, match=r'/camera/image_raw is sensor_msgs/msg/Image; ground truth is one of'):
        open_bag(tmp_path / 'bag', '/camera/image_raw')
    with pytest.raises(BagError, match='--truth names topics of several types'):
        open_bag(tmp_path / 'bag', '/mocap/mug', '/tf')
    with pytest.raises(BagError, match='/mocap/mug has two poses for the image'):
        open_bag(tmp_path / 'bag')
    assert open_bag(tmp_path / 'bag', '/tf').truth[START][0].object_name == 'can'


def test_no_truth_has_a_reason(tmp_path, camera):
    with Bag(tmp_path / 'without', camera):
        pass
    recording = open_bag(tmp_path / 'without')
    assert recording.truth == {}
    assert recording.no_truth.startswith('no ground truth in the bag')
    with Bag(tmp_path / 'early', camera) as bag:
        bag.pose('/mocap/mug', START - 10 * STEP)
    assert open_bag(tmp_path / 'early').no_truth.startswith('/mocap/mug: says nothing')


def test_oddities_of_a_bag_are_said(tmp_path, camera):
    stamps = [START, START + 2 * STEP, START + STEP, START + STEP]
    with Bag(tmp_path / 'bag', camera, stamps, ['left', 'left', 'right', 'right']):
        pass
    assert open_bag(tmp_path / 'bag').notes == (
        '1 of 4 images are older than the one before them: tracking starts anew there',
        '1 images repeat a stamp: the estimator ignores repeats in a row',
        'images of several cameras (left, right): tracking starts anew at each change',
    )


def test_a_bag_without_images(tmp_path, camera):
    with Bag(tmp_path / 'bag', camera, []) as bag:
        bag.pose('/mocap/mug', START)
    with pytest.raises(BagError, match='no image topic; the bag has /mocap/mug'):
        open_bag(tmp_path / 'bag')
