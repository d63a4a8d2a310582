"""The `kd6d` command: discovery, help without heavy packages, and one line for each mistake of a user."""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

import kd6d_ros
from kd6d_ros.cli import main as cli
from kd6d_ros.cli.missing import cure_for
from kd6d_ros.cli.output import format_table, wants_table, write_json
from kd6d_ros.errors import BundleError, ConfigError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ('torch', 'lightning', 'rclpy', 'cv2', 'numpy', 'onnxruntime', 'rosbags', 'trimesh', 'moderngl', 'yaml')
UNITS = re.compile(
    r'\[?\b(m|mm|metres?|px|pixels?|seconds?|s|ms|Hz|frames|images|faces|degrees|diameters?|folder|FILE)\b'
)


class FakeCommand:
    """A command module whose handler does what the test says."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action

    def add_parser(self, subparsers: Any) -> None:
        subparsers.add_parser('info').set_defaults(handler=lambda _: self.action())


def run_fake(monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> int:
    monkeypatch.setattr(cli.importlib, 'import_module', lambda _: FakeCommand(action))
    return cli.main(['info'])


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize('command', [[], *([name] for name in cli.available_commands())])
def test_help_works_without_heavy_packages(command: list[str]) -> None:
    script = f'import sys\nfor name in {HEAVY!r}: sys.modules[name] = None\n'
    script += f'from kd6d_ros.cli.main import main\nsys.exit(main({[*command, "--help"]!r}))'
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 'example' in done.stdout.lower()
    assert UNITS.search(done.stdout)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main(['--version'])
    assert leaving.value.code == 0
    assert capsys.readouterr().out == f'kd6d {kd6d_ros.__version__}\n'


def test_only_commands_with_a_module_are_listed() -> None:
    modules = {path.stem for path in (ROOT / 'kd6d_ros/cli').glob('*.py')}
    assert set(cli.available_commands()) == {name for name, module in cli.COMMANDS.items() if module in modules}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], r'kd6d: error: .*COMMAND.*\(see kd6d --help\)'),
        (['inform'], r"kd6d: error: .*invalid choice: 'inform'.*\(see kd6d --help\)"),
        (['info'], r'kd6d info: error: .*BUNDLE.*\(see kd6d info --help\)'),
        (['info', 'no/such/bundle'], r'kd6d info: error: .*no/such/bundle.*'),
    ],
)
def test_a_mistake_is_one_line_and_code_2(arguments: list[str], message: str) -> None:
    command = [sys.executable, '-m', 'kd6d_ros.cli.main', *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ''
    assert re.fullmatch(message + '\n', done.stderr), done.stderr


def test_our_errors_become_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_fake(monkeypatch, raising(BundleError('models/x/bundle.yaml line 3:\n  wrong'))) == 2
    assert capsys.readouterr().err == 'kd6d info: error: models/x/bundle.yaml line 3: wrong\n'


def test_a_file_that_cannot_be_opened_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_fake(monkeypatch, raising(PermissionError(13, 'Permission denied', '/data/x'))) == 2
    assert capsys.readouterr().err == 'kd6d info: error: /data/x: permission denied\n'


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_fake(monkeypatch, raising(KeyboardInterrupt())) == 130


def test_exit_code_of_the_handler_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_fake(monkeypatch, lambda: None) == 0
    assert run_fake(monkeypatch, lambda: 1) == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run_fake(monkeypatch, lambda: 1 // 0)


@pytest.mark.parametrize(
    ('module', 'cure'),
    [
        ('torch', "pip install '.[train]'"),
        ('lightning.pytorch', "pip install '.[train]'"),
        ('moderngl', "pip install '.[synth]'"),
        ('rosbags.rosbag2', "pip install '.[bench]'"),
        ('onnxruntime', 'constraints-'),
        ('cv2', 'apt install python3-opencv'),
        ('yaml', 'apt install python3-yaml'),
        ('rclpy', 'install ROS 2 and source its setup.bash'),
    ],
)
def test_missing_package_names_its_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, cure: str
) -> None:
    assert run_fake(monkeypatch, raising(ModuleNotFoundError(f'No module named {module!r}', name=module))) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert f"the Python package '{module.split('.', maxsplit=1)[0]}' is missing" in error
    assert cure in error


def test_import_error_in_our_own_code_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cure_for(ImportError('cannot import name', name='kd6d_ros.geometry')) is None
    with pytest.raises(ImportError):
        run_fake(monkeypatch, raising(ImportError('cannot import name', name='kd6d_ros.geometry')))


def test_json_goes_to_a_file_and_knows_numpy(tmp_path: Path) -> None:
    target = tmp_path / 'out.json'
    record = {'a': np.float32(0.5), 'b': np.arange(3), 'c': math.nan, 'd': Path('x'), 'e': (np.int64(4), None)}
    write_json(record, str(target))
    assert json.loads(target.read_text()) == {'a': 0.5, 'b': [0, 1, 2], 'c': None, 'd': 'x', 'e': [4, None]}
    assert [path.name for path in tmp_path.iterdir()] == ['out.json']


def test_json_to_standard_output_replaces_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert not wants_table(argparse.Namespace(json='-'))
    assert wants_table(argparse.Namespace(json='x.json'))
    assert wants_table(argparse.Namespace(json=None))
    write_json({'x': 1}, '-')
    assert json.loads(capsys.readouterr().out) == {'x': 1}
    write_json({'x': 1}, None)
    assert capsys.readouterr().out == ''


def test_json_into_nowhere_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='is a folder; name a file, or put --json last'):
        write_json({}, str(tmp_path))
    with pytest.raises(ConfigError, match='does not exist; create it first'):
        write_json({}, str(tmp_path / 'no' / 'x.json'))


def test_table_is_aligned() -> None:
    table = format_table(['object', 'n', 'x'], [['ape', 12, 0.123456], ['driller', 3, None]])
    assert table.splitlines() == [
        'object    n       x',
        '-------  --  ------',
        'ape      12  0.1235',
        'driller   3       -',
    ]


def test_settings_may_follow_a_flag():
    given = ['train', 'recipe.yaml', '--resume', 'train.steps=9000', 'name=mug']
    arguments = cli.build_parser('train').parse_args(given)
    assert arguments.resume
    assert arguments.overrides == ['train.steps=9000', 'name=mug']
