"""The robot side imports in a fresh interpreter where torch, the workshop and rclpy do not exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'kd6d_ros'

WORKSHOP_PACKAGES = (
    'torch', 'lightning', 'pytorch_lightning', 'tensorboard', 'torchvision', 'timm', 'safetensors', 'tensorrt', 'cuda',
    'onnx', 'onnxscript', 'trimesh', 'moderngl', 'glcontext', 'fast_simplification', 'scipy', 'PIL',
)  # fmt: skip
ROS_PACKAGES = ('rclpy', 'sensor_msgs', 'geometry_msgs', 'vision_msgs', 'tf2_msgs', 'tf2_ros', 'cv_bridge')

WALK = """
import importlib, sys
for name in {blocked!r}:
    sys.modules[name] = None
for module in {modules!r}:
    importlib.import_module(module)
loaded = sorted(name for name in {blocked!r} if sys.modules.get(name) is not None)
assert not loaded, loaded
workshop = [name for name in sys.modules if name.startswith({rooms!r})]
assert not workshop, workshop
"""
WORKSHOP_ROOMS = (
    'kd6d_ros.networks', 'kd6d_ros.distillation', 'kd6d_ros.training', 'kd6d_ros.deployment',
    'kd6d_ros.data.renderer', 'kd6d_ros.data.synth', 'kd6d_ros.data.mesh_files',
)  # fmt: skip


def modules_of(pattern: str) -> list[str]:
    """Dotted names of the package's files that match a glob."""
    names = [path.relative_to(ROOT).with_suffix('').parts for path in sorted(PACKAGE.glob(pattern))]
    return ['.'.join(parts[:-1] if parts[-1] == '__init__' else parts) for parts in names]


def import_blocked(modules: list[str], blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Import `modules` in a fresh interpreter in which the packages `blocked` cannot be imported."""
    script = WALK.format(blocked=blocked, modules=modules, rooms=WORKSHOP_ROOMS)
    command = [sys.executable, '-c', script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    'room', ['*.py', 'geometry/**/*.py', 'inference/**/*.py', 'evaluation/**/*.py', 'benchmark/**/*.py',
             'cli/**/*.py', 'data/bop*.py', 'data/photo_*.py']
)  # fmt: skip
def test_robot_room_imports_without_torch_and_without_ros(room: str) -> None:
    modules = modules_of(room)
    if room == 'benchmark/**/*.py':
        # Reading a bag needs rosbags, which is an extra; the rest of the room must not.
        pytest.importorskip('rosbags')
    assert modules, f'no module matches {room}'
    result = import_blocked(modules, WORKSHOP_PACKAGES + ROS_PACKAGES)
    assert result.returncode == 0, result.stderr


def test_ros_room_imports_without_torch() -> None:
    pytest.importorskip('rclpy', reason='the ros room needs rclpy (apt, or the wheels of test/interfaces)')
    for package in ('vision_msgs', 'moveit_msgs'):
        pytest.importorskip(f'{package}.msg', reason=f'{package} is not built: test/interfaces/build.py')
    blocked = (*WORKSHOP_PACKAGES, 'cv_bridge', 'tf2_ros')
    result = import_blocked(modules_of('ros/**/*.py'), blocked)
    assert result.returncode == 0, result.stderr


def test_the_walk_would_notice_a_blocked_package() -> None:
    result = import_blocked(['torch'], WORKSHOP_PACKAGES)
    assert result.returncode != 0
    assert "No module named 'torch'" in result.stderr or 'import of torch halted' in result.stderr


def test_workshop_imports_without_ros() -> None:
    for package in ('torch', 'lightning', 'moderngl', 'trimesh', 'onnx'):
        pytest.importorskip(package)
    rooms = ('data', 'networks', 'distillation', 'training', 'deployment')
    modules = [module for room in rooms for module in modules_of(f'{room}/**/*.py')]
    script = f'import importlib, sys\nfor name in {ROS_PACKAGES!r}: sys.modules[name] = None\n'
    script += f'for module in {modules!r}: importlib.import_module(module)'
    command = [sys.executable, '-c', script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
