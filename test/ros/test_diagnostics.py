import pytest

from kd6d_ros.ros.diagnostics import (
    ERROR,
    HOLD_S,
    LOG_PERIOD_S,
    MOST_KINDS,
    OK,
    WARN,
    Problems,
    Statistics,
    kind_of,
)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_problem_is_logged_once_per_period_and_forgotten_when_it_is_over():
    clock = Clock()
    problems = Problems(clock)
    assert problems.report('k', 'input', ERROR, 'bad 1')
    assert not problems.report('k', 'input', ERROR, 'bad 2')
    clock.now += LOG_PERIOD_S / 2
    assert not problems.report('k', 'input', ERROR, 'bad 3')
    clock.now += LOG_PERIOD_S
    assert problems.report('k', 'input', ERROR, 'bad 4')
    (item,) = problems.active('input')
    assert (item.text, item.count) == ('bad 4', 4)
    clock.now += HOLD_S + 0.1
    assert problems.active('input') == []


def test_messages_that_differ_in_figures_are_the_same_problem():
    assert kind_of('image 3 is 640x480') == kind_of('image 17 is 320x240')
    assert kind_of('image 3 is 640x480') != kind_of('camera 3 is 640x480')


def test_messages_that_quote_different_words_are_the_same_problem():
    assert kind_of("encoding 'rgb9' is not known") == kind_of("encoding 'x\\ny' is not known")
    assert kind_of('encoding "it\'s" is not known') == kind_of("encoding '' is not known")
    assert kind_of("frame 'a' of an image") != kind_of("frame 'a' of a CameraInfo")


def test_lasting_problems_stand_until_cleared_and_the_worst_comes_first():
    clock = Clock()
    problems = Problems(clock)
    problems.report('a', 'node', WARN, 'odd', lasting=True)
    clock.now += 1000
    problems.report('b', 'node', ERROR, 'broken', lasting=True)
    problems.report('c', 'input', ERROR, 'elsewhere')
    assert [item.text for item in problems.active('node')] == ['broken', 'odd']
    problems.clear('b')
    assert [item.text for item in problems.active('node')] == ['odd']


def test_problems_with_ever_new_words_do_not_pile_up():
    clock = Clock()
    problems = Problems(clock)
    problems.report('state', 'input', ERROR, 'stays', lasting=True)
    for number in range(10 * MOST_KINDS):
        clock.now += 0.001
        problems.report(f'kind {number}', 'input', ERROR, f'text {number}')
    texts = [item.text for item in problems.active('input')]
    assert len(problems._problems) == len(texts) == MOST_KINDS + 1
    assert texts[0] == f'text {10 * MOST_KINDS - 1}'
    assert texts[-1] == 'stays'


def test_percentiles_are_nearest_rank_and_rates_count_intervals(monkeypatch):
    statistics = Statistics()
    for i in range(100, 0, -1):
        statistics.times({'pnp': i / 1000})
    assert statistics.percentiles()['pnp'] == (0.050, 0.095, 0.099)
    times = iter([0.0, 0.1, 0.2, 0.3])
    monkeypatch.setattr('kd6d_ros.ros.diagnostics.monotonic', lambda: next(times))
    for _ in range(3):
        statistics.mark('processed')
    assert statistics.rate('processed') == pytest.approx(10.0)
    assert statistics.get('processed') == 3
    statistics.count('rejected inliers', 2)
    assert statistics.counts('rejected ') == {'inliers': 2}


def test_the_message_has_one_status_per_section():
    pytest.importorskip('diagnostic_msgs')
    from builtin_interfaces.msg import Time

    from kd6d_ros.ros.diagnostics import diagnostics_message

    problems = Problems()
    problems.report('x', 'input', ERROR, 'no image')
    message = diagnostics_message(Time(sec=3), 'left/pose_estimator', problems, {'node': {'state': 'active'}})
    levels = {status.name: (status.level[0], status.message) for status in message.status}
    assert levels == {
        'left/pose_estimator: node': (OK, 'ok'),
        'left/pose_estimator: input': (ERROR, 'no image'),
        'left/pose_estimator: estimation': (OK, 'ok'),
    }
    assert message.status[0].values[0].key == 'state'
