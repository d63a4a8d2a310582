"""Bringing a node up from another process, when an answer gets lost on the way."""

import threading

import pytest

pytestmark = pytest.mark.ros


@pytest.fixture
def nodes(ros):
    """A server, which is spun in a thread, and a client."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    # bring_up spins in the default context.
    rclpy.init()
    server, client = rclpy.create_node('server'), rclpy.create_node('client')
    executor = SingleThreadedExecutor()
    executor.add_node(server)
    ended = threading.Event()

    def spin():
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    yield server, client
    ended.set()
    thread.join(60)
    executor.shutdown()
    for node in (server, client):
        node.destroy_node()
    rclpy.try_shutdown()


def test_a_lost_answer_is_asked_for_again_and_no_transition_twice(nodes):
    from lifecycle_msgs.srv import ChangeState, GetState

    from kd6d_ros.ros.bring_up import STEPS, bring_up

    asked, changed = [], []

    def change(request, response):
        changed.append(request.transition.id)
        response.success = True
        return response

    server, client = nodes
    server.create_service(ChangeState, '/served/change_state', change)
    state = server.create_service(GetState, '/served/get_state', lambda request, response: response)
    answer = state.send_response

    def lose_the_first(response, header):
        asked.append(header)
        if len(asked) > 1:
            answer(response, header)

    state.send_response = lose_the_first
    assert bring_up(client, '/served', 60.0) > 0
    assert len(asked) >= 2
    assert changed == [transition for _, transition in STEPS]
