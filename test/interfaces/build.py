"""Build the message packages that PyPI lacks into the running virtual environment.

    .venv/bin/python test/interfaces/build.py

vision_msgs and tf2_msgs; and of moveit_msgs and object_recognition_msgs the one message each that CollisionObject
takes, because every message costs seconds of building. Does nothing when all can be imported from a distribution (apt)
or when a build of the same definitions is already there. Needs cmake and g++ (a minute or two on two cores).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREFIX = Path(sys.prefix)
PACKAGES = ('vision_msgs', 'tf2_msgs', 'object_recognition_msgs', 'moveit_msgs')
"""In the order of what needs what."""
STAMP = PREFIX / 'share' / 'kd6d_ros_test_interfaces.sha256'
CURE = 'sudo apt-get install cmake g++ ninja-build'


def main() -> int:
    wanted = _hash()
    if _importable() and (not STAMP.is_file() or STAMP.read_text().strip() == wanted):
        print(f'interfaces: {", ".join(PACKAGES)} are there already')
        return 0
    if sys.prefix == sys.base_prefix:
        return _fail('not in a virtual environment: run it with .venv/bin/python')
    missing = [tool for tool in ('cmake', 'g++') if shutil.which(tool) is None]
    if missing:
        return _fail(f'{" and ".join(missing)} not found, needed to build {", ".join(PACKAGES)}: {CURE}')
    try:
        _pip()
        for package in PACKAGES:
            _build(package)
    except subprocess.CalledProcessError as error:
        print((error.stdout or '')[-4000:], file=sys.stderr)
        return _fail(f'"{" ".join(map(str, error.cmd[:4]))} ..." failed with code {error.returncode} (output above)')
    STAMP.write_text(wanted + '\n')
    print(f'interfaces: {", ".join(PACKAGES)} built into {PREFIX}')
    return 0


def _importable() -> bool:
    # A folder of that name on the path (this one) is a namespace package without an origin.
    specs = [importlib.util.find_spec(package) for package in PACKAGES]
    return all(spec is not None and spec.origin is not None for spec in specs)


def _hash() -> str:
    """Content of every definition and of this build, and the interpreter it is for."""
    digest = hashlib.sha256(f'{sys.version_info[:2]} {PREFIX}'.encode())
    for path in sorted(HERE.rglob('*')):
        if path.is_file() and path.suffix in {'.msg', '.srv', '.action', '.xml', '.cmake', '.txt', '.py'}:
            digest.update(path.relative_to(HERE).as_posix().encode() + b'\0' + path.read_bytes() + b'\0')
    return digest.hexdigest()


def _pip() -> None:
    _run([sys.executable, '-m', 'pip', 'install', '--quiet', '-r', str(HERE / 'requirements.txt')])


def _build(package: str) -> None:
    generator = ['-G', 'Ninja'] if shutil.which('ninja') else []
    jobs = str(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix=f'kd6d-{package}-') as scratch:
        _run(
            [
                'cmake', '-S', str(HERE / package), '-B', scratch, *generator,
                f'-DCMAKE_INSTALL_PREFIX={PREFIX}', f'-DCMAKE_PREFIX_PATH={PREFIX}',
                f'-DPython3_EXECUTABLE={sys.executable}', '-DBUILD_TESTING=OFF',
                # The messages are small and the tests do not time them: compile fast.
                '-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_C_FLAGS_RELEASE=-O0', '-DCMAKE_CXX_FLAGS_RELEASE=-O0',
            ]
        )  # fmt: skip
        _run(['cmake', '--build', scratch, '--parallel', jobs, '--target', 'install'])


def _run(command: list[str]) -> None:
    environment = dict(os.environ)
    environment['PATH'] = f'{PREFIX / "bin"}{os.pathsep}{environment.get("PATH", "")}'
    environment['AMENT_PREFIX_PATH'] = str(PREFIX)
    environment['CMAKE_PREFIX_PATH'] = str(PREFIX)
    subprocess.run(command, check=True, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _fail(message: str) -> int:
    print(f'interfaces: {message}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
