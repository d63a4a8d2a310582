"""Asking for poses over DDS: the node in a process of its own, clients here."""

import time

import pytest
from pose_client import ABORTED, CANCELED, SUCCEEDED, Client

pytestmark = pytest.mark.ros
CAMERA = 'camera_optical_frame'


def image_of_now(peer):
    return peer.make_image(peer.stamp(time.time_ns()))


def nanoseconds(stamp):
    return stamp.sec * 10**9 + stamp.nanosec


def enable(peer, on):
    from std_srvs.srv import SetBool

    peer._clients.setdefault('enable', peer.node.create_client(SetBool, f'{peer.target}/enable'))
    return peer.ask('enable', SetBool.Request(data=on))


@pytest.fixture(scope='module')
def asked(module_start, module_peer):
    """A node that is asked, and its peer."""
    module_start(
        *('-r', '__node:=asked', '-r', '__ns:=/cell', '-r', 'image:=/camera/image', '-r', 'camera_info:=/camera/info'),
        *('-p', 'bundle:=fake:objects=mug+can'),
    )
    return module_peer('/cell/asked')


@pytest.fixture
def peer(asked):
    asked.reconfigure(bundle='fake:objects=mug+can')
    return asked


@pytest.fixture
def client(peer):
    return Client(peer)


def answered(peer, future):
    """Send images until a result is there."""
    peer.send_until(future.done, 'a result', lambda: image_of_now(peer))


def test_a_request_is_answered_by_an_image_taken_after_it(peer, client):
    from tf2_msgs.msg import TF2Error

    peer.send_until_detections(lambda: image_of_now(peer))
    before = time.time_ns()
    for target in ('', CAMERA):
        _, future = client.send('mug', target)
        answered(peer, future)
        status, result = client.result(future)
        assert (status, result.error.error, result.error.error_string) == (SUCCEEDED, TF2Error.NO_ERROR, '')
        transform = result.transform
        assert (transform.header.frame_id, transform.child_frame_id) == (CAMERA, 'cell/mug_0')
        assert nanoseconds(transform.header.stamp) >= before
        place = transform.transform.translation
        assert (place.x, place.y, place.z) == (0.1, -0.05, 0.7)
        assert transform.transform.rotation.z == pytest.approx(0.5**0.5)
    stamp = transform.header.stamp
    # The answer goes out before the topics.
    peer.wait(lambda: stamp in [item.header.stamp for item in peer.got['detections']], 'the same image on the topic')


def test_an_instance_can_be_named_and_an_older_image_be_enough(peer, client):
    peer.send_until_detections(lambda: image_of_now(peer))
    peer.settle()
    last = peer.got['detections'][-1].header.stamp
    for source in ('can', 'can_0', 'cell/can_0'):
        status, result = client.ask(source, oldest=nanoseconds(last), timeout=0.0)
        assert status == SUCCEEDED
        assert result.transform.child_frame_id == 'cell/can_0'
        assert result.transform.header.stamp == last


def test_off_means_no_inference_on_the_stream_but_a_request_looks_at_the_next_image(peer, client):
    peer.send_until_detections(lambda: image_of_now(peer))
    response = enable(peer, False)
    assert response.success
    assert response.message == 'not streaming: only ~/get_pose looks at images'
    peer.settle()
    peer.forget()
    off = time.time_ns()
    dropped = 'images dropped: streaming is off'
    peer.send_until(
        lambda: int(peer.values('input').get(dropped, 0)) > 2, 'images are dropped', lambda: image_of_now(peer)
    )
    assert peer.got['detections'] == []
    _, future = client.send('mug')
    answered(peer, future)
    assert client.result(future)[0] == SUCCEEDED
    peer.settle()
    assert int(peer.values('input')['images looked at on request']) >= 1
    assert (peer.got['detections'], peer.got['pose']) == ([], [])
    # Other nodes of this test run share the images and /tf; and its reader may be late with what was sent before.
    transforms = [item for message in peer.got['tf'] for item in message.transforms]
    own = [item for item in transforms if item.child_frame_id.startswith('cell/')]
    assert [item for item in own if nanoseconds(item.header.stamp) > off] == []
    assert enable(peer, True).message == 'streaming'
    peer.send_until_detections(lambda: image_of_now(peer))


def test_a_node_can_start_with_streaming_off(peer, client):
    peer.reconfigure(bundle='fake', streaming=False)
    peer.send_until(
        lambda: 'images dropped: streaming is off' in peer.values('input'), 'a drop', lambda: image_of_now(peer)
    )
    assert peer.got['detections'] == []
    _, future = client.send('mug')
    answered(peer, future)
    assert client.result(future)[0] == SUCCEEDED
    peer.reconfigure(bundle='fake', streaming=True)


def test_requests_that_make_no_sense_are_refused_with_a_sentence(peer, client):
    from tf2_msgs.msg import TF2Error

    peer.send_until_detections(lambda: image_of_now(peer))
    assert client.refused('cup') == (
        TF2Error.LOOKUP_ERROR,
        "unknown object 'cup': this node knows can, mug, and instances such as can_0",
    )
    assert client.refused('mug_7') == (
        TF2Error.LOOKUP_ERROR,
        'mug_7 cannot be: max_instances is 1, so numbers go from 0 to 0',
    )
    assert client.refused('')[0] == TF2Error.LOOKUP_ERROR
    assert client.refused('mug', advanced=True)[0] == TF2Error.INVALID_ARGUMENT_ERROR
    assert client.refused('mug', timeout=-1.0) == (
        TF2Error.INVALID_ARGUMENT_ERROR,
        'timeout and source_time must not be negative',
    )
    assert client.refused('mug', timeout=3600.0) == (
        TF2Error.INVALID_ARGUMENT_ERROR,
        'timeout must be less than 3600 s',
    )
    error, text = client.refused('mug', 'base_link')
    assert error == TF2Error.LOOKUP_ERROR
    assert text.startswith(
        "target_frame 'base_link' is not the camera frame 'camera_optical_frame', which needs tf2_ros"
    )
    assert text.endswith('sudo apt install ros-$ROS_DISTRO-tf2-ros-py')


def test_a_timeout_says_what_was_seen_meanwhile(peer, client):
    from tf2_msgs.msg import TF2Error

    assert client.refused('mug', timeout=0.3) == (
        TF2Error.TIMEOUT_ERROR,
        'no image came within 0.3 s: see /diagnostics',
    )
    error, text = client.refused('mug', timeout=0.0)
    assert error == TF2Error.TIMEOUT_ERROR
    assert 'set a timeout to wait for one' in text
    # An old bag without --clock: no image is as new as the request.
    _, future = client.send('mug', timeout=3.0)
    peer.send_until(future.done, 'the timeout')
    status, result = client.result(future)
    assert status == ABORTED
    assert 'were older than asked for' in result.error.error_string
    assert 'stamps of another clock need use_sim_time and --clock' in result.error.error_string
    peer.reconfigure(bundle='fake:nothing')
    _, future = client.send('mug', timeout=3.0)
    answered(peer, future)
    error = client.result(future)[1].error
    assert error.error == TF2Error.TIMEOUT_ERROR
    assert error.error_string.startswith('mug was not accepted in any of ')
    assert error.error_string.endswith('images within 3 s (inliers)')


def test_a_request_can_be_cancelled(peer, client):
    handle, future = client.send('mug', timeout=600.0)
    assert not future.done()
    cancel = handle.cancel_goal_async()
    peer.wait(cancel.done, 'the answer to the cancellation')
    status, result = client.result(future)
    assert (status, result.error.error_string) == (CANCELED, 'cancelled by the client')
    assert peer.values('estimation')['requests waiting'] == '0'


def test_clients_do_not_preempt_each_other(peer, client, module_peer):
    other = Client(module_peer('/cell/asked'))
    waiting = [client.send('mug'), client.send('can'), client.send('mug', timeout=600.0), other.send('mug_0')]
    assert peer.values('estimation')['requests waiting'] == '4'
    cancel = waiting[2][0].cancel_goal_async()
    peer.wait(cancel.done, 'the cancellation')
    image = image_of_now(peer)
    peer.repeat(
        lambda: (peer.send(image), other.peer.spin(0.05)),
        lambda: all(future.done() for _, future in (*waiting[:2], waiting[3])),
        'the answers',
    )
    assert [client.result(future)[0] for _, future in waiting] == [SUCCEEDED, SUCCEEDED, CANCELED, SUCCEEDED]
    stamps = {nanoseconds(waiting[i][1].result().result.transform.header.stamp) for i in (0, 1, 3)}
    assert stamps == {nanoseconds(image.header.stamp)}


def test_a_node_that_is_not_active_says_so(peer, client):
    _, future = client.send('mug', timeout=600.0)
    assert peer.change('deactivate') == [True]
    status, result = client.result(future)
    assert (status, result.error.error_string) == (ABORTED, 'the node was deactivated while the request waited')
    text = '/cell/asked is not active: ros2 lifecycle set /cell/asked configure, then activate'
    assert client.refused('mug')[1] == text
    response = enable(peer, False)
    assert (response.success, response.message) == (False, text)
    assert peer.change('cleanup') == [True]
    assert client.refused('mug')[1] == text


def test_many_requests_leave_nothing_behind(peer, client):
    """More than may wait at a time: the surplus is refused at once, the others are answered."""
    from kd6d_ros.ros.requests import MOST

    futures = [client.send('mug', timeout=600.0)[1] for _ in range(MOST)]
    assert client.refused('mug')[1] == f'{MOST} requests wait already: ask again later'
    peer.send_until(lambda: all(future.done() for future in futures), 'all', lambda: image_of_now(peer))
    assert {client.result(future)[0] for future in futures} == {SUCCEEDED}
    assert peer.values('estimation')['requests waiting'] == '0'
