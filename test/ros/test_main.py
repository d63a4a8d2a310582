"""The executable: help, stray arguments, what is missing."""

import subprocess
import sys

import pytest

from kd6d_ros.ros.main import import_cure, main


def test_help_and_stray_arguments(capsys):
    pytest.importorskip('rclpy')
    pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not built: run test/interfaces/build.py')
    pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not built: run test/interfaces/build.py')
    assert main(['--help']) == 0
    assert 'usage: pose_estimator --ros-args' in capsys.readouterr().out
    assert main(['lmo']) == 2
    assert "unknown argument 'lmo'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('module', 'text'),
    [
        ('rclpy', 'source a ROS 2 installation'),
        ('vision_msgs', 'sudo apt install ros-$ROS_DISTRO-vision-msgs'),
        ('yaml', 'rosdep install'),
    ],
)
def test_a_missing_package_names_the_cure(module, text):
    assert text in import_cure(ImportError(f"No module named '{module}'", name=module))


BLOCKED = """
import sys
NOT_NEEDED = ('torch', 'lightning', 'cv_bridge', 'tf2_ros', 'message_filters', 'diagnostic_updater')
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in NOT_NEEDED:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
import kd6d_ros.ros.node, kd6d_ros.inference.estimator, kd6d_ros.ros.factory
print(sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'onnxruntime', 'scipy', 'trimesh', 'moderngl')))
"""

PURE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0].endswith('_msgs') or name.split('.')[0] in ('rclpy', 'rcl_interfaces'):
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
from kd6d_ros.ros import camera_info, cv_bridge_probe, diagnostics, factory, main, overlay, parameter_file
from kd6d_ros.ros import params, pipeline, stamps, worker
"""


def test_the_node_needs_rclpy_messages_and_nothing_optional():
    pytest.importorskip('rclpy')
    pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not built: run test/interfaces/build.py')
    pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not built: run test/interfaces/build.py')
    done = subprocess.run([sys.executable, '-c', BLOCKED], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '[]'


def test_pure_modules_need_no_ros():
    done = subprocess.run([sys.executable, '-c', PURE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
