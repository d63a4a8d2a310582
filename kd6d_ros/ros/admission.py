"""Whether an image is still worth looking at: how long it waited here, and how old its stamp is. No ROS in here."""

from __future__ import annotations

from typing import NamedTuple, Optional

OLDEST_S, NEWEST_S = 10.0, -1.0
"""No camera delivers images as old as this, or from the future: then its stamps are of another clock."""

DISAGREE = 'stamps and clock disagree: use_sim_time and --clock'

WAITED, OLD, OFF = 'waited longer than max_wait_s', 'older than max_image_age_s', 'streaming is off'
"""Why an image is dropped; the words under which it is counted."""


class Drop(NamedTuple):
    """`reason`: one of WAITED, OLD, OFF; `text`: one line with the cure, or empty when nothing is wrong."""

    reason: str
    text: str


def age_of(stamp_ns: int, now_ns: int) -> Optional[float]:
    """Age [s] of an image by its stamp, or None when stamp and clock have nothing to do with each other."""
    age = (now_ns - stamp_ns) * 1e-9
    return age if NEWEST_S <= age <= OLDEST_S else None


def disagreement(stamp_ns: int, now_ns: int) -> str:
    """What to say about an image whose age is None."""
    apart = (now_ns - stamp_ns) * 1e-9
    side = 'behind' if apart > 0 else 'ahead of'
    return f'{DISAGREE} (the image is {abs(apart):.1f} s {side} the clock of the node): its age is unknown'


def too_late(waited_s: float, max_wait_s: float, age_s: Optional[float], max_age_s: float) -> Optional[Drop]:
    """Why an image must not be worked on, or None.

    Args:
        waited_s: from its arrival until now, on the monotonic clock.
        age_s: as from ``age_of``; max_age_s: 0 accepts any age.
    """
    if waited_s > max_wait_s:
        text = (
            f'an image waited {waited_s:.2f} s in the node, more than max_wait_s {max_wait_s:g}: dropped. The machine '
            'is too busy, or CameraInfo or detections come late: look for fewer objects, or raise max_wait_s'
        )
        return Drop(WAITED, text)
    if max_age_s > 0 and (age_s is None or age_s > max_age_s):
        what = 'of unknown age (stamps and clock disagree)' if age_s is None else f'{age_s:.2f} s old'
        text = f'an image was {what}, max_image_age_s is {max_age_s:g}: dropped. Synchronise the clocks, or raise it'
        return Drop(OLD, text)
    return None
