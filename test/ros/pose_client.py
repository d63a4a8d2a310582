"""A client of ~/get_pose for the tests."""

import time

SUCCEEDED, CANCELED, ABORTED = 4, 5, 6
"""action_msgs/GoalStatus."""


class Client:
    """One client of ~/get_pose; its goals."""

    def __init__(self, peer):
        from rclpy.action import ActionClient
        from rclpy.qos import QoSProfile
        from tf2_msgs.action import LookupTransform

        self.peer, self.action = peer, LookupTransform
        # A client that waits for more than ten results at a time must have room for them.
        room = QoSProfile(depth=100)
        self.client = ActionClient(
            peer.node, LookupTransform, f'{peer.target}/get_pose', result_service_qos_profile=room
        )
        peer.wait(self.client.server_is_ready, 'the action server')

    def send(self, source, target='', oldest=0, timeout=30.0, **more):
        """Handle of a goal and the future of its result. Sent again when the answer to the goal got lost."""
        from builtin_interfaces.msg import Duration, Time

        goal = self.action.Goal(source_frame=source, target_frame=target, **more)
        goal.source_time = Time(sec=oldest // 10**9, nanosec=oldest % 10**9)
        goal.timeout = Duration(sec=int(timeout // 1), nanosec=int(timeout % 1 * 1e9))
        for _ in range(10):
            future = self.client.send_goal_async(goal)
            end = time.monotonic() + 10
            while not future.done() and time.monotonic() < end:
                self.peer.spin(0.02)
            if future.done():
                break
        handle = future.result()
        assert handle.accepted
        return handle, handle.get_result_async()

    def result(self, future):
        """(status of the goal, result)."""
        self.peer.wait(future.done, 'a result')
        return future.result().status, future.result().result

    def ask(self, *args, **kwargs):
        return self.result(self.send(*args, **kwargs)[1])

    def refused(self, *args, **kwargs):
        """(TF2Error, sentence) of a request that was not answered."""
        status, result = self.ask(*args, **kwargs)
        assert status == ABORTED
        assert result.transform.child_frame_id == ''
        return result.error.error, result.error.error_string
