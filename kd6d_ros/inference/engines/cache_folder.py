"""The folder for what this package builds for one machine: by the XDG rules, and writable by its owner only.

A serialised TensorRT engine is code: TensorRT's developer guide warns against deserialising one that somebody else
may have written. Therefore engines come from this folder only, never from a bundle, and the folder and every file
read from it must belong to the user (or to root) and be writable by nobody else.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Optional, Union

from kd6d_ros.errors import EngineError

VARIABLE = 'KD6D_CACHE'
"""Environment variable that names the folder; it wins over XDG_CACHE_HOME."""

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_folder(given: Optional[Union[str, Path]] = None) -> Path:
    """The cache folder, made if it is missing: `given`, else $KD6D_CACHE, else $XDG_CACHE_HOME/kd6d_ros, else
    ~/.cache/kd6d_ros.

    Raises:
        EngineError: it cannot be made, is no folder, or others may write to it.
    """
    folder = Path(given).expanduser().absolute() if given else _default()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise EngineError(f'cache folder {folder}: {(error.strerror or str(error)).lower()}; {_choose()}') from error
    problem = not_private(status)
    if problem is not None:
        raise EngineError(
            f'cache folder {folder}: {problem}, and engines are code: chmod go-w {folder}, or {_choose()}'
        )
    return folder


def not_private(status: os.stat_result) -> Optional[str]:
    """Why a folder or file cannot be trusted, or None."""
    if status.st_uid not in (os.geteuid(), 0):
        return f'it belongs to user {status.st_uid}'
    if status.st_mode & OTHERS_WRITE:
        return 'others may write to it'
    return None


def _default() -> Path:
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get('XDG_CACHE_HOME', '')
    # The XDG rules: a relative path there is to be ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / '.cache'
    return root / 'kd6d_ros'


def _choose() -> str:
    return f'choose another with {VARIABLE} or --cache'
