"""When the messages of a bag are due, and which stamps they get: pass after pass without a gap. No ROS in here."""

from __future__ import annotations

import struct
import time
from typing import Callable, Optional

from kd6d_ros.errors import BagError


class Schedule:
    """Follows the times of recording. With `restamp`, stamps move to the clock of now.

    At speed 1 that is one constant, `shift_ns` (0 without `restamp`), for all messages of a pass. Each further pass
    adds the length of the bag, so time never goes back; at another speed the stamps also spread like the messages.
    """

    def __init__(
        self,
        speed: float,
        restamp: bool,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._speed, self._restamp = speed, restamp
        self._monotonic, self._wall_ns = monotonic, wall_ns
        self._start_s: Optional[float] = None
        self._start_ns = self._first_ns = self._last_ns = self._passed_ns = 0

    def due(self, log_time_ns: int) -> float:
        """When the message recorded at this time is to be sent, on the monotonic clock [s]."""
        if self._start_s is None:
            self._start_s, self._start_ns = self._monotonic(), self._wall_ns()
            self._first_ns = log_time_ns
        self._last_ns = max(self._last_ns, log_time_ns)
        return self._start_s + (self._passed_ns + log_time_ns - self._first_ns) * 1e-9 / self._speed

    def stamp(self, stamp_ns: int) -> int:
        """The stamp [ns] that replaces one of the bag; after ``due`` of the same message."""
        if not self._restamp:
            return stamp_ns
        return self._start_ns + round((self._passed_ns + stamp_ns - self._first_ns) / self._speed)

    @property
    def shift_ns(self) -> int:
        """What is added to the first stamps of the bag."""
        return self._start_ns - self._first_ns if self._restamp else 0

    def next_pass(self, images: int) -> None:
        """The bag begins anew, one interval of its `images` after the last message."""
        length = self._last_ns - self._first_ns
        self._passed_ns += length + (length // (images - 1) if images > 1 else 0)


def stamp_of(data: bytes) -> int:
    """Stamp [ns] of a serialised message that begins with a std_msgs/Header.

    Raises:
        BagError: fewer bytes than a stamp needs.
    """
    seconds, nanoseconds = struct.unpack_from(_layout(data), data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def with_stamp(data: bytes, stamp_ns: int) -> bytes:
    """The same message with another stamp [ns]; see ``stamp_of``."""
    return data[:4] + struct.pack(_layout(data), *divmod(stamp_ns, 1_000_000_000)) + data[12:]


def _layout(data: bytes) -> str:
    if len(data) < 12:
        raise BagError(f'a message of {len(data)} bytes has no header; record the bag again')
    return '<iI' if data[1] & 1 else '>iI'
