"""GPU memory of this process, where a GPU can be asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Optional, Tuple

JETSON = Path('/etc/nv_tegra_release')


def gpu_memory_mb() -> Tuple[Optional[float], str]:
    """Memory [MB] that the driver counts for this process, or None and why."""
    if JETSON.exists():
        return None, 'a Jetson has one memory for processor and GPU: it is in the peak memory'
    tool = shutil.which('nvidia-smi')
    if tool is None:
        return None, 'no nvidia-smi: no NVIDIA GPU here'
    command = [tool, '--query-compute-apps=pid,used_memory', '--format=csv,noheader,nounits']
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return None, f'nvidia-smi failed ({error})'
    rows = [line.split(',') for line in found.splitlines() if line.count(',') == 1]
    own = [used.strip() for pid, used in rows if pid.strip() == str(os.getpid())]
    if not own:
        return None, 'the GPU was not used, or its driver does not say by whom'
    return (float(own[0]), '') if own[0].isdigit() else (None, f'nvidia-smi says {own[0]}')
