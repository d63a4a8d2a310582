"""Folders that are costly to fill: filled aside, then renamed, so that none is ever half-written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def filled_aside(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` at the end; what an exception interrupts leaves nothing behind."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))  # two runs may fill one at once
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
