"""`kd6d bench` from a bag to table, page, JSON and bag, and its ways of saying what it cannot measure."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np
import pytest

from kd6d_ros.benchmark.bag_source import BagSource
from kd6d_ros.benchmark.comparison import Comparison, row_notes
from kd6d_ros.benchmark.machine import peak_memory_mb
from kd6d_ros.benchmark.rows import published_pose
from kd6d_ros.benchmark.variants import make_variants
from kd6d_ros.cli.main import main
from kd6d_ros.errors import ConfigError

MakeBag = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


def bench(bag: Path, bundle: Path, out: Path, *extra: str) -> dict[str, Any]:
    arguments = ['bench', '--bag', str(bag), '--bundle', str(bundle), '--out', str(out), '--threads', '1', *extra]
    assert main(arguments) == 0
    record: dict[str, Any] = json.loads((out / 'result.json').read_text())
    return record


@pytest.mark.slow
def test_the_shipped_dense_bundle_beside_the_other(cut_demo_bag: MakeBag, demo: Path, tmp_path: Path) -> None:
    """One object, one estimator, two kinds of networks: right on the same frames."""
    both = ['--bundle', str(demo.parent / 'demo_dense'), '--precision', 'fp32', '--rounds', '1']
    rows = bench(cut_demo_bag(20), demo, tmp_path / 'out', *both)['rows']
    assert [row['bundle'] for row in rows] == ['demo', 'demo_dense']
    for row in rows:
        assert (row['targets'], row['false_poses']) == (20, 0)
        assert row['add_recall'] >= 0.8
        assert row['translation_m']['p50'] < 0.012


@pytest.mark.slow
def test_two_precisions_are_compared(cut_demo_bag: MakeBag, demo: Path, tmp_path: Path, capsys: Capture) -> None:
    bag, out = cut_demo_bag(8), tmp_path / 'out'
    extra = ['--precision', 'fp32', '--precision', 'int8-cpu', '--rounds', '2', '--camera-rate', '100000']
    assert main(['bench', '--bag', str(bag), '--bundle', str(demo), '--out', str(out), *extra]) == 2
    assert '--camera-rate 100000: must be 0.01 to 10000 Hz' in capsys.readouterr().err
    before = peak_memory_mb() or 0.0
    record = bench(bag, demo, out, *extra[:-1], '10000')
    table = capsys.readouterr()
    first, second = record['rows']
    assert [first['row'], second['row']] == ['demo fp32', 'demo int8-cpu']
    assert 'demo int8-cpu' in table.out
    assert [line[:12] for line in table.err.splitlines()] == ['round 1 of 2'] * 2 + ['round 2 of 2'] * 2
    assert first['times_the_first'] == 1.0
    for row in record['rows']:
        assert (row['images'], row['rounds'], row['targets'], row['spinning']) == (8, 2, 8, 'no')
        assert row['poses_repeat'] is True
        assert list(row['latency_ms']) == ['mean', 'p50', 'p90', 'p95', 'p99', 'max']
        assert {'preprocess', 'inference', 'decode', 'pnp', 'total'} <= set(row['stages_ms'])
        # Every image arrives before the first is done: only that one and the last are worked on.
        assert row['camera']['dropped'] == 6
        assert row['recall_5cm_5deg'] >= 0.75
        # Of this process so far, in which other tests may have needed much.
        assert 20 < row['peak_memory_mb'] < before + 500
        assert row['gpu_memory_mb'] is not None or row['why']['gpu_memory_mb']
    assert set(record['versions']) == {'onnxruntime', 'opencv', 'rosbags', 'numpy'}
    hashes = [record['configuration_sha256'], record['bag_sha256'], *record['bundles']['demo']['engines'].values()]
    assert [len(value) for value in hashes] == [64] * 4
    page = (out / 'report.html').read_text()
    assert 'http' not in page
    assert '<script' not in page
    assert page.count('src="data:image/jpeg;base64,') >= 8
    assert page.count('<svg') == 2 + 2 * 2
    check_results_bag(out / 'results_bag', record)


def check_results_bag(path: Path, record: dict[str, Any]) -> None:
    with BagSource(path) as source:
        topics = source.topics()
        assert {'/bench/ground_truth', '/bench/demo_fp32/detections', '/bench/demo_int8_cpu/poses/toy_rover'} < set(
            topics
        )
        assert topics['/bench/demo_fp32/detections'].count == 8
        for raw in source.raw_messages(['/tf']):
            (transform,) = source.decode(raw).transforms
            assert transform.child_frame_id in ('demo_fp32/toy_rover_0', 'demo_int8_cpu/toy_rover_0')
            assert transform.header.frame_id == 'demo_camera_optical_frame'
            break
        poses = [source.decode(raw).pose.position for raw in source.raw_messages(['/bench/demo_fp32/poses/toy_rover'])]
        assert len(poses) == record['rows'][0]['poses']
        assert all(0.4 < place.z < 1.3 for place in poses)


@pytest.mark.slow
def test_without_ground_truth_there_is_speed_and_a_line(
    cut_demo_bag: MakeBag, demo: Path, tmp_path: Path, capsys: Capture
) -> None:
    bag = cut_demo_bag(4, ('/ground_truth',))
    (row,) = bench(bag, demo, tmp_path / 'out', '--rounds', '1')['rows']
    assert row['latency_ms']['p50'] > 0
    assert 'add_recall' not in row
    assert row['why']['accuracy'].startswith('no ground truth in the bag')
    assert 'no accuracy (demo): no ground truth in the bag' in capsys.readouterr().out
    assert '<svg' in (tmp_path / 'out' / 'report.html').read_text()


@pytest.mark.slow
def test_truth_of_other_objects_is_said(make_bag: MakeBag, demo: Path, tmp_path: Path, capsys: Capture) -> None:
    (row,) = bench(make_bag(), demo, tmp_path / 'out', '--rounds', '1', '--limit', '2')['rows']
    assert row['images'] == 2
    assert row['why']['accuracy'] == 'the truth is about mug, bundle demo about toy_rover'
    capsys.readouterr()


def one_line(capsys: Capture, arguments: list[str]) -> str:
    assert main(['bench', *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count('\n') == 1, captured.err
    return captured.err


def test_mistakes_are_one_line(make_bag: MakeBag, demo: Path, tmp_path: Path, capsys: Capture) -> None:
    bag, out = make_bag(), tmp_path / 'out'
    usual = ['--bag', str(bag), '--bundle', str(demo), '--out', str(out)]
    assert 'int4' in one_line(capsys, [*usual, '--precision', 'int4'])
    assert '--rounds 0: must be 1 to 1000' in one_line(capsys, [*usual, '--rounds', '0'])
    assert '--limit 0: must be at least 1' in one_line(capsys, [*usual, '--limit', '0'])
    assert 'no topic /x; the bag has /camera/camera_info' in one_line(capsys, [*usual, '--image', '/x'])
    assert 'no topic /y; the bag has' in one_line(capsys, [*usual, '--truth', '/y'])
    assert '--precision: one value is given twice' in one_line(capsys, [*usual, *['--precision', 'fp32'] * 2])
    assert 'two bundles have the same folder name' in one_line(capsys, [*usual, '--bundle', str(demo)])
    file = next(bag.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:-200])
    assert 'cut off' in one_line(capsys, usual)
    assert not out.exists()
    out.mkdir()
    (out / 'mine').write_text('x')
    assert 'is there already; give a new folder' in one_line(capsys, usual)


def test_rows_are_named_by_what_differs() -> None:
    bundles = [Path('a/x'), Path('y')]
    assert [item.name for item in make_variants(bundles, ['fp32'], ['auto'])] == ['x', 'y']
    rows = make_variants(bundles[:1], ['fp32', 'int8'], ['auto', 'tensorrt'], [2])
    assert [item.name for item in rows] == ['x fp32 auto', 'x fp32 tensorrt', 'x int8 auto', 'x int8 tensorrt']
    assert rows[1].slug == 'x_fp32_tensorrt'
    assert [item.name for item in make_variants(bundles[:1], ['fp32'], ['auto'], [1, 2])] == [
        'x 1 threads',
        'x 2 threads',
    ]
    with pytest.raises(ConfigError, match='same folder name'):
        make_variants([Path('a/x'), Path('b/x')], ['fp32'], ['auto'])


def test_a_logged_pose_comes_back() -> None:
    numbers = np.arange(36.0)
    row = {'object': 'mug', 'id': 'mug_1', 'score': 0.5, 'pose': [1, 2, 3, 0, 0, 1, 0], 'covariance': numbers.tolist()}
    pose = published_pose(row)
    np.testing.assert_allclose(pose.cam_from_obj.rotation, np.diag([-1.0, -1, 1]), atol=1e-12)
    np.testing.assert_array_equal(pose.covariance, numbers.reshape(6, 6))
    assert published_pose({**row, 'covariance': None}).covariance is None


def row_of(name: str, objects: list[str], repeat: bool = True) -> Any:
    record = {'objects': objects, 'poses_repeat': repeat, 'notes': [], 'why': {'jitter': 'no rest'}}
    return SimpleNamespace(variant=SimpleNamespace(name=name), accuracy=SimpleNamespace(score=object()), record=record)


def test_what_rows_cannot_be_compared_on_is_said() -> None:
    rows = (row_of('a', ['mug']), row_of('b', ['can'], repeat=False))
    notes = row_notes(rows)
    assert notes[0] == 'the rows are scored on different objects, so their accuracies do not compare'
    assert notes[1].startswith('b: its poses differ from round to round')
    recording: Any = SimpleNamespace(notes=('2 images repeat a stamp',))
    lines = Comparison(recording, rows, {'notes': notes}).notes
    assert lines == ['2 images repeat a stamp', *notes, 'no jitter (a, b): no rest']
    assert row_notes(rows[:1]) == []
