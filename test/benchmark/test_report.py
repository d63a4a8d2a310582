"""The report, its charts and pictures; summaries of logs; the node's overhead from its timing."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from kd6d_ros.benchmark import scoring, session
from kd6d_ros.benchmark.charts import error_chart, recall_chart
from kd6d_ros.benchmark.node_overhead import overhead_record, tracked_overheads
from kd6d_ros.benchmark.overlays import box_edges, choose_frames, draw_outcomes
from kd6d_ros.benchmark.processes import isolated_environment
from kd6d_ros.benchmark.records import BagFrame, FrameLog, PublishedPose, TruthObject
from kd6d_ros.benchmark.report import Picture, ReportText, render_report, write_text
from kd6d_ros.benchmark.scoring import RunScore, Scorer, score_run
from kd6d_ros.errors import BagError
from kd6d_ros.geometry.meshes import bounding_box_corners
from kd6d_ros.types import Camera, ObjectModel, RigidTransform

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.04)])
MODELS = {'mug': ObjectModel('mug', 1, 0.13, CORNERS)}


def at(x: float, z: float = 0.6) -> RigidTransform:
    return RigidTransform(np.eye(3), np.array([x, 0.0, z]))


def offset(a: RigidTransform, b: RigidTransform) -> float:
    return float(np.linalg.norm(a.translation - b.translation))


@pytest.fixture
def score() -> RunScore:
    frames = []
    for index in range(60):
        visible = 0.0 if 20 <= index < 30 else 1.0
        error = 0.1 if index % 10 == 5 else 0.002
        poses = (PublishedPose('mug', 'mug_0', at(error), 0.8),) if visible else ()
        received = None if index == 40 else 1.01 + index
        truth = (TruthObject('mug', at(0.0), visible),)
        frames.append(FrameLog(index * 33_333_333, truth, 1.0 + index, received, poses if received else ()))
    return score_run(frames, {'mug': Scorer(0.13, offset)})


def test_charts_are_valid_and_hold_every_pose(score: RunScore) -> None:
    chart = ElementTree.fromstring(error_chart(score))
    circles = [item for item in chart.iter() if item.tag.endswith('circle')]
    assert len(circles) == score.poses == 49
    assert sum(item.get('class') == 'bad' for item in circles) == 5
    for item in circles:
        assert 0 <= float(item.get('cx', -1)) <= 860
        assert 0 <= float(item.get('cy', -1)) <= 250
    recall = ElementTree.fromstring(recall_chart(score))
    paths = [item.get('class') for item in recall.iter() if item.tag.endswith('path')]
    assert paths.count('visible') == 1
    assert paths.count('recall') >= 1


def test_the_report_is_one_page_that_loads_nothing(score: RunScore, tmp_path: Path) -> None:
    picture = Picture(np.full((48, 64, 3), 120, np.uint8), 'frame <1> & more')
    page = render_report(score, ReportText('Demo', 'passed', True, [('bag', 'b<ag')]), [picture])
    assert 'http' not in page
    assert '<script' not in page
    assert 'src="data:image/jpeg;base64,' in page
    assert 'frame &lt;1&gt; &amp; more' in page
    assert 'prefers-color-scheme: dark' in page
    assert '88.0 % (44 of 50)' in page
    write_text(tmp_path / 'deep' / 'report.html', page)
    assert (tmp_path / 'deep' / 'report.html').read_text() == page
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['report.html']


def test_an_unwritable_report_is_one_line(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('x')
    with pytest.raises(BagError, match='cannot be written'):
        write_text(tmp_path / 'file' / 'report.html', 'text')


def test_twelve_edges_for_any_order_of_corners() -> None:
    rng = np.random.default_rng(3)
    for corners in (CORNERS, CORNERS[rng.permutation(8)], bounding_box_corners(CORNERS)):
        edges = box_edges(corners)
        assert len(edges) == 12
        lengths = sorted(np.abs(corners[a] - corners[b]).sum().round(6) for a, b in edges)
        assert lengths == [0.06] * 8 + [0.1] * 4


def test_overlays_show_truth_and_pose_and_survive_boxes_behind_the_camera(score: RunScore, camera: Camera) -> None:
    frame = BagFrame(0, 'optical', np.zeros((48, 64, 3), np.uint8), camera)
    right = [item for item in score.outcomes if item.outcome == scoring.RIGHT][:1]
    wrong = [item for item in score.outcomes if item.outcome == scoring.WRONG][:1]
    assert draw_outcomes(frame, right, MODELS)[..., 1].max() > 150
    assert draw_outcomes(frame, wrong, MODELS)[..., 0].max() > 150
    assert frame.image.max() == 0
    behind = scoring.ObjectOutcome(0, 0, TruthObject('mug', at(0.0, 0.01), 1.0), scoring.REJECTED)
    assert draw_outcomes(frame, [behind], MODELS).max() == 0


def test_pictures_are_spread_and_include_failures(score: RunScore) -> None:
    captions = choose_frames(score.outcomes, 12)
    assert 8 <= len(captions) <= 12
    assert 0 in captions
    assert 59 in captions
    assert any('wrong' in text for text in captions.values())
    assert choose_frames(()) == {}


def timing(stamp: int, decoded_to_published: float, inference: float) -> dict[str, object]:
    stages = {'decoded_to_published_s': str(decoded_to_published), 'inference_s': str(inference)}
    return {'kind': 'timing', 'stamp_ns': stamp, 'stages': stages}


def session_log(events: list[dict[str, object]]) -> session.SessionLog:
    return session.SessionLog({}, tuple(events), 0.5, 2.0, 200.0, False)


def test_overhead_counts_tracked_images_only() -> None:
    answers = [
        {'kind': 'detections', 'stamp_ns': i, 'received_s': 0.0, 'poses': [{}] if i in (1, 2, 3, 6) else []}
        for i in range(8)
    ]
    timings = [timing(i, 0.030 + 0.001 * i, 0.025) for i in (3, 2, 1, 0, 4, 5, 6, 7)]
    log = session_log([*answers, *timings])
    assert tracked_overheads(log) == pytest.approx([0.007, 0.008])
    record = overhead_record(log)
    assert record['overhead_p50_ms'] == pytest.approx(7.5)
    assert record['within_limits'] is False
    quick = session_log([*answers, *[timing(i, 0.028, 0.025) for i in range(8)]])
    assert overhead_record(quick)['within_limits'] is True
    assert overhead_record(session_log([]))['within_limits'] is False


def detections(stamp: int) -> dict[str, object]:
    row = {'object': 'mug', 'id': 'mug_0', 'score': 0.5, 'pose': [0.1, 0.2, 0.7, 0.0, 0.0, 1.0, 0.0]}
    return {'kind': 'detections', 'stamp_ns': stamp, 'received_s': 2.5, 'poses': [row]}


def test_logs_are_joined_by_stamp() -> None:
    log = session.SessionLog({5: 1.0, 7: 2.0}, (detections(7),), 0.0, 0.0, None, None)
    first, second = session.join_by_stamp([7, 5], log)
    assert (first.stamp_ns, first.sent_s, first.received_s, first.poses) == (5, 1.0, None, ())
    assert (second.sent_s, second.received_s) == (2.0, 2.5)
    np.testing.assert_allclose(second.poses[0].cam_from_obj.rotation, np.diag([-1.0, -1.0, 1.0]), atol=1e-12)
    np.testing.assert_allclose(second.poses[0].cam_from_obj.translation, [0.1, 0.2, 0.7])
    assert session.consistency(log) == {'detections': 1, 'pose_stamped': 0, 'tf': 0}


def test_answers_without_an_image_and_double_answers_are_errors() -> None:
    with pytest.raises(BagError, match='stamp 9 ns, which no image of the bag has'):
        session.join_by_stamp([7], session_log([detections(9)]))
    with pytest.raises(BagError, match='stamp 7 ns twice'):
        session.join_by_stamp([7], session_log([detections(7), detections(7)]))


def test_a_broken_log_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / 'log.jsonl'
    path.write_text(json.dumps({'a': 1}) + '\n{"b": ')
    with pytest.raises(BagError, match='line 2: not a JSON object'):
        session.read_json_lines(path)
    with pytest.raises(BagError, match='cannot be read'):
        session.read_json_lines(tmp_path / 'none')


def test_children_stay_on_this_host(tmp_path: Path) -> None:
    user = {'ROS_STATIC_PEERS': '10.0.0.9', 'FASTDDS_DEFAULT_PROFILES_FILE': '/etc/open.xml', 'LD_LIBRARY_PATH': '/x'}
    found = isolated_environment(user, tmp_path / 'p.xml')
    assert found['ROS_LOCALHOST_ONLY'] == '1'
    assert found['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert found['ROS_DOMAIN_ID'] != '0'
    assert 'ROS_STATIC_PEERS' not in found
    assert found['FASTDDS_DEFAULT_PROFILES_FILE'] == str(tmp_path / 'p.xml')
    assert found['LD_LIBRARY_PATH'] == '/x'
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' not in isolated_environment(user)
