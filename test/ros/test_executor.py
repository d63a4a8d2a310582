"""Callbacks are handed to a thread once, also when the interpreter is busy; one that hangs or fails hurts no other."""

from __future__ import annotations

import threading
import time

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup  # noqa: E402

from kd6d_ros.ros.executor import OnceExecutor  # noqa: E402


class Spinner:
    """A node in a context of its own, spun in a thread; counts what its executor submits."""

    def __init__(self, threads: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('spinner', context=self.context)
        self.failures: list[BaseException] = []
        self.executor = OnceExecutor(threads, self.failures.append, context=self.context)
        self.executor.add_node(self.node)
        self.submitted = 0
        self._submit = self.executor._pool.submit
        self.executor._pool.submit = self._count
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def _count(self, *job):
        self.submitted += 1
        return self._submit(*job)

    def every(self, period, callback):
        self.node.create_timer(period, callback, callback_group=MutuallyExclusiveCallbackGroup())

    def stop(self):
        self.context.try_shutdown()
        self.thread.join(10)
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def spinner(ros):
    made = []

    def make(threads=3):
        made.append(Spinner(threads))
        return made[-1]

    yield make
    for item in made:
        item.stop()


def wait_for(condition, patience=60.0):
    end = time.monotonic() + patience
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_each_callback_is_submitted_once_while_others_hold_the_interpreter(spinner):
    busy = threading.Event()
    hogs = [threading.Thread(target=lambda: [None for _ in iter(busy.is_set, True)], daemon=True) for _ in range(2)]
    for hog in hogs:
        hog.start()
    try:
        node, ran = spinner(), []
        node.every(0.02, lambda: ran.append(1))
        wait_for(lambda: len(ran) >= 30)
        assert node.submitted <= len(ran) + 3  # rclpy's MultiThreadedExecutor: twice as many
    finally:
        busy.set()


def test_a_callback_that_blocks_keeps_no_other_from_running(spinner):
    node, release, ran = spinner(), threading.Event(), []
    node.every(0.05, lambda: release.wait(60))
    node.every(0.02, lambda: ran.append(1))
    wait_for(lambda: len(ran) >= 10)
    release.set()


def test_more_waiting_callbacks_than_threads(spinner):
    node, gate, ran = spinner(threads=1), threading.Event(), []
    node.every(0.02, lambda: gate.wait(60))
    node.every(0.02, lambda: ran.append(1))
    time.sleep(0.5)
    assert node.submitted <= 4
    gate.set()
    wait_for(lambda: len(ran) >= 5)


def test_a_failure_is_reported_and_the_rest_goes_on(spinner):
    node, ran = spinner(), []

    def fail():
        raise ValueError('no such transition')

    node.every(0.02, fail)
    node.every(0.02, lambda: ran.append(1))
    wait_for(lambda: len(node.failures) >= 2 and len(ran) >= 5)
    assert {str(error) for error in node.failures} == {'no such transition'}


@pytest.mark.parametrize('group', [MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup])
def test_what_could_not_be_taken_once_is_looked_at_again(spinner, group):
    node, ran = spinner(), []
    take, faults = node.executor._take_timer, [RuntimeError('timer is canceled')]

    def take_later(timer):
        if faults:
            raise faults.pop()
        return take(timer)

    node.executor._take_timer = take_later
    node.node.create_timer(0.02, lambda: ran.append(1), callback_group=group())
    wait_for(lambda: len(ran) >= 3)
    assert [str(error) for error in node.failures] == ['timer is canceled']
