"""What goes wrong around the node, over DDS: names used twice, no /clock, a bundle that goes, foreign TF, SIGINT."""

import shutil
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
DEMO = Path(__file__).resolve().parents[2] / 'models' / 'demo'
TOPICS = ('-r', 'image:=/camera/image', '-r', 'camera_info:=/camera/info')


def told(peer, text):
    peer.got['diagnostics'].clear()
    peer.wait(lambda: text in peer.texts(), text)


def over(peer, text, section='node'):
    def gone():
        status = peer.status(section)
        return status is not None and not any(text in item.value for item in status.values)

    peer.got['diagnostics'].clear()
    peer.wait(gone, f'{text} is over')


def test_two_nodes_of_one_name_are_named(start, new_peer):
    start('-r', '__node:=twin')
    peer = new_peer('/twin')
    peer.state()
    over(peer, 'too, so services')
    second = start('-r', '__node:=twin')
    told(peer, 'another node is called /twin too, so services and parameters reach either one')
    assert second.stop() == 0
    over(peer, 'too, so services')


def test_sim_time_without_clock_is_named_while_poses_come(start, new_peer):
    start('-r', '__node:=simulated', *TOPICS, '-p', 'use_sim_time:=true', '-p', 'bundle:=fake')
    peer = new_peer('/simulated')
    assert peer.change('configure', 'activate') == [True, True]
    text = 'use_sim_time is true but nothing comes on /clock: play the bag with --clock'
    told(peer, text)
    assert len(peer.send_until_detections().detections) == 1
    from rosgraph_msgs.msg import Clock

    publisher = peer.node.create_publisher(Clock, '/clock', 1)

    def tick():
        publisher.publish(Clock(clock=peer.stamp()))
        peer.spin(0.1)

    peer.got['diagnostics'].clear()
    peer.repeat(tick, lambda: peer.status('node') and text not in peer.status('node').message, 'the clock to run')


def test_another_publisher_of_our_tf_child_is_named(start, new_peer):
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    start('-r', '__node:=mine', *TOPICS, '-p', 'bundle:=fake')
    peer = new_peer('/mine')
    assert peer.change('configure', 'activate') == [True, True]
    publisher = peer.node.create_publisher(TFMessage, '/tf', 10)
    text = 'another node publishes the TF child mug_0 too'

    def foreign(child):
        item = TransformStamped(child_frame_id=child)
        item.header.stamp, item.header.frame_id = peer.stamp(), 'world'
        publisher.publish(TFMessage(transforms=[item]))
        peer.send(peer.make_image())
        peer.spin(0.1)

    # Somebody else's frames on the same topic are no reason to worry.
    end = time.monotonic() + 6
    while time.monotonic() < end:
        foreign('gripper')
    assert text not in peer.texts()
    peer.repeat(lambda: foreign('mug_0'), lambda: text in peer.texts(), text)
    assert peer.change('deactivate') == [True]
    over(peer, 'TF child')


def test_detections_that_match_no_image_are_named(start, new_peer):
    from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

    start('-r', '__node:=boxes', *TOPICS, '-p', 'bundle:=scene', '-p', 'use_detections:=true', '-p', 'max_wait_s:=60.0')
    peer = new_peer('/boxes')
    publisher = peer.node.create_publisher(Detection2DArray, '/detections_in', 20)
    assert peer.change('configure', 'activate') == [True, True]
    peer.wait(publisher.get_subscription_count, 'the subscription')

    def boxes(header, *sizes):
        message = Detection2DArray(header=header)
        for x, size in sizes:
            item = Detection2D(bbox=BoundingBox2D(size_x=size, size_y=size))
            item.bbox.center.position.x = item.bbox.center.position.y = x
            hypothesis = ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = 'mug', 0.9
            item.results.append(hypothesis)
            message.detections.append(item)
        publisher.publish(message)
        peer.spin(0.02)

    def elsewhere():
        image = peer.make_image()
        image.header.frame_id = 'other_camera'
        boxes(image.header, (100.0, 50.0))

    text = 'messages on detections_in match no image by stamp and frame_id (now stamp'
    peer.repeat(elsewhere, lambda: text in peer.texts(), text)
    assert "frame 'other_camera'): the detector must copy the header of its image" in peer.texts()
    assert peer.got['detections'] == []

    # Boxes that are none, with their image: counted, and no pose.
    def bad():
        image = peer.make_image()
        boxes(image.header, (float('nan'), 50.0), (100.0, 0.0), (5000.0, 50.0))
        peer.send(image)
        peer.spin(0.1)

    peer.repeat(bad, lambda: peer.got['detections'], 'an image with its boxes')
    values = peer.values('estimation')
    assert int(values['rejected: detection without a usable box']) >= 2
    assert int(values['rejected: outside the image']) >= 1
    assert all(message.detections == [] for message in peer.got['detections'])


def test_a_bundle_that_disappears_is_named_and_the_node_goes_on(start, new_peer, tmp_path):
    if not (DEMO / 'bundle.yaml').is_file():
        pytest.skip('models/demo is not in this checkout')
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    folder = Path(shutil.copytree(DEMO, tmp_path / 'demo'))
    start('-r', '__node:=gone', *TOPICS, '-p', f'bundle:={folder}', real=True)
    peer = new_peer('/gone')
    assert peer.change('configure', 'activate') == [True, True]
    shutil.rmtree(folder)
    told(peer, f'bundle {folder} is gone: the node goes on with what it has loaded')
    # A new estimator is made of what is in memory.
    assert peer.set(min_score=0.3) == [(True, '')]
    assert peer.send_until_detections().detections == []
    assert peer.change('deactivate', 'activate', 'deactivate', 'cleanup', 'configure') == [True] * 4 + [False]
    told(peer, 'no such bundle')


def test_ctrl_c_during_configure_ends_the_node(start, new_peer, tmp_path):
    gate = tmp_path / 'gate'
    gate.touch()
    process = start('-r', '__node:=stopped', '-p', f'bundle:=fake:hold_load={gate}')
    peer = new_peer('/stopped')
    peer.begin('configure')
    peer.wait(gate.with_name('gate.inside').exists, 'the load')
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(60) == 0
    assert 'Traceback' not in process.text()
