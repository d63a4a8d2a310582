"""The parts of one image in several threads: its crops, its poses.

What runs long in a part (the network, OpenCV, compiled loops) lets go of Python's lock, so two cores do nearly twice as
much; a network that is shared out over cores layer by layer gains next to nothing at the size of a crop
(docs/results.md).
The answers and everything in the frame's report come in the order of the parts, whatever thread is first.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Callable, List, Sequence, TypeVar

if TYPE_CHECKING:
    from kd6d_ros.inference.measure import Frame

    Part = TypeVar('Part')
    Answer = TypeVar('Answer')


class SideBySide:
    """Some threads that wait for work; with one of them everything runs in the thread that asks."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix='part') if threads > 1 else None

    def map(self, frame: Frame, work: Callable[[Frame, Part], Answer], parts: Sequence[Part]) -> List[Answer]:
        """``work(frame, part)`` of each part, in order."""
        if self._pool is None or len(parts) < 2:
            return [work(frame, part) for part in parts]
        frames = [frame.part() for _ in parts]
        start = perf_counter()
        answers = list(self._pool.map(work, frames, parts))
        frame.gather(frames, perf_counter() - start)
        return answers
