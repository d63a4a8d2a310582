"""The node and an offline run over the images it worked on give the same poses, also when the node cannot keep up."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from kd6d_ros.benchmark.parity import compare_poses
from kd6d_ros.benchmark.records import PublishedPose
from kd6d_ros.cli.main import main
from kd6d_ros.errors import BagError
from kd6d_ros.geometry.transforms import rotation_from_vector
from kd6d_ros.types import RigidTransform

ROOT = Path(__file__).resolve().parents[2]
MakeBag = Callable[..., Path]


def pose(x: float = 0.0, turn: float = 0.0, name: str = 'mug_0') -> PublishedPose:
    rotation = rotation_from_vector(np.array([turn, 0, 0]))
    return PublishedPose('mug', name, RigidTransform(rotation, np.array([x, 0, 1])), 0.9)


def test_differences_are_found_in_metres_and_radians() -> None:
    online = {1: [pose()], 2: [pose(0.2), pose(0.3, name='mug_1')], 3: []}
    assert compare_poses(online, online).holds
    nearly = compare_poses(online, {**online, 1: [pose(5e-7, 5e-7)]})
    assert nearly.holds
    assert (nearly.images, nearly.poses) == (3, 3)
    moved = compare_poses(online, {**online, 1: [pose(2e-6)]})
    assert not moved.holds
    assert moved.translation_m == pytest.approx(2e-6)
    turned = compare_poses(online, {**online, 1: [pose(turn=3e-6)]})
    assert not turned.holds
    assert turned.rotation_rad == pytest.approx(3e-6)


def test_other_instances_and_other_images_do_not_pass() -> None:
    online = {1: [pose()], 2: [pose()]}
    missing = compare_poses(online, {1: [pose()], 2: []})
    assert not missing.holds
    assert missing.other == (2,)
    assert compare_poses(online, {1: [pose()], 2: [pose(name='mug_1')]}).other == (2,)
    with pytest.raises(BagError, match='2 images online, 1 offline'):
        compare_poses(online, {1: [pose()]})


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize(('rate', 'frames'), [(0.25, 20), (4.0, 70)])
def test_the_real_node_agrees_with_an_offline_run(
    rate: float, frames: int, demo: Path, cut_demo_bag: MakeBag, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip('rclpy', reason='rclpy is not installed: make test installs it, or source ROS 2')
    bag, out = cut_demo_bag(frames), tmp_path / 'out'
    arguments = ['--bag', str(bag), '--bundle', str(demo), '--out', str(out), '--rate', str(rate), '--threads', '1']
    assert main(['bench-node', *arguments]) == 0
    record: dict[str, Any] = json.loads((out / 'result.json').read_text())
    assert record['parity']['holds'] is True
    assert record['parity']['images'] == record['processed'] == len(record['processed_stamps_ns']) >= 2
    assert record['sent'] == frames
    if rate > 1:
        assert record['processed'] < frames  # 120 Hz is more than one thread can do
    assert record['age_at_publish_ms']['p50'] > 0
    assert 'offline run agrees' in capsys.readouterr().out
    assert (out / 'report.html').is_file()
    assert (out / 'results_bag' / 'metadata.yaml').is_file()


@pytest.mark.parametrize(
    ('extra', 'message'),
    [(['--rate', '0'], '--rate 0: must be above 0'), (['--param', 'x'], '--param x: expected NAME=VALUE')],
)
def test_mistakes_are_one_line(
    extra: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_bag: MakeBag
) -> None:
    arguments = ['--bag', str(make_bag()), '--bundle', str(ROOT / 'models' / 'demo'), '--out', str(tmp_path / 'o')]
    assert main(['bench-node', *arguments, *extra]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count('\n') == 1


@pytest.fixture
def launch_module() -> Any:
    pytest.importorskip('launch_ros', reason='launch_ros is not on PyPI: it comes with ROS 2')
    spec = importlib.util.spec_from_file_location('benchmark_launch', ROOT / 'launch' / 'benchmark.launch.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_launch_file_passes_what_is_given(launch_module: Any, tmp_path: Path) -> None:
    from kd6d_ros.cli.main import build_parser

    values = {item.name: '' for item in launch_module.ARGUMENTS}
    values.update(bag='b', bundle='demo', out='o', rate='2.0', precision='fp32', engine='auto', camera_info='/c')
    command = launch_module.command(values)
    assert command[:3] == ['bench-node', '--bag', 'b']
    assert '--threads' not in command
    parsed = build_parser('bench-node').parse_args(command)
    assert (parsed.camera_info, parsed.rate, parsed.truth) == ('/c', 2.0, [])
    assert {item.name for item in launch_module.ARGUMENTS} <= set(vars(parsed))


def test_the_launch_starts_the_command_alone_and_fails_with_it(launch_module: Any) -> None:
    from launch import LaunchContext
    from launch.actions import ExecuteProcess
    from launch.events import Shutdown
    from launch.events.process import ProcessExited
    from launch_ros.actions import Node

    context = LaunchContext()
    context.launch_configurations['bag'] = 'b'
    for item in launch_module.ARGUMENTS[1:]:
        item.execute(context)
    (run,) = [item for item in launch_module.start(context) if isinstance(item, ExecuteProcess)]
    assert not isinstance(run, Node)  # which would append --ros-args
    facts: dict[str, Any] = {'name': 'kd6d', 'cmd': [], 'cwd': None, 'env': None, 'pid': 1, 'action': run}
    good = launch_module.ended(ProcessExited(returncode=0, **facts), context)
    assert isinstance(good.event, Shutdown)
    with pytest.raises(RuntimeError, match='ended with code 2'):
        launch_module.ended(ProcessExited(returncode=2, **facts), context)
