"""What the driver says of this process's GPU memory, from a stand-in for nvidia-smi; none here has a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd6d_ros.benchmark.gpu import gpu_memory_mb


@pytest.mark.parametrize(
    ('script', 'expected'),
    [
        ('echo "1, 999"; echo "$PPID, 312"', (312.0, '')),
        ('echo "1, 999"', (None, 'the GPU was not used, or its driver does not say by whom')),
        ('echo "$PPID, [N/A]"', (None, 'nvidia-smi says [N/A]')),
        ('exit 9', (None, 'nvidia-smi failed')),
    ],
)
def test_the_drivers_answer(
    script: str, expected: tuple[float | None, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / 'nvidia-smi'
    tool.write_text(f'#!/bin/sh\n{script}\n')
    tool.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    value, why = gpu_memory_mb()
    assert value == expected[0]
    assert why.startswith(expected[1])


def test_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert gpu_memory_mb() == (None, 'no nvidia-smi: no NVIDIA GPU here')
