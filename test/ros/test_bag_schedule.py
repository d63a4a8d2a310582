"""Times and stamps of a bag that is played, once or over and over."""

import itertools
import struct

import pytest

from kd6d_ros.errors import BagError
from kd6d_ros.ros.bag_schedule import Schedule, stamp_of, with_stamp

S = 1_000_000_000
RECORDED = [1000 * S + k * S // 10 for k in range(5)]
"""Ten images per second; the camera stamped each 20 ms before it was recorded."""
DELAY = S // 50


def played(schedule, passes):
    out = []
    for _ in range(passes):
        out += [(schedule.due(time), schedule.stamp(time - DELAY)) for time in RECORDED]
        schedule.next_pass(len(RECORDED))
    return out


def test_stamps_stay_and_passes_follow_each_other_without_a_gap():
    rows = played(Schedule(1.0, False, lambda: 50.0, lambda: 7 * S), 2)
    assert [due for due, _ in rows] == pytest.approx([50.0 + 0.1 * k for k in range(10)])
    assert [stamp for _, stamp in rows] == 2 * [time - DELAY for time in RECORDED]


def test_stamps_move_by_one_constant_and_grow_over_the_passes():
    schedule = Schedule(1.0, True, lambda: 50.0, lambda: 9000 * S)
    rows = played(schedule, 3)
    stamps = [stamp for _, stamp in rows]
    assert schedule.shift_ns == 8000 * S
    assert {stamp - old for stamp, old in zip(stamps[:5], RECORDED, strict=True)} == {8000 * S - DELAY}
    assert {after - before for before, after in itertools.pairwise(stamps)} == {S // 10}
    # Each is as old when it is sent as it was when it was recorded.
    ages = [9000 + due - 50 - stamp / S for due, stamp in rows]
    assert ages == pytest.approx([0.02] * 15, abs=1e-6)


def test_at_another_speed_stamps_spread_like_the_messages():
    rows = played(Schedule(0.5, True, lambda: 0.0, lambda: 9000 * S), 2)
    assert [due for due, _ in rows] == pytest.approx([0.2 * k for k in range(10)])
    steps = [(after[1] - before[1]) / S for before, after in itertools.pairwise(rows)]
    assert steps == pytest.approx([0.2] * 9)


@pytest.mark.parametrize(('start', 'layout'), [(b'\0\1\0\0', '<iI'), (b'\0\0\0\0', '>iI')])
def test_a_stamp_is_replaced_in_the_bytes_of_a_message(start, layout):
    data = start + struct.pack(layout, 12, 345) + b'rest'
    assert stamp_of(data) == 12 * S + 345
    moved = with_stamp(data, -3 * S + 5)
    assert stamp_of(moved) == -3 * S + 5
    assert (moved[:4], moved[12:]) == (start, b'rest')


def test_a_message_too_short_for_a_stamp_is_named():
    with pytest.raises(BagError, match='a message of 6 bytes has no header'):
        stamp_of(b'\0\1\0\0ab')
