"""The real node over DDS with a bundle of the kind dense: nothing in it knows the kind, and poses come out."""

import array

import cv2
import numpy as np
import pytest
from painted_codes import painted_bundle, picture

from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.types import RigidTransform

pytestmark = pytest.mark.ros
K = np.array([[600.0, 0.0, 320.0], [0.0, 600.0, 240.0], [0.0, 0.0, 1.0]])


def message_of(peer, picture_rgb):
    image = peer.make_image()
    image.height, image.width, image.step = 480, 640, 3 * 640
    image.data = array.array('B', picture_rgb.tobytes())
    return image


def info_640(peer):
    info = peer.make_info()
    info.width, info.height = 640, 480
    return info


def test_a_dense_bundle_finds_tracks_and_says_what_it_needs(start, new_peer, tmp_path):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    truth = RigidTransform(cv2.Rodrigues(np.array([0.5, -0.7, 0.2]))[0], np.array([0.03, -0.02, 0.6]))
    image = picture(make_camera(K, 640, 480), truth)
    painted_bundle(tmp_path / 'dense', ('mug',))
    process = start(
        *('-r', '__node:=codes', '-r', 'image:=/camera/image', '-r', 'camera_info:=/camera/info'),
        *('-p', f'bundle:={tmp_path / "dense"}'), real=True,
    )  # fmt: skip
    peer = new_peer('/codes')
    peer.reconfigure(bundle=str(tmp_path / 'dense'))

    def published():
        stamps = {item.header.stamp.nanosec for item in peer.got['pose']}
        return [item for item in peer.got['detections'] if item.detections and item.header.stamp.nanosec in stamps]

    peer.send_until(
        lambda: len(published()) >= 3, 'three poses', lambda: message_of(peer, image), lambda: info_640(peer)
    )
    for message in published():
        (detection,) = message.detections
        place = detection.results[0].pose.pose.position
        assert np.linalg.norm([place.x, place.y, place.z] - truth.translation) < 3e-3
        assert detection.results[0].hypothesis.class_id == 'mug'
        assert detection.results[0].hypothesis.score == pytest.approx(0.95, abs=1e-5)
    # Black images: seen nothing, which is an empty message and no pose.
    peer.settle()
    peer.forget()
    dark = np.zeros_like(image)
    peer.send_until(
        lambda: peer.got['detections'], 'an empty answer', lambda: message_of(peer, dark), lambda: info_640(peer)
    )
    assert not any(item.detections for item in peer.got['detections'])
    assert not peer.got['pose']
    # One that cannot search says that it waits for boxes.
    painted_bundle(tmp_path / 'blind', ('mug',), frame=None)
    peer.reconfigure(bundle=str(tmp_path / 'blind'))
    text = 'nothing tells the node where to look (this bundle cannot search an image): set find or use_detections'
    peer.wait(lambda: text in peer.texts(), text)
    # A damaged one is named.
    codes = next((tmp_path / 'blind' / 'codes').iterdir())
    codes.write_bytes(codes.read_bytes()[:-1])
    peer.release()
    assert peer.change('configure') == [False]
    peer.wait(lambda: codes.name in peer.texts(), 'the damaged codes')
    assert 'Traceback' not in process.text()
    assert process.stop() == 0
