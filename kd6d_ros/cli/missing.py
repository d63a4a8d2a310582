"""What to install when an optional package is missing."""

from __future__ import annotations

import sys
from typing import Optional

EXTRAS = {
    'train': ('torch', 'lightning', 'pytorch_lightning', 'tensorboard', 'onnx', 'tqdm'),
    'timm': ('timm', 'torchvision', 'huggingface_hub', 'safetensors'),
    'synth': ('trimesh', 'moderngl', 'glcontext', 'fast_simplification', 'scipy', 'PIL'),
    'bench': ('rosbags', 'psutil'),
    'engine': ('onnxruntime',),
    'opencv': ('cv2',),
}
"""Extra of setup.py -> modules that come with it."""

APT = {'numpy': 'python3-numpy', 'yaml': 'python3-yaml'}
"""Modules the package always needs -> Debian package (pip names are the same but for PyYAML)."""

ROS = {
    'rclpy',
    'lifecycle_msgs',
    'sensor_msgs',
    'geometry_msgs',
    'std_msgs',
    'vision_msgs',
    'visualization_msgs',
    'diagnostic_msgs',
    'std_srvs',
    'tf2_msgs',
    'tf2_ros',
    'cv_bridge',
    'launch',
    'launch_ros',
    'ament_index_python',
}
"""Modules that come with ROS 2."""


def cure_for(error: ImportError) -> Optional[str]:
    """One line that names the missing package and how to get it, or None for a module nobody ships.

    `error` is what the failed import raised; its `name` is the module.
    """
    module = (error.name or '').split('.')[0]
    if isinstance(error, ModuleNotFoundError) or module not in sys.modules:
        what = f"the Python package '{module}' is missing"
    else:
        what = f"the Python package '{module}' does not load ({error})"
    for extra, modules in EXTRAS.items():
        if module in modules:
            command = f"pip install '.[{extra}]' in the kd6d_ros folder"
            return f'{what}; install it with: {command}{_robot_hint(extra)}'
    if module in APT:
        return f'{what}; install it with: apt install {APT[module]} (or pip install .)'
    if module in ROS:
        return (
            f'{what}; install ROS 2 and source its setup.bash, or use the wheels for development: '
            "pip install '.[dev]' in the kd6d_ros folder"
        )
    return None


def _robot_hint(extra: str) -> str:
    """How a robot gets the same, without replacing what apt installed."""
    if extra == 'opencv':
        return ' (on a robot: apt install python3-opencv)'
    if extra not in ('engine', 'bench'):
        return ''
    package = 'onnxruntime' if extra == 'engine' else 'rosbags'
    if sys.version_info < (3, 11):
        return f' (on a robot: pip install --user -c config/constraints-humble.txt {package})'
    constraints = 'config/constraints-jazzy.txt'
    return f' (on a robot: pip install --user --break-system-packages -c {constraints} {package})'
