"""Every bad input over DDS: one clear message in /diagnostics, no pose, the node alive."""

import array
import copy
import time

import numpy as np
import pytest

from kd6d_ros.ros.diagnostics import LOG_PERIOD_S

pytestmark = pytest.mark.ros
NAN = float('nan')


def with_image(**change):
    return lambda image, info: [setattr(image, name, value) for name, value in change.items()]


def with_info(**change):
    return lambda image, info: [setattr(info, name, value) for name, value in change.items()]


def frame(name):
    return lambda image, info: (setattr(image.header, 'frame_id', name), setattr(info.header, 'frame_id', name))


def info_frame(image, info):
    info.header.frame_id = 'elsewhere'


def roi(image, info):
    info.roi.x_offset, info.roi.width, info.roi.height = 8, 32, 24


def stamp(seconds):
    def change(image, info):
        image.header.stamp.sec, image.header.stamp.nanosec = seconds, 0

    return change


BAD_INFO = {
    'zero K': (with_info(k=np.zeros(9)), 'K in CameraInfo has focal lengths 0, 0 px'),
    'NaN K': (with_info(k=np.full(9, NAN)), 'K in CameraInfo contains NaN'),
    'other size': (with_info(width=1280, height=720), 'CameraInfo is for 1280x720 px but the image has 64x48'),
    'binning': (with_info(binning_x=2, binning_y=2), 'CameraInfo has binning 2x2: switch'),
    'ROI': (roi, 'region of interest (ROI) of 32x24 px at 8, 0: switch'),
    'other frame': (info_frame, "CameraInfo has frame_id 'elsewhere' but the image has 'camera_optical_frame'"),
    'unknown model': (with_info(distortion_model='ftheta'), "unknown distortion model 'ftheta': use one of"),
    'few coefficients': (with_info(d=[0.1, 0.2]), "distortion model 'plumb_bob' takes 4 or 5 coefficients, got 2"),
}
BAD_IMAGE = {
    'no data': (with_image(data=array.array('B')), 'image data are 0 bytes but 64x48 px'),
    'wrong step': (with_image(step=100), 'image step is 100 bytes but a row of 64 px rgb8 takes 192'),
    'unknown encoding': (with_image(encoding='32FC1'), "image encoding '32FC1' is not known"),
    'huge size': (with_image(width=60000, height=60000), 'image claims 60000x60000 = 3600.0 megapixels'),
    'empty frame': (frame(''), 'image frame_id is empty: set the frame of the camera driver'),
    'zero stamp': (stamp(0), 'image stamp is zero: the camera driver'),
}
CASES = {**BAD_INFO, **BAD_IMAGE}


def send_cases(peer, cases):
    """Round and round until each has its message in /diagnostics, three times at least; then wait until all is done.

    A slow node takes an image together with the CameraInfo of the next one, so no good image and good CameraInfo may
    come close to each other: hence the two groups.
    """
    rounds, end = 0, time.monotonic() + 120
    while rounds < 3 or not all(text in peer.texts() for _, text in cases.values()):
        assert time.monotonic() < end, [text for _, text in cases.values() if text not in peer.texts()]
        for change, _ in cases.values():
            image, info = peer.make_image(), peer.make_info()
            change(image, info)
            peer.info.publish(info)
            peer.spin(0.03)
            peer.image.publish(image)
            peer.spin(0.03)
        rounds += 1
    texts = peer.texts()
    peer.settle()
    return texts


@pytest.fixture(scope='module')
def outcome(node, peer):
    """All cases sent through one active node, each three times; then a good image."""
    peer.reconfigure(bundle='fake', image_transport='raw', image_rectified=False, use_detections=False)
    peer.send_until_detections()
    peer.settle()
    peer.forget()
    started = time.monotonic()
    texts = [send_cases(peer, BAD_INFO), send_cases(peer, BAD_IMAGE)]
    found = {'texts': '\n'.join(texts), 'log': node.text(), 'seconds': time.monotonic() - started}
    found.update({key: copy.copy(peer.got[key]) for key in ('detections', 'pose', 'tf')})
    found['after'] = peer.send_until_detections()
    found['alive'] = node.process.poll() is None
    return found


@pytest.mark.parametrize('name', CASES)
def test_each_case_has_one_clear_message(outcome, name):
    text = CASES[name][1]
    assert text in outcome['texts'], f'{name} is not in /diagnostics'
    most = 1 + outcome['seconds'] // LOG_PERIOD_S
    assert 1 <= outcome['log'].count(text) <= most, f'{name} is not in the log once or is not throttled'


def test_no_pose_came_out_of_them_and_the_node_lives(outcome):
    assert outcome['detections'] == []
    assert outcome['pose'] == []
    assert outcome['tf'] == []
    assert outcome['alive']
    assert outcome['after'].detections[0].id == 'mug_0'


def test_short_data_is_an_error_that_goes_away(outcome, peer):
    def short():
        image = peer.make_image()
        image.data = array.array('B', bytes(9000))
        return image

    text = 'image data are 9000 bytes but 64x48 px rgb8 with step 192 take 9216'
    peer.send_until(lambda: text in peer.texts() and peer.status('input').level == b'\x02', text, short)
    # A slow machine loses images, which is a warning of its own.
    peer.send_until(lambda: peer.status('input').level != b'\x02', 'the error goes away')


def test_rectified_with_p_zero(peer):
    peer.reconfigure(bundle='fake', image_rectified=True)
    peer.send_until_detections()
    peer.settle()
    peer.got['detections'].clear()

    def info():
        info = peer.make_info()
        info.p = np.zeros(12)
        return info

    text = 'image_rectified is true but P in CameraInfo is zero'
    peer.send_until(lambda: text in peer.texts(), text, info=info)
    assert peer.got['detections'] == []
    peer.reconfigure(image_rectified=False)


def test_a_repeated_stamp_is_processed_once(peer):
    peer.reconfigure(bundle='fake')
    peer.send_until_detections()
    # More than one image may have been sent until the first answer came.
    peer.settle()
    last = peer.got['detections'][-1].header.stamp
    peer.forget()
    peer.send_until(lambda: 'is repeated: image skipped' in peer.texts(), 'the message', lambda: peer.make_image(last))
    peer.settle()
    assert peer.got['tf'] == []
    assert peer.got['detections'] == []


def test_a_stamp_slightly_back_is_refused_and_a_bag_that_starts_over_is_followed(node, peer):
    peer.reconfigure(bundle='fake')
    peer.send_until_detections()
    peer.settle()
    last = peer.got['detections'][-1].header.stamp
    now = last.sec * 10**9 + last.nanosec
    peer.forget()
    peer.send_until(
        lambda: 'image stamp goes back by 0.500 s' in peer.texts(),
        'the message',
        lambda: peer.make_image(peer.stamp(now - 500_000_000)),
    )
    peer.settle()
    assert peer.got['detections'] == []
    peer._stamp = now - 60 * 10**9
    again = peer.send_until_detections().header.stamp
    assert again.sec < last.sec - 50
    peer.wait(lambda: 'tracking reset' in peer.texts(), 'the note')
    assert 'time went back by' in node.text()
    peer._stamp = now + 10 * 10**9


def test_truncated_and_lying_jpegs(peer):
    cv2 = pytest.importorskip('cv2')
    from sensor_msgs.msg import CompressedImage

    peer.reconfigure(bundle='fake', image_transport='compressed')
    data = cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))[1].tobytes()
    place = data.index(b'\xff\xc0') + 5
    huge = data[:place] + (10000).to_bytes(2, 'big') * 2 + data[place + 4 :]
    for broken, text in (
        (data[: len(data) // 2], 'JPEG is truncated: '),
        (huge, 'image claims 10000x10000 = 100.0 megapixels, more than the limit'),
        (b'no image at all', 'compressed image is neither JPEG nor PNG'),
    ):

        def make(broken=broken):
            return CompressedImage(format='jpeg', data=array.array('B', broken), header=peer.make_image().header)

        peer.send_until(lambda text=text: text in peer.texts(), text, make)
    assert peer.got['detections'] == []
    peer.reconfigure(bundle='fake', image_transport='raw')


def test_without_camera_info_and_without_images(start, new_peer):
    process = start(
        *('-r', '__node:=alone', '-r', 'image:=/camera/image', '-r', 'camera_info:=/nowhere'),
        *('-p', 'bundle:=fake', '-p', 'image_timeout_s:=0.5'),
    )
    peer = new_peer('/alone')
    assert peer.change('configure', 'activate') == [True, True]
    peer.wait(lambda: 'no image for' in peer.texts(), 'the missing image')
    peer.wait(lambda: 'nobody publishes /nowhere: remap camera_info' in peer.texts(), 'the missing CameraInfo')
    text = 'publisher(s) but nothing arrives: check that they run'
    peer.wait(lambda: text in peer.texts(), text)
    for _ in range(5):
        peer.image.publish(peer.make_image())
        peer.spin(0.05)
    assert peer.got['detections'] == []
    assert peer.status('input').level == b'\x02'
    assert process.stop() == 0


def test_the_other_transport_is_pointed_out(start, new_peer):
    start(
        *('-r', '__node:=transport', '-r', 'image:=/front/image', '-r', 'camera_info:=/front/info'),
        *('-p', 'bundle:=fake', '-p', 'image_timeout_s:=0.5'),
    )
    peer = new_peer('/transport')
    from sensor_msgs.msg import CompressedImage

    peer.node.create_publisher(CompressedImage, '/front/image/compressed', 1)
    assert peer.change('configure', 'activate') == [True, True]
    text = 'nobody publishes /front/image but /front/image/compressed exists: set image_transport:=compressed'
    peer.wait(lambda: text in peer.texts(), text)


def test_a_parameter_of_the_wrong_type_refuses_configure(start, new_peer, tmp_path):
    path = tmp_path / 'params.yaml'
    path.write_text('/**:\n  ros__parameters:\n    bundle: fake\n    min_distance: near\n    image_transport: zip\n')
    process = start('-r', '__node:=typed', '--params-file', str(path))
    peer = new_peer('/typed')
    assert peer.change('configure') == [False]
    peer.wait(lambda: 'parameter min_distance: expected a number' in peer.texts(), 'the message')
    assert "parameter image_transport: expected one of raw, compressed, got 'zip'" in process.text()
    assert peer.set(min_distance=0.1, image_transport='raw') == [(True, ''), (True, '')]
    assert peer.change('configure') == [True]
    assert process.stop() == 0


def test_a_parameter_file_that_is_not_yaml_ends_in_one_line(start, tmp_path):
    path = tmp_path / 'params.yaml'
    path.write_text('/**:\n  ros__parameters: [\n')
    process = start('--params-file', str(path))
    assert process.process.wait(120) == 2
    assert 'pose_estimator: cannot start:' in process.text()
    assert 'Traceback' not in process.text()


def test_an_incompatible_qos_is_named(start, new_peer):
    start(
        *('-r', '__node:=strict', '-r', 'image:=/best_effort_image', '-p', 'bundle:=fake'),
        *('-p', 'qos_overrides./best_effort_image.subscription.reliability:=reliable'),
    )
    peer = new_peer('/strict')
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    peer.node.create_publisher(Image, '/best_effort_image', qos_profile_sensor_data)
    assert peer.change('configure', 'activate') == [True, True]
    peer.wait(lambda: 'incompatible QoS (reliability)' in peer.texts(), 'the policy')
    assert 'set qos_overrides./best_effort_image.subscription.reliability' in peer.texts()
    assert peer.change('deactivate') == [True]
    peer.got['diagnostics'].clear()
    peer.wait(lambda: peer.status('input') and 'incompatible' not in peer.status('input').message, 'it to clear')


def test_a_qos_override_that_makes_no_sense_refuses_activate(start, new_peer):
    start(
        *('-r', '__node:=qos', '-r', 'image:=/q/image', '-p', 'bundle:=fake'),
        *('-p', 'qos_overrides./q/image.subscription.reliability:=sometimes'),
    )
    peer = new_peer('/qos')
    assert peer.change('configure', 'activate') == [True, False]
    peer.wait(lambda: 'activate failed: cannot open topic /q/image: ' in peer.texts(), 'the topic')
    assert peer.state() == 'inactive'


def test_a_qos_override_that_means_no_topic_names_the_nearest_one(start, new_peer):
    start(
        *('-r', '__node:=over', '-r', 'image:=/o/image', '-p', 'bundle:=fake'),
        *('-p', 'qos_overrides./o/image.subscription.reliability:=reliable'),
        *('-p', 'qos_overrides./over/poses_cov/mug.publisher.depth:=5'),
        *('-p', 'qos_overrides./o/image.subscription.reliabilty:=reliable'),
        *('-p', 'qos_overrides./over/detection.publisher.depth:=5'),
        *('-p', 'qos_overrides.image.subscription.depth:=5'),
    )
    peer = new_peer('/over')
    assert peer.change('configure') == [True]
    values = peer.values('node')
    told = sorted(text for key, text in values.items() if key.startswith('problem'))
    assert [text.split()[1] for text in told] == [
        'qos_overrides./o/image.subscription.reliabilty',
        'qos_overrides./over/detection.publisher.depth',
        'qos_overrides.image.subscription.depth',
    ]
    assert [text.split('did you mean ')[1] for text in told] == [
        'qos_overrides./o/image.subscription.reliability?',
        'qos_overrides./over/detections.publisher.depth?',
        'qos_overrides./o/image.subscription.depth?',
    ]
    assert peer.change('cleanup') == [True]
    assert not [key for key in peer.values('node') if key.startswith('problem')]


def test_a_qos_override_is_about_its_own_topic_only(start, new_peer):
    from rclpy.qos import ReliabilityPolicy

    start(
        *('-r', '__node:=own', '-p', 'bundle:=fake'),
        *('-p', 'qos_overrides./own/detections.publisher.reliability:=best_effort'),
    )
    peer = new_peer('/own')
    assert peer.change('configure') == [True]

    def reliability(topic):
        peer.wait(lambda: peer.node.get_publishers_info_by_topic(topic), topic)
        return peer.node.get_publishers_info_by_topic(topic)[0].qos_profile.reliability

    assert reliability('/own/detections') == ReliabilityPolicy.BEST_EFFORT
    assert reliability('/own/poses/mug') == ReliabilityPolicy.RELIABLE
    assert reliability('/own/markers') == ReliabilityPolicy.RELIABLE


def test_an_output_nobody_can_read_names_its_own_parameter(start, new_peer):
    start(
        *('-r', '__node:=loose', '-p', 'bundle:=fake'),
        *('-p', 'qos_overrides./loose/detections.publisher.reliability:=best_effort'),
    )
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from vision_msgs.msg import Detection3DArray

    peer = new_peer('/loose')
    strict = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    peer.node.create_subscription(Detection3DArray, '/loose/detections', lambda message: None, strict)
    assert peer.change('configure') == [True]
    text = '/loose/detections: the other side asks for an incompatible QoS (reliability), so nothing passes: '
    text += 'set qos_overrides./loose/detections.publisher.reliability'
    peer.wait(lambda: text in peer.texts(), text)


def test_a_publisher_that_cannot_be_made_leaves_none(start, new_peer):
    start(
        *('-r', '__node:=half', '-p', 'bundle:=fake'),
        *('-p', 'qos_overrides./half/overlay.publisher.reliability:=sometimes'),
    )
    peer = new_peer('/half')
    assert peer.change('configure') == [False]
    peer.wait(lambda: 'configure failed: cannot open topic ~/overlay: ' in peer.texts(), 'the topic')
    peer.wait(lambda: not peer.node.get_publishers_info_by_topic('/half/detections'), 'no publisher')
