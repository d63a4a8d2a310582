"""The contracts of import-linter hold (pyproject.toml, [tool.importlinter])."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_import_contracts_hold() -> None:
    pytest.importorskip('importlinter')
    command = [
        sys.executable,
        '-c',
        'from importlinter.cli import lint_imports_command as run; run()',
        '--no-cache',
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ' 0 broken' in result.stdout, result.stdout
