"""What a figure was measured on and with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np

from kd6d_ros import __version__


def processor() -> str:
    """Name of the processor."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as handle:
            for line in handle:
                if line.startswith(('model name', 'Model')):
                    return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> Optional[str]:
    """Short hash of the repository this package runs from, with '+' when files differ; None elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return None
    try:
        head = _git(root, 'rev-parse', '--short', 'HEAD')
        changed = _git(root, 'status', '--porcelain', '--untracked-files=no')
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ('+' if changed else '')


def _git(root: Path, *arguments: str) -> str:
    command = ['git', '-C', str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()


def machine_record() -> Dict[str, Any]:
    """Machine and versions as plain values."""
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
    return {
        'processor': processor(),
        'cores': os.cpu_count(),
        'load_before': None if load is None else round(load, 2),
        'system': f'{platform.system()} {platform.machine()}',
        'python': platform.python_version(),
        'numpy': np.__version__,
        'kd6d_ros': __version__,
        'commit': commit(),
    }


def versions() -> Dict[str, Optional[str]]:
    """Versions of the packages that a figure depends on; None for one that is not installed."""
    found: Dict[str, Optional[str]] = {}
    for name, module in (('onnxruntime', 'onnxruntime'), ('opencv', 'cv2'), ('rosbags', 'rosbags'), ('numpy', 'numpy')):
        found[name] = _version(module)
    return found


def _version(module: str) -> Optional[str]:
    """From the module or, where it has none, from its installed metadata; OpenCV of apt has no metadata."""
    from importlib import import_module, metadata

    try:
        return str(getattr(import_module(module), '__version__', None) or metadata.version(module))
    except (ImportError, metadata.PackageNotFoundError):
        return None


def record_sha256(record: Mapping[str, Any]) -> str:
    """Hash of plain values, whatever the order of their names."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def folder_sha256(folder: Path) -> str:
    """One hash over names and contents of a folder's files."""
    digest = hashlib.sha256()
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob('*') if path.is_file())
    for path in files:
        digest.update(path.name.encode() + b'\0')
        with path.open('rb') as handle:
            for block in iter(lambda: handle.read(1 << 20), b''):
                digest.update(block)
    return digest.hexdigest()


def peak_memory_mb() -> Optional[float]:
    """Largest resident memory of this process so far [MB, 10^6 bytes]; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
