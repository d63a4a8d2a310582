"""package.xml, setup.py and the repository agree, and everything that a user runs or launches is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import pytest

import kd6d_ros

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


@pytest.fixture(scope='module')
def arguments() -> dict[str, Any]:
    """What setup.py passes to setuptools."""
    pytest.importorskip('setuptools')
    previous = Path.cwd()
    os.chdir(ROOT)
    try:
        with mock.patch('setuptools.setup') as setup:
            runpy.run_path('setup.py')
    finally:
        os.chdir(previous)
    return dict(setup.call_args.kwargs)


def test_versions_agree(manifest: ElementTree.Element, arguments: dict[str, Any]) -> None:
    assert manifest.findtext('version') == arguments['version'] == kd6d_ros.__version__
    assert f'\n{kd6d_ros.__version__} (' in (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')


def test_manifest_is_a_format_3_ament_python_package(manifest: ElementTree.Element, arguments: dict[str, Any]) -> None:
    assert manifest.get('format') == '3'
    assert manifest.findtext('name') == arguments['name'] == 'kd6d_ros'
    assert manifest.findtext('export/build_type') == 'ament_python'
    assert manifest.findtext('license') == arguments['license'] == 'Apache-2.0'
    maintainer = manifest.find('maintainer')
    assert maintainer is not None
    assert re.fullmatch(r'[^@\s]+@[^@\s]+\.[a-z]+', maintainer.get('email', ''))
    assert maintainer.get('email') == arguments['maintainer_email']


def test_manifest_names_every_ros_package_that_the_code_imports(manifest: ElementTree.Element) -> None:
    declared = {node.text for node in manifest.iter('exec_depend')}
    optional = {'cv_bridge', 'tf2_ros'}
    pattern = re.compile(
        r'^\s*(?:from|import) ([a-z0-9_]*(?:_msgs|_srvs|_interfaces)|rclpy|launch\w*|ament\w*|cv_bridge|tf2\w*)\b'
    )
    imported: set[str] = set()
    for path in [*(ROOT / 'kd6d_ros').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]:
        for line in path.read_text(encoding='utf-8').splitlines():
            found = pattern.match(line)
            if found:
                imported.add(found.group(1))
    assert imported - declared - optional == set()


def test_manifest_asks_rosdep_for_apt_packages_only(manifest: ElementTree.Element) -> None:
    keys = {str(node.text) for tag in ('exec_depend', 'test_depend') for node in manifest.iter(tag)}
    assert not {key for key in keys if key.endswith('-pip')}
    assert not keys & {'onnxruntime', 'python3-onnxruntime', 'rosbags', 'python3-rosbags', 'torch'}


@pytest.mark.parametrize('folder', ['launch', 'config', 'models'])
def test_every_file_of_a_shared_folder_is_installed(arguments: dict[str, Any], folder: str) -> None:
    installed = {file: target for target, files in arguments['data_files'] for file in files}
    tracked = subprocess.run(
        ['git', 'ls-files', folder], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    for name in (name for name in tracked if (ROOT / name).is_file()):
        assert installed.get(name) == f'share/kd6d_ros/{Path(name).parent.as_posix()}', name


def test_resource_marker_and_manifest_are_installed(arguments: dict[str, Any]) -> None:
    installed = dict(arguments['data_files'])
    assert installed['share/ament_index/resource_index/packages'] == ['resource/kd6d_ros']
    assert installed['share/kd6d_ros'] == ['package.xml']
    assert (ROOT / 'resource/kd6d_ros').is_file()
    assert all(not os.path.isabs(target) for target in installed)


def test_every_console_script_exists_and_is_callable(arguments: dict[str, Any]) -> None:
    scripts = dict(entry.split(' = ') for entry in arguments['entry_points']['console_scripts'])
    assert set(scripts) == {'kd6d', 'pose_estimator', 'bag_player', 'collision_objects'}
    for target in scripts.values():
        module, function = target.split(':')
        assert importlib.util.find_spec(module) is not None, module
        if module.startswith('kd6d_ros.ros'):
            pytest.importorskip('rclpy')
            pytest.importorskip('vision_msgs.msg')
        assert callable(getattr(importlib.import_module(module), function))


def test_every_package_with_code_is_found(arguments: dict[str, Any]) -> None:
    folders = {path.parent for path in (ROOT / 'kd6d_ros').rglob('*.py')}
    assert {'.'.join(folder.relative_to(ROOT).parts) for folder in folders} == set(arguments['packages'])


def test_extras_that_users_are_told_about_exist(arguments: dict[str, Any]) -> None:
    from kd6d_ros.cli.missing import EXTRAS

    extras = arguments['extras_require']
    assert {'train', 'synth', 'bench', 'dev', *EXTRAS} <= set(extras)
    requirement = re.compile(r'[A-Za-z0-9_.-]+(\[\w+\])?(==|>=)[0-9.]+(,<[0-9.]+)?')
    for name in [*arguments['install_requires'], *(item for items in extras.values() for item in items)]:
        assert requirement.fullmatch(name), f'{name}: every dependency has a range or a pin'


def test_pip_never_replaces_the_opencv_of_a_robot(arguments: dict[str, Any]) -> None:
    assert not [name for name in arguments['install_requires'] if 'opencv' in name or 'onnxruntime' in name]


def test_ros_wheels_are_pinned_alike(arguments: dict[str, Any]) -> None:
    lines = (ROOT / 'test/interfaces/requirements.txt').read_text(encoding='utf-8').split('\n')
    pins = {line.strip() for line in lines if line.strip() and not line.startswith('#')}
    assert set(arguments['extras_require']['ros']) <= pins
    assert all('==' in pin for pin in pins)


def test_python_of_both_distributions_is_accepted(arguments: dict[str, Any]) -> None:
    assert arguments['python_requires'] == '>=3.10'
    assert sys.version_info >= (3, 10)


def test_setup_cfg_puts_executables_where_ros2_run_looks() -> None:
    text = (ROOT / 'setup.cfg').read_text(encoding='utf-8')
    assert 'script_dir=$base/lib/kd6d_ros' in text
    assert 'install_scripts=$base/lib/kd6d_ros' in text
