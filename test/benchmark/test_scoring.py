"""Every object of every frame ends in exactly one outcome, and the sums agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.benchmark import scoring
from kd6d_ros.benchmark.latency import summarise
from kd6d_ros.benchmark.records import FrameLog, PublishedPose, TruthObject
from kd6d_ros.benchmark.scoring import Scorer, make_scorer, score_run
from kd6d_ros.benchmark.summary import outcome_rows, summary_record, summary_rows
from kd6d_ros.errors import BagError, ShapeError
from kd6d_ros.types import ContinuousSymmetry, ObjectModel, RigidTransform, Symmetries


def at(x: float) -> RigidTransform:
    return RigidTransform(np.eye(3), np.array([x, 0.0, 0.8]))


def distance(a: RigidTransform, b: RigidTransform) -> float:
    return float(np.linalg.norm(a.translation - b.translation))


SCORERS = {'mug': Scorer(0.1, distance), 'box': Scorer(0.2, distance)}


def truth(name: str = 'mug', x: float = 0.0, visible: float = 1.0) -> TruthObject:
    return TruthObject(name, at(x), visible)


def pose(name: str = 'mug', x: float = 0.0, number: int = 0) -> PublishedPose:
    return PublishedPose(name, f'{name}_{number}', at(x), 0.9)


def only(frame: FrameLog) -> str:
    score = score_run([frame], SCORERS)
    assert sum(score.counts.values()) == 1
    return score.outcomes[0].outcome


@pytest.mark.parametrize(
    ('frame', 'expected'),
    [
        (FrameLog(0, (truth(),), 1.0, 1.1, (pose(x=0.009),)), scoring.RIGHT),
        (FrameLog(0, (truth(),), 1.0, 1.1, (pose(x=0.011),)), scoring.WRONG),
        (FrameLog(0, (truth(),), 1.0, 1.1), scoring.REJECTED),
        (FrameLog(0, (truth(),), 1.0), scoring.DROPPED),
        (FrameLog(0, (truth(),)), scoring.NOT_SENT),
        (FrameLog(0, (truth(visible=0.1),), 1.0), scoring.DROPPED),
        (FrameLog(0, (truth(visible=0.05),), 1.0), scoring.HIDDEN_QUIET),
        (FrameLog(0, (truth(visible=0.05),), 1.0, 1.1, (pose(),)), scoring.HIDDEN_RIGHT),
        (FrameLog(0, (truth(visible=0.05),), 1.0, 1.1, (pose(x=0.5),)), scoring.HIDDEN_WRONG),
        (FrameLog(0, (truth(visible=0.0),), 1.0, 1.1, (pose(),)), scoring.ABSENT_POSE),
    ],
)
def test_each_outcome(frame: FrameLog, expected: str) -> None:
    assert only(frame) == expected


def test_figures_of_a_small_run() -> None:
    frames = [
        FrameLog(0, (truth(),), 1.0, 1.010, (pose(),)),
        FrameLog(1, (truth(),), 2.0, 2.030, (pose(x=0.05),)),
        FrameLog(2, (truth(),), 3.0),
        FrameLog(3, (truth(visible=0.0),), 4.0, 4.020),
        FrameLog(4, (truth(visible=0.0),), 5.0, 5.020, (pose(),)),
    ]
    score = score_run(frames, SCORERS)
    assert (score.frames, score.sent, score.processed, score.dropped, score.poses) == (5, 5, 4, 1, 3)
    assert (score.targets, score.recall, score.false_poses) == (3, 1 / 3, 1)
    assert score.latency is not None
    assert score.latency.p50 == pytest.approx(0.020)
    assert dict(summary_rows(score))['ADD recall at 0.1 d'] == '33.3 % (1 of 3)'
    record = summary_record(score)
    assert record['outcomes']['dropped'] == 1
    assert sum(count for _, count in outcome_rows(score)) == 5


def test_poses_go_to_the_nearest_object_of_their_name_and_the_rest_is_stray() -> None:
    frame = FrameLog(
        0,
        (truth(x=0.0), truth(x=0.3), truth('box', x=0.0)),
        1.0,
        1.1,
        (pose(x=0.301, number=1), pose(x=0.001), pose(x=0.6, number=2), pose('box', x=0.01)),
    )
    score = score_run([frame], SCORERS)
    assert score.counts[scoring.RIGHT] == 3
    assert [item.pose.instance_id for item in score.outcomes if item.pose] == ['mug_0', 'mug_1', 'box_0']
    assert [(index, stray.instance_id) for index, stray in score.stray] == [(0, 'mug_2')]
    assert score.false_poses == 1


def test_unknown_object_and_empty_bag_are_refused() -> None:
    with pytest.raises(BagError, match=r"'cup', which the bundle does not know \(box, mug\)"):
        score_run([FrameLog(0, (truth('cup'),))], SCORERS)
    with pytest.raises(BagError, match='no images with ground truth'):
        score_run([], SCORERS)


def test_symmetric_objects_are_scored_with_add_s() -> None:
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    ring = 0.05 * np.stack([np.cos(angles), np.sin(angles), np.zeros(36)], axis=1)
    spin = ContinuousSymmetry(np.array([0.0, 0.0, 1.0]), np.zeros(3))
    turn = angles[9]
    c, s = np.cos(turn), np.sin(turn)
    turned = RigidTransform(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.zeros(3))
    for symmetries, low, high in ((Symmetries(), 0.07, 0.08), (Symmetries(continuous=(spin,)), 0.0, 1e-9)):
        model = ObjectModel('ring', 1, 0.1, np.zeros((8, 3)), symmetries)
        assert low <= make_scorer(model, ring).error(turned, RigidTransform.identity()) <= high


def test_recall_by_visibility_includes_full_visibility_once() -> None:
    frames = [
        FrameLog(i, (truth(visible=v),), 1.0, 1.1, (pose(),) if v > 0.4 else ())
        for i, v in enumerate((0.0, 0.1, 0.29, 0.3, 0.5, 0.9, 1.0, 1.0))
    ]
    rows = score_run(frames, SCORERS).recall_by_visibility()
    assert rows == [('10-30 %', 0, 2), ('30-50 %', 0, 1), ('50-70 %', 1, 1), ('70-90 %', 0, 0), ('90-100 %', 3, 3)]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.05, 0.1, 0.6, 1.0]),
            st.sampled_from(['unsent', 'dropped', 'answered']),
            st.lists(st.sampled_from([0.0, 0.02, 0.4]), max_size=3),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_the_ledger_always_balances(rows: list[tuple[float, str, list[float]]]) -> None:
    frames = []
    for index, (visible, state, places) in enumerate(rows):
        answered = state == 'answered'
        frames.append(
            FrameLog(
                index,
                (truth(visible=visible),),
                None if state == 'unsent' else 1.0,
                1.1 if answered else None,
                tuple(pose(x=x, number=n) for n, x in enumerate(places)) if answered else (),
            )
        )
    score = score_run(frames, SCORERS)
    assert sum(score.counts.values()) == score.frames
    assert score.targets == sum(visible >= 0.1 for visible, _, _ in rows)
    matched = sum(item.pose is not None for item in score.outcomes)
    assert matched + len(score.stray) == score.poses
    assert sum(targets for _, _, targets in score.recall_by_visibility()) == score.targets


def test_latency_percentiles_and_bad_clocks() -> None:
    summary = summarise([0.001 * i for i in range(1, 102)])
    assert summary is not None
    assert (summary.count, summary.p50, summary.worst) == (101, pytest.approx(0.051), pytest.approx(0.101))
    assert summary.milliseconds()['p95'] == pytest.approx(96.0)
    assert summarise([]) is None
    with pytest.raises(ShapeError, match='same monotonic clock'):
        summarise([0.01, -0.2])
