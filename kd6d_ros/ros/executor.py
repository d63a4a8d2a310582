"""An executor of a few threads that hands each callback to them once.

rclpy's MultiThreadedExecutor (Jazzy) submits a callback again and again until the thread that shall run it has begun.
While the estimator works on an image that takes a while, in which the executor holds the interpreter, queues copies
and lets nobody else run: a third of the images was lost, and single steps took 100 to 600 ms instead of 3.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Optional, Set

from rclpy.executors import Executor, ExternalShutdownException, ShutdownException, TimeoutException

PAUSE_S = 0.001
"""How long the executor leaves the interpreter to the others when it meets a callback that has not begun."""


class OnceExecutor(Executor):
    """Runs callbacks in `threads` threads; `failed` gets what one of them raises."""

    def __init__(self, threads: int, failed: Callable[[BaseException], None], *, context: Any = None) -> None:
        super().__init__(context=context)
        self._failed = failed
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix='callback')
        self._changed = threading.Condition()
        self._given: Set[Any] = set()

    def spin_once(self, timeout_sec: Optional[float] = None) -> None:
        try:
            task, _, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ExternalShutdownException, ShutdownException, TimeoutException):
            return
        with self._changed:
            if task in self._given:
                self._changed.wait(PAUSE_S)
                return
            self._given.add(task)
        self._pool.submit(self._run, task)

    def _make_handler(self, entity: Any, node: Any, take_from_wait_list: Callable[[Any], Any], *rest: Any) -> Any:
        """As rclpy's, which never looks again at a timer, subscription or service that could not be taken once."""

        def take(item: Any) -> Any:
            try:
                return take_from_wait_list(item)
            except Exception as error:
                self._failed(error)
                return None

        return super()._make_handler(entity, node, take, *rest)

    def _run(self, task: Any) -> None:
        try:
            task()
        finally:
            with self._changed:
                self._given.discard(task)
                self._changed.notify_all()
        if task.done() and task.exception() is not None:
            self._failed(task.exception())

    def shutdown(self, timeout_sec: Optional[float] = None) -> bool:
        """As rclpy's, and no thread takes up another callback."""
        ended: bool = super().shutdown(timeout_sec)
        self._pool.shutdown(wait=False, cancel_futures=True)
        return ended
