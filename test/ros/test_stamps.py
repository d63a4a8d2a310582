import pytest

from kd6d_ros.errors import ImageError
from kd6d_ros.ros.stamps import LossCounter, StampGuard

S = 1_000_000_000


def test_stamps_that_advance_pass():
    guard = StampGuard()
    for stamp in (5 * S, 5 * S + 1, 900 * S):
        assert guard.check(stamp) == (False, '')
        guard.accept(stamp)


@pytest.mark.parametrize(
    ('second', 'text'),
    [
        (0, 'image stamp is zero: the camera driver'),
        (-5, 'image stamp is negative: the camera driver'),
        (10 * S, 'is repeated'),
        (9 * S + S // 2, 'goes back by 0.500 s'),
    ],
)
def test_zero_repeated_and_earlier_stamps_are_refused(second, text):
    guard = StampGuard(1.0)
    guard.accept(10 * S)
    for _ in range(2):
        with pytest.raises(ImageError, match=text):
            guard.check(second)
    assert guard.check(11 * S) == (False, '')


def test_a_bag_that_starts_over_resets_once():
    guard = StampGuard(1.0)
    guard.accept(100 * S)
    verdict = guard.check(40 * S)
    assert verdict.reset
    assert 'time went back by 60.0 s' in verdict.note
    guard.accept(40 * S)
    assert guard.check(40 * S + 33_000_000) == (False, '')


def test_a_refused_image_does_not_keep_out_the_next_one():
    guard = StampGuard(1.0)
    guard.accept(10 * S)
    assert guard.check(11 * S) == (False, '')
    assert guard.check(10 * S + 5) == (False, '')


def test_losses_are_gaps_in_the_stamps():
    counter = LossCounter()
    stamps = [i * S // 30 for i in range(1, 100) if i not in (20, 21, 50)]
    for stamp in stamps:
        counter.add(stamp)
    assert counter.lost == 3


def test_a_pause_a_jump_back_and_jitter_are_no_losses():
    counter = LossCounter()
    for i in range(1, 200):
        jitter = (i % 3 - 1) * S // 200
        counter.add(i * S // 30 + jitter + (100 * S if i > 60 else 0) - (90 * S if i > 120 else 0))
    assert counter.lost == 0


def test_a_camera_that_gets_faster_and_then_loses_images():
    counter = LossCounter()
    for i in range(1, 20):
        counter.add(i * S // 10)
    for i in range(1, 40):
        counter.add(2 * S + i * S // 60)
    before = counter.lost
    counter.add(2 * S + 43 * S // 60)
    assert before == 0
    assert counter.lost == 3
