"""The book of requests, and whether an image is still worth looking at. Needs no ROS."""

from types import SimpleNamespace

import pytest

from kd6d_ros.ros import admission
from kd6d_ros.ros.requests import MOST, RequestBook, instance_of, unknown_source


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def pose(instance, score=0.9):
    return SimpleNamespace(instance_id=instance, object_name=instance.rpartition('_')[0], score=score)


def rejected(name, reason):
    return SimpleNamespace(object_name=name, reason=reason)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def book(clock):
    return RequestBook(clock)


def test_the_first_image_that_is_new_enough_and_shows_the_object_counts(book):
    book.add('client', 'mug', '', 1000, 5.0)
    (request,) = book.all()
    book.sight(999, 'cam', [pose('mug_0')], [])
    assert request.found is None
    book.sight(1000, 'cam', [pose('can_0')], [rejected('mug', 'too few inliers')])
    assert request.found is None
    assert (request.looked, request.too_old, request.reason) == (1, 1, 'too few inliers')
    book.sight(1001, 'cam', [pose('mug_0', 0.7), pose('mug_1', 0.8)], [])
    assert (request.found.stamp_ns, request.found.pose.instance_id) == (1001, 'mug_1')
    assert book.take(request)
    assert not book.take(request)
    assert book.waiting == 0


def test_what_is_known_answers_who_asks_for_the_past_until_it_is_forgotten(book):
    book.sight(500, 'cam', [pose('mug_0')], [])
    book.sight(600, 'cam', [pose('mug_1')], [])
    book.add('a', 'mug', '', 400, 0.0)
    book.add('b', 'mug_0', '', 400, 0.0)
    book.add('c', 'mug_0', '', 501, 0.0)
    assert [request.found and request.found.stamp_ns for request in book.all()] == [600, 500, None]
    book.forget()
    assert [request.found for request in book.all()] == [None] * 3
    book.add('d', 'mug', '', 1, 0.0)
    assert book.all()[-1].found is None


def test_a_passed_deadline_says_what_happened(book, clock):
    for timeout in (0.0, 2.0):
        book.add('client', 'mug', '', 10**9, timeout)
    now, later = book.all()
    assert book.is_overdue(now)
    assert not book.is_overdue(later)
    assert 'set a timeout' in now.overdue()[1]
    assert later.overdue() == ('TIMEOUT_ERROR', 'no image came within 2 s: see /diagnostics')
    book.sight(5 * 10**8, 'cam', [], [])
    assert 'the newest by 0.500 s' in later.overdue()[1]
    book.failed('no CameraInfo has arrived yet')
    assert later.overdue()[1] == 'no image could be used within 2 s: no CameraInfo has arrived yet'
    book.sight(2 * 10**9, 'cam', [], [])
    assert later.overdue()[1] == 'mug was not accepted in any of 1 images within 2 s'
    later.error = ('EXTRAPOLATION_ERROR', 'no transform')
    assert later.overdue() == ('EXTRAPOLATION_ERROR', 'no transform')
    clock.now += 2.0
    assert book.is_overdue(later)


def test_only_so_many_wait(book):
    assert all(book.add(number, 'mug', '', 0, 1.0) for number in range(MOST))
    assert not book.add('one more', 'mug', '', 0, 1.0)


@pytest.mark.parametrize(
    ('name', 'found'),
    [('mug_0', ('mug', 0)), ('mug_12', ('mug', 12)), ('mug_01', None), ('mug_', None), ('mug', None), ('cup_0', None),
     ('can_2_0', ('can_2', 0)), ('mug_-1', None), ('mug_9999999', None), ('', None)],
)  # fmt: skip
def test_instance_ids_are_told_from_names(name, found):
    assert instance_of(name, ['mug', 'can_2']) == found


def test_an_object_whose_name_looks_like_an_instance_is_an_object():
    assert unknown_source('can_2', ['can', 'can_2'], 1) == ''
    assert unknown_source('can_1', ['can'], 2) == ''
    assert 'numbers go from 0 to 1' in unknown_source('can_2', ['can'], 2)


def test_ages_of_another_clock_are_unknown():
    second = 10**9
    assert admission.age_of(100 * second, 101 * second) == pytest.approx(1.0)
    assert admission.age_of(100 * second, 99.5 * second) == pytest.approx(-0.5)
    for now in (0, 98 * second, 111 * second, 10**18):
        assert admission.age_of(100 * second, now) is None
    text = admission.disagreement(100 * second, 400 * second)
    assert text.startswith('stamps and clock disagree: use_sim_time and --clock (the image is 300.0 s behind')


def test_an_image_is_too_late_by_waiting_or_by_its_stamp():
    assert admission.too_late(0.1, 0.1, None, 0.0) is None
    assert admission.too_late(0.11, 0.1, 0.0, 0.0).reason == admission.WAITED
    assert admission.too_late(0.0, 0.1, 0.5, 0.5) is None
    assert admission.too_late(0.0, 0.1, 0.51, 0.5).reason == admission.OLD
    assert 'unknown age' in admission.too_late(0.0, 0.1, None, 0.5).text
