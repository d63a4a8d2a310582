"""A machine for which there are no wheels of ROS 2 is told so at once; the demo takes another bundle."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('machine', ['aarch64', 'riscv64'])
def test_a_machine_without_ros_2_and_without_wheels_is_named_in_one_line(machine, tmp_path):
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')  # no site packages, so no rclpy
    python.chmod(0o755)
    command = ['make', '-C', str(ROOT), f'MACHINE={machine}', f'VENV={tmp_path}/venv', f'PYTHON={python}', 'demo']
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('MAKE', 'MFLAGS'))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith('make')]
    assert line.startswith(f'kd6d_ros: this machine is {machine} and has no ROS 2')
    assert not (tmp_path / 'venv').exists()


@pytest.mark.parametrize(
    ('given', 'expected'), [([], 'kd6d demo'), (['BUNDLE=models/x'], "kd6d demo --bundle 'models/x'")]
)
def test_the_demo_takes_a_bundle(given, expected, tmp_path):
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    command = ['make', '-n', '-C', str(ROOT), f'VENV={tmp_path}/venv', f'PYTHON={sys.executable}', *given, 'demo']
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(('MAKE', 'MFLAGS', 'BUNDLE'))
    }
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    (line,) = [line.strip() for line in done.stdout.splitlines() if '/kd6d demo' in line]
    assert line == f'{tmp_path}/venv/bin/{expected}'
