import threading
import time

import pytest

from kd6d_ros.ros.worker import LatestItemWorker


@pytest.fixture
def made():
    workers = []

    def make(handle, failed=lambda error: None):
        workers.append(LatestItemWorker(handle, failed))
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop(60)


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'nothing happened in time'
        time.sleep(0.002)


def test_the_newest_item_wins_while_one_is_in_work(made):
    gate, seen, inside = threading.Event(), [], threading.Event()

    def handle(item):
        seen.append(item)
        inside.set()
        gate.wait(60)

    worker = made(handle)
    worker.open()
    worker.offer(1)
    assert inside.wait(60)
    for item in (2, 3, 4):
        worker.offer(item)
    gate.set()
    wait_for(lambda: len(seen) == 2)
    assert seen == [1, 4]
    assert (worker.offered, worker.dropped) == (4, 2)


def test_nothing_is_taken_while_closed_and_close_waits_for_the_item_in_work(made):
    seen, inside = [], threading.Event()
    worker = made(lambda item: (inside.set(), time.sleep(0.2), seen.append(item)))
    worker.offer(1)
    worker.open()
    worker.offer(2)
    assert inside.wait(60)
    worker.offer(3)
    assert worker.waiting == 2
    assert worker.close(60)
    assert seen == [2]
    worker.offer(4)
    worker.call(lambda: None)
    time.sleep(0.05)
    assert seen == [2]
    assert (worker.offered, worker.dropped, worker.waiting) == (3, 2, 0)


def test_close_says_when_the_item_takes_longer(made):
    gate, inside = threading.Event(), threading.Event()
    worker = made(lambda item: (inside.set(), gate.wait(60)))
    worker.open()
    worker.offer(1)
    assert inside.wait(60)
    assert not worker.close(0.05)
    gate.set()
    assert worker.close(60)


def test_calls_run_in_one_thread_and_bring_back_errors(made):
    threads = []
    worker = made(lambda item: threads.append(threading.get_ident()))
    worker.open()
    worker.offer(1)
    wait_for(lambda: threads)
    assert threads == [worker.call(threading.get_ident)]
    assert threads != [threading.get_ident()]
    with pytest.raises(ValueError, match='boom'):
        worker.call(lambda: (_ for _ in ()).throw(ValueError('boom')))
    assert worker.call(lambda: 7) == 7


def test_an_error_does_not_end_the_worker(made):
    errors, seen = [], []

    def handle(item):
        if item == 1:
            raise ZeroDivisionError('on purpose')
        seen.append(item)

    worker = made(handle, errors.append)
    worker.open()
    worker.offer(1)
    wait_for(lambda: errors)
    worker.offer(2)
    wait_for(lambda: seen == [2])
    assert isinstance(errors[0], ZeroDivisionError)


def test_stop_ends_the_thread_and_refuses_calls(made):
    worker = made(lambda item: None)
    assert worker.stop(60)
    with pytest.raises(RuntimeError, match='stopped'):
        worker.submit(lambda: 1)
