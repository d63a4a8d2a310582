"""Folders that are costly to fill: filled aside, then renamed, so that none is ever half-written."""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from pathlib import Path


@contextmanager
def filled_aside(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` at the end; what an exception interrupts leaves nothing behind."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f'.{folder.name}.{secrets.token_hex(8)}')  # two runs may fill one at once
    aside.mkdir()
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
