"""A lock between processes that the kernel lets go when its holder dies, however it dies.

``fcntl.flock``, which the package filelock wraps as well; one more dependency on a robot for three lines is not worth
it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.engines.tensorrt_seam import Notify


@contextlib.contextmanager
def held(path: Path, notify: Notify, waiting: str) -> Iterator[None]:
    """Hold the lock on `path`; say `waiting` once if somebody else holds it. The file stays: unlinking it would
    let two processes hold two locks of one name."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify(waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
