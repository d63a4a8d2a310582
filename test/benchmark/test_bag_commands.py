"""`kd6d demo`, `bench` and `make-bag`: mistakes are one line and exit code 2, nothing half-written remains."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Callable

import cv2
import numpy as np
import pytest

from kd6d_ros.benchmark.bag_frames import read_frames
from kd6d_ros.benchmark.bag_source import BagSource, find_topics, read_ground_truth
from kd6d_ros.cli import demo_run
from kd6d_ros.cli.main import main

MakeBag = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]


def one_line(capsys: Capture, arguments: list[str]) -> str:
    """Run a command that has to fail; return its only line."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert 'Traceback' not in captured.err
    return lines[0]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A BOP dataset of two images of 64x48 px, the object being half visible in the first."""
    scene = tmp_path / 'bop' / 'test' / '000003'
    (scene / 'rgb').mkdir(parents=True)
    for image_id in (4, 9):
        cv2.imwrite(str(scene / 'rgb' / f'{image_id:06d}.png'), np.full((48, 64, 3), 10 * image_id, np.uint8))
    camera = '{"cam_K": [80, 0, 31.5, 0, 82, 23.5, 0, 0, 1], "depth_scale": 1.0}'
    pose = '[{"obj_id": 2, "cam_R_m2c": [1,0,0,0,1,0,0,0,1], "cam_t_m2c": [10, 20, 700]}]'
    info = '[{"bbox_obj": [1,2,3,4], "bbox_visib": [1,2,3,4], "visib_fract": %s, "px_count_all": 10, %s}]'
    counts = '"px_count_valid": 10, "px_count_visib": 5'
    (scene / 'scene_camera.json').write_text(f'{{"4": {camera}, "9": {camera}}}')
    (scene / 'scene_gt.json').write_text(f'{{"4": {pose}, "9": {pose}}}')
    (scene / 'scene_gt_info.json').write_text(f'{{"4": {info % (0.5, counts)}, "9": {info % (1.0, counts)}}}')
    return tmp_path / 'bop'


def test_make_bag_keeps_order_poses_and_names(dataset: Path, tmp_path: Path, capsys: Capture) -> None:
    names = tmp_path / 'names.yaml'
    names.write_text('unit: mm\nobjects:\n  2: {name: cup}\n')
    out = tmp_path / 'bag'
    arguments = ['make-bag', '--dataset', str(dataset), '--scene', '3', '--out', str(out)]
    assert main([*arguments, '--format', 'png', '--rate', '10', '--names', str(names)]) == 0
    assert '2 images, 2 objects' in capsys.readouterr().out
    with BagSource(out) as source:
        topics = find_topics(source)
        frames = list(read_frames(source, topics))
        truth = read_ground_truth(source, topics.truth)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [40, 90]
    assert frames[1].stamp_ns - frames[0].stamp_ns == 100_000_000
    first = truth[frames[0].stamp_ns][0]
    assert (first.object_name, first.visible_fraction) == ('cup', 0.5)
    np.testing.assert_allclose(first.cam_from_obj.translation, [0.01, 0.02, 0.7])
    np.testing.assert_allclose(frames[0].camera.matrix[1], [0, 82, 23.5])


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (['--scene', '8'], r'no scene 8; it has 3'),
        (['--scene', '3', '--rate', '0'], r'--rate 0: must be 0.01 to 1000'),
        (['--scene', '3', '--quality', '0'], r'--quality 0: must be 1 to 100'),
        (['--scene', '3', '--names', 'nowhere.yaml'], r'nowhere.yaml'),
    ],
)
def test_make_bag_mistakes(dataset: Path, tmp_path: Path, capsys: Capture, extra: list[str], message: str) -> None:
    out = tmp_path / 'bag'
    line = one_line(capsys, ['make-bag', '--dataset', str(dataset), '--out', str(out), *extra])
    assert message in line
    assert not out.exists()


def test_make_bag_leaves_nothing_when_an_image_is_broken(dataset: Path, tmp_path: Path, capsys: Capture) -> None:
    (dataset / 'test' / '000003' / 'rgb' / '000009.png').write_bytes(b'no png')
    out = tmp_path / 'out' / 'bag'
    line = one_line(capsys, ['make-bag', '--dataset', str(dataset), '--scene', '3', '--out', str(out)])
    assert '000009.png' in line
    assert list((tmp_path / 'out').iterdir()) == []


def test_make_bag_keeps_an_existing_bag(dataset: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / 'bag').mkdir()
    arguments = ['make-bag', '--dataset', str(dataset), '--scene', '3', '--out', str(tmp_path / 'bag')]
    assert 'exists already' in one_line(capsys, arguments)


@pytest.mark.parametrize('command', ['demo', 'bench'])
def test_a_missing_bundle_or_bag_is_one_line(command: str, make_bag: MakeBag, tmp_path: Path, capsys: Capture) -> None:
    bag, out = str(make_bag()), str(tmp_path / 'out')
    line = one_line(capsys, [command, '--bag', bag, '--bundle', str(tmp_path / 'none'), '--out', out])
    assert 'no such bundle' in line
    if command == 'bench':
        missing, bundle = str(tmp_path / 'none'), str(ROOT / 'models' / 'demo')
        assert 'no such bag' in one_line(capsys, [command, '--bag', missing, '--bundle', bundle, '--out', out])


def test_write_object_makes_the_mesh(tmp_path: Path, capsys: Capture) -> None:
    assert main(['demo', '--write-object', str(tmp_path / 'object')]) == 0
    assert (tmp_path / 'object' / 'demo_object.obj').is_file()
    capsys.readouterr()


def result(recall: float | None, false: int = 0, sent: int = 10, tf: int = 9) -> tuple[SimpleNamespace, dict[str, int]]:
    score = SimpleNamespace(recall=recall, false_poses=false, sent=sent, frames=10)
    return score, {'detections': 9, 'pose_stamped': 9, 'tf': tf}


@pytest.mark.parametrize(
    ('outcome', 'problems'),
    [
        (result(0.95), []),
        (result(0.85), ['ADD recall 0.850 is below 0.9']),
        (result(None), ['the bag has no frame in which an object has to be found']),
        (result(1.0, false=2), ['2 poses were published of an object that was not in view']),
        (result(1.0, sent=8), ['2 of 10 frames were never sent']),
        (result(1.0, tf=8), ['the ways a pose is published disagree: detections 9, pose_stamped 9, tf 8']),
    ],
)
def test_the_verdict_names_what_is_wrong(outcome: tuple[SimpleNamespace, dict[str, int]], problems: list[str]) -> None:
    assert demo_run.verdict(*outcome, 0.9) == problems  # type: ignore[arg-type]


def test_the_shipped_bag_is_as_promised() -> None:
    """Ten seconds, at most 8 MB, occluded often enough, out of view once, object at 0.5 to 1.2 m."""
    bag = ROOT / 'models' / 'demo_bag'
    if not bag.is_dir():
        pytest.skip('models/demo_bag is not in this checkout')
    assert sum(path.stat().st_size for path in bag.iterdir()) <= 8_000_000
    with BagSource(bag) as source:
        topics = find_topics(source)
        truth = read_ground_truth(source, topics.truth)
        assert source.topics()[topics.image].count == len(truth) == 300
    items = [truth[stamp][0] for stamp in sorted(truth)]
    assert {item.object_name for item in items} == {'toy_rover'}
    visible = np.array([item.visible_fraction for item in items])
    assert (visible == 0).sum() >= 10
    assert ((visible > 0) & (visible < 0.7)).sum() >= 60
    distances = [float(np.linalg.norm(item.cam_from_obj.translation)) for item in items]
    assert 0.5 <= min(distances) <= max(distances) <= 1.2
    assert np.diff(sorted(truth)).max() <= 33_333_334


def test_demo_needs_a_positive_rate(capsys: Capture) -> None:
    args = argparse.Namespace(rate=0.0)
    with pytest.raises(Exception, match='--rate 0: must be above 0'):
        demo_run.run_demo(args)
