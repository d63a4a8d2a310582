"""Player, recorder and the real node over DDS on this host, with an estimator that knows the truth."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from kd6d_ros.benchmark import live, scoring
from kd6d_ros.benchmark.accuracy import Judge
from kd6d_ros.benchmark.recording import Recording, TopicChoice, open_recording
from kd6d_ros.benchmark.session import SessionPlan, processed_stamps
from kd6d_ros.errors import BagError
from kd6d_ros.types import ObjectModel

pytest.importorskip('rclpy')
pytestmark = [pytest.mark.ros, pytest.mark.slow]

MakeBag = Callable[..., Path]
MODELS = {'mug': ObjectModel('mug', 1, 0.13, np.zeros((8, 3)))}
VERTICES = {'mug': np.array([[0.05, 0.0, 0.0], [-0.05, 0.0, 0.0], [0.0, 0.06, 0.0]])}
JUDGE = Judge(MODELS, VERTICES)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plan(make_bag: MakeBag, tmp_path: Path) -> tuple[SessionPlan, Recording]:
    recording = open_recording(make_bag(image_format='jpeg', frames=30), TopicChoice(), MODELS)
    plan = SessionPlan(
        bundle=recording.path,
        bag=recording.path,
        topics=recording.topics,
        logs=tmp_path / 'logs',
        # Slow enough for a busy machine: what is tested here is that nothing gets lost or mixed up.
        rate=0.25,
        profile=ROOT / 'config' / 'fastdds_localhost.xml',
        node_program=(sys.executable, str(Path(__file__).with_name('oracle_node.py'))),
    )
    return plan, recording


def run(plan: SessionPlan, recording: Recording) -> live.LiveResult:
    return live.run_live(plan, recording, JUDGE, lambda text: None)


def test_every_frame_comes_back_with_its_pose(plan: tuple[SessionPlan, Recording]) -> None:
    result = run(*plan)
    score = live.score_of(result)
    assert (score.frames, score.sent) == (30, 30)
    assert score.processed >= 15  # a busy machine drops some; each one that is left must be right
    right = score.counts[scoring.RIGHT]
    assert right == score.poses == 29 - score.counts[scoring.DROPPED]
    errors = [item.error_m for item in score.outcomes if item.error_m is not None]
    assert errors == pytest.approx([0.001] * right, abs=1e-9)
    assert score.false_poses == 0
    assert result.published == {'detections': right, 'pose_stamped': right, 'tf': right}
    assert score.latency is not None
    assert 0 < score.latency.p50 < 1.0
    record = result.record()
    assert 0 < record['age_at_publish_ms']['p50'] <= record['latency_ms']['max']
    assert record['recall_5cm_5deg'] == score.recall
    assert record['node_has_torch'] is False
    assert {'publish', 'decoded_to_published'} <= set(record['stages_ms'])
    assert 20 < record['node_memory_mb'] < 500


def test_a_raw_bag_is_replayed_too(plan: tuple[SessionPlan, Recording], make_bag: MakeBag) -> None:
    recording = open_recording(make_bag('raw', image_format='raw', frames=8), TopicChoice(), MODELS)
    raw = replace(plan[0], bundle=recording.path, bag=recording.path, topics=recording.topics)
    score = live.score_of(run(raw, recording))
    assert score.processed >= 3
    assert score.counts[scoring.RIGHT] == score.poses >= 2


def test_wrong_poses_count_as_wrong(plan: tuple[SessionPlan, Recording]) -> None:
    wrong = replace(plan[0], bundle=Path(f'{plan[0].bundle}:wrong'))
    score = live.score_of(run(wrong, plan[1]))
    assert score.recall == 0.0
    assert score.counts[scoring.WRONG] == score.poses >= 14


def test_a_slow_node_drops_frames_and_every_frame_is_accounted_for(
    plan: tuple[SessionPlan, Recording],
) -> None:
    slow = replace(plan[0], bundle=Path(f'{plan[0].bundle}:slow'), rate=1.0)
    result = run(slow, plan[1])
    score = live.score_of(result)
    stamps = processed_stamps(result.log)
    assert len(stamps) == score.processed
    assert stamps == sorted(stamps)
    losses = result.losses()
    assert losses['sent'] == 30
    # The oracle is slow, so what is missing was replaced in the node, not lost on the way.
    assert losses['arrived'] is None or losses['dropped_by_node'] >= losses['lost_in_transport']
    assert score.sent == 30
    assert 2 <= score.processed < 25
    assert score.counts[scoring.RIGHT] + score.counts[scoring.DROPPED] + (30 - score.targets) == 30
    assert score.counts[scoring.DROPPED] > 0


def test_a_node_that_cannot_configure_is_named(plan: tuple[SessionPlan, Recording]) -> None:
    with pytest.raises(BagError, match=r'recorder ended: recorder: /pose_estimator: refused to configure'):
        run(replace(plan[0], bundle=Path('/nowhere')), plan[1])
