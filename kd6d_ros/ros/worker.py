"""One thread that owns the engine, and one slot: while it works, the newest frame replaces the waiting one."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Callable, Deque, Generic, Optional, Tuple, TypeVar

Item = TypeVar('Item')


class WorkerStoppedError(RuntimeError):
    """The worker does not take, or does not finish, a job any more."""


class LatestItemWorker(Generic[Item]):
    """Runs `handle` on offered items in its own thread, newest first, never more than one waiting.

    Everything that touches the engine runs in this thread (``call``): a CUDA context belongs to the thread
    that made it. `handle` must not raise; `failed` gets what it raises all the same.
    """

    def __init__(self, handle: Callable[[Item], None], failed: Callable[[BaseException], None]) -> None:
        self._handle, self._failed = handle, failed
        self._changed = threading.Condition()
        self._slot: Optional[Item] = None
        self._jobs: Deque[Tuple[Callable[[], Any], Future[Any]]] = deque()
        self._current: Optional[Future[Any]] = None
        self._open = self._stopping = self._busy = self._handling = False
        self.offered = self.dropped = 0
        self._thread = threading.Thread(target=self._run, name='estimator', daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> None:
        """Put an item into the slot; the one that waited there is dropped and counted."""
        with self._changed:
            self.offered += 1
            if not self._open:
                self.dropped += 1
                return
            self.dropped += self._slot is not None
            self._slot = item
            self._changed.notify_all()

    def open(self) -> None:
        """Accept items from now on and count anew."""
        with self._changed:
            self._slot, self._open = None, True
            self.offered = self.dropped = 0

    @property
    def waiting(self) -> int:
        """Items that are neither done nor dropped: in the slot and in work."""
        with self._changed:
            return (self._slot is not None) + self._handling

    def close(self, timeout: float) -> bool:
        """Accept no more items, forget the waiting one, wait for the current one; False if it takes longer."""
        with self._changed:
            self.dropped += self._slot is not None
            self._open, self._slot = False, None
            return self._changed.wait_for(lambda: not self._busy, timeout)

    def call(self, job: Callable[[], Any], timeout: Optional[float] = None) -> Any:
        """Result of `job` run in the worker's thread; what it raises is raised here."""
        future = self.submit(job)
        return future.result(timeout)

    def submit(self, job: Callable[[], Any]) -> Future[Any]:
        """Queue `job` for the worker's thread, ahead of waiting items."""
        future: Future[Any] = Future()
        with self._changed:
            if self._stopping:
                raise WorkerStoppedError('the worker has stopped')
            self._jobs.append((job, future))
            self._changed.notify_all()
        return future

    def give_up(self) -> bool:
        """Let who waits for the job in work go on without it; False when there is none. The job itself goes on."""
        with self._changed:
            future, self._current = self._current, None
        if future is not None:
            future.set_exception(WorkerStoppedError('given up: the node ends'))
        return future is not None

    def stop(self, timeout: float) -> bool:
        """End the thread; False if it is still busy after `timeout` seconds."""
        with self._changed:
            self._stopping, self._open, self._slot = True, False, None
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._slot is not None or self._stopping)
                job = self._jobs.popleft() if self._jobs else None
                if job is None and self._stopping:
                    return
                item, self._slot = (self._slot, None) if job is None else (None, self._slot)
                self._busy, self._handling = True, item is not None
                self._current = None if job is None else job[1]
            try:
                self._work(job, item)
            finally:
                del job, item
                with self._changed:
                    self._busy = self._handling = False
                    self._changed.notify_all()

    def _work(self, job: Optional[Tuple[Callable[[], Any], Future[Any]]], item: Optional[Item]) -> None:
        if job is not None:
            try:
                result, fault = job[0](), None
            except BaseException as error:  # the caller of `call` gets it
                result, fault = None, error
            with self._changed:
                future, self._current = self._current, None
            if future is None:  # given up
                return
            if fault is None:
                future.set_result(result)
            else:
                future.set_exception(fault)
        elif item is not None:
            try:
                self._handle(item)
            except Exception as error:
                self._failed(error)
