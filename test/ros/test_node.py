"""The node over DDS: states, outputs, parameters, the newest image. One process serves all of it."""

import array

import numpy as np
import pytest

pytestmark = pytest.mark.ros


def test_a_failed_configure_says_why_and_can_be_tried_again(node, peer):
    peer.release()
    assert peer.change('activate') == [False]
    peer.set(bundle='missing')
    assert peer.change('configure') == [False]
    assert peer.state() == 'unconfigured'
    peer.wait(lambda: 'configure failed: missing: no such bundle' in peer.texts(), 'the failure in /diagnostics')
    assert peer.status('node').level == b'\x02'
    assert 'configure failed: missing: no such bundle' in node.text()
    peer.set(bundle='fake')
    assert peer.change('configure') == [True]
    assert peer.state() == 'inactive'
    assert peer.change('activate') == [True]
    assert peer.state() == 'active'
    peer.got['diagnostics'].clear()
    peer.wait(lambda: peer.status('node'), 'diagnostics')
    assert 'configure failed: missing' not in peer.texts()


def test_a_misspelt_override_is_reported_and_a_whole_number_accepted(node, peer):
    peer.wait(lambda: 'parameter min_scor is not known' in peer.texts(), 'the typo in /diagnostics')
    assert 'did you mean min_score?' in node.text()
    assert peer.get('min_distance').double_value == 1.0


def test_an_object_name_that_ros_does_not_allow(peer):
    peer.release()
    peer.set(bundle='fake:objects=002_can')
    assert peer.change('configure') == [False]
    peer.wait(lambda: "object name '002_can' is not allowed in a ROS topic" in peer.texts(), 'the bad name')
    assert peer.state() == 'unconfigured'


def test_outputs_carry_the_header_of_the_image_and_the_pose(peer):
    peer.reconfigure(bundle='fake')

    def answered():
        stamps = {item.header.stamp.nanosec for item in peer.got['pose']}
        stamps &= {item.transforms[0].header.stamp.nanosec for item in peer.got['tf']}
        return [item for item in peer.got['detections'] if item.header.stamp.nanosec in stamps]

    peer.send_until(answered, 'detections, pose and TF of one image')
    peer.settle()
    detections = answered()[0]
    header = detections.header
    assert header.frame_id == 'camera_optical_frame'
    (detection,) = detections.detections
    assert detection.header == header
    assert detection.id == 'mug_0'
    result = detection.results[0]
    assert result.hypothesis.class_id == 'mug'
    assert result.hypothesis.score == pytest.approx(0.9)
    pose = next(item for item in peer.got['pose'] if item.header == header).pose
    assert result.pose.pose == pose
    assert (pose.position.x, pose.position.y, pose.position.z) == (0.1, -0.05, 0.7)
    # A quarter turn about z, x y z w.
    np.testing.assert_allclose(
        [pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w],
        [0, 0, np.sqrt(0.5), np.sqrt(0.5)],
        atol=1e-12,
    )
    assert not np.any(result.pose.covariance)
    centre = detection.bbox.center.position
    np.testing.assert_allclose([centre.x, centre.y, centre.z], [0.1, -0.05, 0.71], atol=1e-12)
    size = detection.bbox.size
    np.testing.assert_allclose([size.x, size.y, size.z], [0.1, 0.06, 0.06], atol=1e-12)
    tf = [item for item in peer.got['tf'] if item.transforms[0].header == header]
    assert len(tf) == 1
    (transform,) = tf[0].transforms
    assert transform.child_frame_id == 'left/mug_0'
    assert transform.transform.translation.z == 0.7
    assert transform.transform.rotation == pose.orientation


def test_every_object_has_its_topic_and_one_tf_message_serves_all(peer):
    from geometry_msgs.msg import PoseStamped

    peer.listen('can', PoseStamped, '/left/pose_estimator/poses/can')
    peer.reconfigure(bundle='fake:objects=mug+can', tf_prefix='cell_')
    detections = peer.send_until_detections()
    assert [item.id for item in detections.detections] == ['mug_0', 'can_0']
    peer.wait(lambda: peer.got['can'], 'the second topic')
    names = [[item.child_frame_id for item in message.transforms] for message in peer.got['tf']]
    assert all(item == ['cell_mug_0', 'cell_can_0'] for item in names)
    peer.reconfigure(bundle='fake:objects=mug+can', objects='can', tf_prefix='auto')
    detections = peer.send_until_detections()
    assert [item.id for item in detections.detections] == ['can_0']
    peer.reconfigure(bundle='fake', objects='')


def test_nothing_seen_is_an_empty_list_and_no_pose(peer):
    peer.reconfigure(bundle='fake:nothing')
    assert peer.send_until_detections().detections == []
    peer.settle()
    assert peer.got['pose'] == []
    assert peer.got['tf'] == []
    values = peer.values('estimation')
    assert int(values['rejected: inliers']) >= 1
    assert values['poses published'] == '0'


def test_covariance_only_where_there_is_one(peer):
    from geometry_msgs.msg import PoseWithCovarianceStamped

    topic = '/left/pose_estimator/poses_cov/mug'
    peer.reconfigure(bundle='fake')
    peer.send_until_detections()
    assert topic not in dict(peer.node.get_topic_names_and_types())
    peer.listen('covariance', PoseWithCovarianceStamped, topic)
    peer.reconfigure(bundle='fake:covariance')
    peer.send_until(lambda: peer.got['covariance'], 'a covariance')
    matrix = np.reshape(peer.got['covariance'][0].pose.covariance, (6, 6))
    np.testing.assert_array_equal(matrix, np.diag(np.arange(1.0, 7.0)))


def test_overlay_markers_and_timing_only_when_someone_listens(peer):
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image
    from visualization_msgs.msg import Marker, MarkerArray

    peer.reconfigure(bundle='fake:mesh', marker_lifetime_s=0.25)
    base = '/left/pose_estimator/'
    subscriptions = [
        peer.listen('overlay', Image, base + 'overlay'),
        peer.listen('markers', MarkerArray, base + 'markers'),
        peer.listen('timing', DiagnosticArray, base + 'timing'),
    ]
    peer.send_until(lambda: all(peer.got[key] for key in ('overlay', 'markers', 'timing')), 'all three')
    overlay = peer.got['overlay'][0]
    assert (overlay.width, overlay.height, overlay.encoding, overlay.header.frame_id) == (
        *(64, 48, 'rgb8'),
        'camera_optical_frame',
    )
    marker = peer.got['markers'][-1].markers[0]
    assert (marker.ns, marker.id, marker.type, marker.action) == ('mug', 0, Marker.TRIANGLE_LIST, Marker.ADD)
    assert len(marker.points) == 12
    assert marker.lifetime.nanosec == 250_000_000
    image, window = peer.got['timing'][-1].status
    assert (image.name, window.name) == ('left/pose_estimator: timing', 'left/pose_estimator: window')
    stages = {item.key: item.value for item in image.values}
    assert {'image_decode_s', 'inference_s', 'publish_s', 'decoded_to_published_s', 'queue_s'} <= set(stages)
    assert float(stages['inference_s']) == 0.001
    # The stamps of these images are of long ago.
    assert stages['age_s'] == 'unknown'
    figures = {item.key: item.value for item in window.values}
    assert figures['engine'] == 'fake engine'
    assert [float(figures[f'inference_{name}_s']) for name in ('p50', 'p95', 'p99')] == [0.001] * 3
    assert int(figures['images_processed']) >= 1
    assert int(figures['images_arrived']) >= int(figures['images_processed'])
    assert 'age_p50_s' not in figures
    peer.reconfigure(bundle='fake')
    peer.send_until(lambda: any(item.markers[0].type == Marker.CUBE for item in peer.got['markers']), 'a cube')
    peer.change('deactivate')
    peer.wait(lambda: peer.got['markers'][-1].markers[0].action == Marker.DELETEALL, 'the markers to go')
    for subscription in subscriptions:
        peer.node.destroy_subscription(subscription)


def test_parameters_change_while_running_within_their_range(peer):
    peer.reconfigure(bundle='fake')
    assert peer.set(min_score=0.95) == [(True, '')]
    peer.wait(lambda: peer.send_until_detections().detections[0].results[0].hypothesis.score == 0.95, 'the new score')
    assert not peer.set(min_score=7.0)[0][0]
    ((accepted, reason),) = peer.set(image_transport='compressed')
    assert not accepted
    assert reason == 'parameter image_transport takes effect at configure: clean up the node first'
    ((accepted, reason),) = peer.set(min_distance=20.0)
    assert not accepted
    assert 'min_distance' in reason
    peer.set(publish_tf=False)
    peer.settle()
    peer.got['tf'].clear()
    peer.send_until_detections()
    peer.settle()
    assert peer.got['tf'] == []
    assert peer.set(publish_tf=True, min_score=0.2) == [(True, ''), (True, '')]


def test_parameters_that_are_none_are_refused_or_answered(node, peer):
    from rcl_interfaces.msg import Parameter, ParameterValue
    from rcl_interfaces.srv import SetParameters

    (answer,) = peer.set(**{'': 'x'})
    assert answer == (False, 'a parameter without a name cannot be set')
    (answer,) = peer.set(nobody=1)
    assert not answer[0]
    # A type that does not exist makes rclpy raise: the caller must not wait for ever.
    wrong = Parameter(name='track', value=ParameterValue(type=77))
    assert peer.ask('set_parameters', SetParameters.Request(parameters=[wrong])).results == []
    text = 'a callback failed and was skipped: ValueError: 77 is not a valid Parameter.Type'
    peer.wait(lambda: text in peer.texts(), text)
    assert peer.get('track').bool_value


def test_parameters_describe_themselves(peer):
    from rcl_interfaces.srv import DescribeParameters

    names = ['max_distance', 'image_transport', 'threads', 'min_score']
    response = peer.ask('describe_parameters', DescribeParameters.Request(names=names))
    distance, transport, threads, score = response.descriptors
    assert distance.floating_point_range[0].to_value == 1000.0
    assert 'Can change at any time' in distance.description
    assert transport.additional_constraints == 'one of: raw, compressed'
    assert threads.integer_range[0].to_value == 256
    assert (score.floating_point_range[0].from_value, score.floating_point_range[0].to_value) == (-1.0, 1.0)
    assert '-1 takes the value of the bundle' in score.description


@pytest.fixture
def gate(tmp_path):
    """A file; as long as it exists, the fake node is held where its bundle parameter says so."""
    path = tmp_path / 'gate'
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def inside(gate):
    return gate.with_name('gate.inside').exists()


def test_services_answer_while_configure_runs(peer, gate):
    # Once before: opening a topic for the first time sets parameters, too.
    peer.reconfigure(bundle='fake')
    peer.release()
    assert peer.set(bundle=f'fake:hold_load={gate}') == [(True, '')]
    configuring = peer.begin('configure')
    peer.wait(lambda: inside(gate), 'the load')
    assert peer.state() == 'configuring'
    assert peer.get('bundle').string_value == f'fake:hold_load={gate}'
    ((accepted, reason),) = peer.set(bundle='fake')
    assert not accepted
    assert reason == 'parameter bundle takes effect at configure: clean up the node first'
    assert peer.set(min_score=0.95) == [(True, '')]
    assert peer.change('configure') == [False]
    assert not configuring.done()
    gate.unlink()
    assert peer.finish(configuring)
    assert peer.change('activate') == [True]
    assert peer.send_until_detections().detections[0].results[0].hypothesis.score == 0.95
    assert peer.set(min_score=0.2) == [(True, '')]


def test_the_newest_image_wins_and_services_answer_during_inference(peer, gate):
    peer.reconfigure(bundle=f'fake:hold={gate}', max_wait_s=3600.0)
    stamps = []

    def image():
        image = peer.make_image()
        stamps.append(image.header.stamp)
        return image

    def replaced():
        return int(peer.values('input')['images replaced by a newer one'])

    peer.send_until(lambda: inside(gate), 'an image in work', image)

    def burst():
        for _ in range(3):
            peer.send(image())
            peer.spin(0.05)

    peer.repeat(burst, lambda: replaced() >= 3, 'images were replaced')
    peer.settle(waiting=2)
    assert peer.get('bundle').string_value == f'fake:hold={gate}'
    assert peer.got['detections'] == []
    count = replaced()
    gate.unlink()
    peer.settle()
    assert len(peer.got['detections']) == 2
    # Those that were replaced and the one in work came before it.
    assert stamps.index(peer.got['detections'][1].header.stamp) > count


def test_every_image_that_arrives_is_counted(peer):
    peer.reconfigure(bundle='fake')
    assert peer.change('deactivate') == [True]
    activating = peer.begin('activate')
    while not activating.done():
        peer.image.publish(peer.make_image())
        peer.spin(0.002)

    def count(name):
        return int(peer.values('input')[f'images {name}'])

    def burst():
        for _ in range(3):
            peer.image.publish(peer.make_image())
            peer.spin(0.05)

    # Without CameraInfo only the newest one waits for it.
    peer.repeat(burst, lambda: count('replaced by a newer one'), 'images were replaced')
    peer.send_until_detections()
    peer.repeat(lambda: peer.send(peer.make_image(peer.stamp(0))), lambda: count('refused'), 'images were refused')
    peer.settle()
    values = peer.values('input')
    arrived, replaced, refused = (
        int(values[f'images {name}']) for name in ('arrived', 'replaced by a newer one', 'refused')
    )
    processed = int(next(item.value for item in peer.status('estimation').values if item.key == 'images processed'))
    assert processed >= 1
    assert arrived == replaced + refused + processed


def test_images_that_come_all_at_once_are_counted_one_by_one(peer, gate):
    # A camera driver or a player that was held up sends what it owes in one go. Only the newest is looked at, but no
    # image may vanish without a trace: DDS does not say what a full queue of a reader threw away.
    peer.reconfigure(bundle=f'fake:hold={gate}', max_wait_s=3600.0)
    peer.send_until(lambda: inside(gate), 'an image in work')

    def arrived():
        return int(peer.values('input')['images arrived'])

    before = arrived()
    burst = [peer.make_image() for _ in range(8)]
    for image in burst:
        peer.image.publish(image)
    peer.repeat(lambda: peer.spin(0.2), lambda: arrived() >= before + len(burst), 'every image was counted')
    assert arrived() == before + len(burst)
    gate.unlink()
    peer.settle()
    assert peer.got['detections'][-1].header.stamp == burst[-1].header.stamp


def test_deactivate_waits_for_the_image_in_work_and_then_nothing_comes(peer, gate):
    peer.reconfigure(bundle=f'fake:hold={gate}')
    peer.send_until(lambda: inside(gate), 'an image in work')
    deactivating = peer.begin('deactivate')
    peer.spin(0.5)
    assert not deactivating.done()
    gate.unlink()
    assert peer.finish(deactivating)
    peer.spin(0.2)
    peer.got['detections'].clear()
    for _ in range(5):
        peer.send(peer.make_image())
    peer.spin(0.8)
    assert peer.got['detections'] == []
    assert peer.state() == 'inactive'
    assert peer.change('activate', 'deactivate', 'cleanup', 'configure') == [True] * 4


def test_a_fault_in_the_estimator_is_reported_and_survived(node, peer):
    peer.reconfigure(bundle='fake:crash')
    peer.send_until(lambda: 'ZeroDivisionError: on purpose' in peer.texts(), 'the fault in /diagnostics')
    assert peer.got['detections'] == []
    peer.reconfigure(bundle='fake')
    peer.send_until_detections()
    assert node.process.poll() is None


def test_compressed_images_come_from_the_resolved_topic(peer):
    cv2 = pytest.importorskip('cv2')
    from sensor_msgs.msg import CompressedImage

    peer.reconfigure(bundle='fake', image_transport='compressed')
    data = cv2.imencode('.jpg', np.zeros((48, 64, 3), np.uint8))[1].tobytes()

    def jpeg():
        image = CompressedImage(format='jpeg', data=array.array('B', data))
        image.header = peer.make_image().header
        return image

    assert peer.send_until_detections(jpeg).detections[0].id == 'mug_0'


def test_detections_of_the_same_stamp_are_used(peer):
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    publisher = peer.node.create_publisher(Detection2DArray, '/left/detections_in', 10)
    peer.reconfigure(bundle='fake:objects=mug+can', image_transport='raw', use_detections=True)
    peer.wait(publisher.get_subscription_count, 'the subscription')
    boxes = Detection2DArray()
    for name in ('2', 'unknown'):  # the BOP id of 'can'
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = name, 0.8
        boxes.detections.append(Detection2D(results=[hypothesis]))

    def image_after_boxes():
        image = peer.make_image()
        boxes.header = image.header
        publisher.publish(boxes)
        peer.spin(0.05)
        return image

    assert [item.id for item in peer.send_until_detections(image_after_boxes).detections] == ['can_0']
    text = "detections_in: class 'unknown' is not known and is ignored: the detector must call an object 1, 2, can, mug"
    peer.wait(lambda: text in peer.texts(), text)
    peer.settle(peer.values('input')['images waiting'])
    image = peer.make_image()
    boxes.header = image.header
    before = peer.values('input')['images waiting']
    peer.got['detections'].clear()
    peer.repeat(lambda: peer.send(image), lambda: peer.values('input')['images waiting'] != before, 'it waits')
    assert peer.got['detections'] == []
    peer.repeat(lambda: (publisher.publish(boxes), peer.spin(0.3)), lambda: peer.got['detections'], 'its answer')
    assert peer.got['detections'][0].header == image.header
    peer.reconfigure(bundle='fake', use_detections=False)
    peer.node.destroy_publisher(publisher)


def test_a_node_that_is_told_nowhere_to_look_says_so(peer):
    text = 'nothing tells the node where to look (this bundle cannot search an image): set find or use_detections'
    peer.reconfigure(bundle='fake:blind')
    peer.wait(lambda: peer.status('estimation') and peer.status('estimation').message == text, text)
    peer.reconfigure(bundle='fake')
    peer.wait(lambda: peer.status('estimation') and peer.status('estimation').message == 'ok', 'ok')
    assert peer.set(find=False) == [(True, '')]
    text = text.replace('this bundle cannot search an image', 'find is false')
    peer.wait(lambda: peer.status('estimation').message == text, text)
    assert peer.set(find=True) == [(True, '')]
    peer.wait(lambda: peer.status('estimation').message == 'ok', 'ok')
