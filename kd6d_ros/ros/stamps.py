"""Which images may be processed, by their stamps; and how many were lost on the way.

One (frame, stamp) must never be published twice (TF_REPEATED_DATA), a bag that starts over must not stop
the node, and a zero stamp would put poses at the beginning of time.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from kd6d_ros.errors import ImageError

SAME_ORDER_OF_MAGNITUDE = 10.0
"""A gap longer than this many intervals is a pause of the camera, not a loss."""


class StampVerdict(NamedTuple):
    """`reset`: tracking must forget (time went back); `note`: one line for the log, or empty."""

    reset: bool
    note: str


class StampGuard:
    """Checks stamps [ns] in the order of arrival, against the last one that was accepted.

    A stamp that goes back by up to `back_jump_s` is an image out of order and refused; further back is
    taken as a new recording or clock: the guard starts over.
    """

    def __init__(self, back_jump_s: float = 1.0) -> None:
        self._back_jump = int(back_jump_s * 1e9)
        self._last: Optional[int] = None

    def reset(self) -> None:
        self._last = None

    def check(self, stamp_ns: int) -> StampVerdict:
        """
        Raises:
            ImageError: zero, repeated or slightly earlier stamp.
        """
        if stamp_ns <= 0:
            what = 'zero' if stamp_ns == 0 else 'negative'
            raise ImageError(
                f'image stamp is {what}: the camera driver (or the bag) must set header.stamp, since poses and '
                'TF carry it'
            )
        last, verdict = self._last, StampVerdict(False, '')
        if last is not None and stamp_ns <= last:
            back = (last - stamp_ns) * 1e-9
            if stamp_ns == last:
                raise ImageError(
                    f'image stamp {stamp_ns * 1e-9:.3f} is repeated: image skipped, '
                    'check for a second publisher or a frozen camera'
                )
            if last - stamp_ns <= self._back_jump:
                raise ImageError(
                    f'image stamp goes back by {back:.3f} s: image skipped, check for two publishers on the image topic'
                )
            verdict = StampVerdict(True, f'time went back by {back:.1f} s (a bag that starts over?): tracking reset')
        return verdict

    def accept(self, stamp_ns: int) -> None:
        """The image with this stamp is used. One that is refused must not keep out those that follow."""
        self._last = stamp_ns


class LossCounter:
    """Counts images that never arrived, from gaps in the stamps [ns] of those that did."""

    def __init__(self) -> None:
        self.lost = 0
        self._last = 0
        self._interval = 0.0

    def add(self, stamp_ns: int) -> None:
        gap = stamp_ns - self._last
        known, self._last = self._last > 0, stamp_ns
        if not known or gap <= 0:
            return
        if self._interval == 0.0:
            self._interval = float(gap)
        ratio = gap / self._interval
        if 1.5 < ratio < SAME_ORDER_OF_MAGNITUDE:
            self.lost += round(ratio) - 1
        elif ratio <= 1.5:
            # Follows a faster camera at once and jitter slowly.
            self._interval += (0.5 if ratio < 0.7 else 0.05) * (gap - self._interval)
        else:
            self._interval = 0.0
