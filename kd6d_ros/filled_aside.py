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
    """A folder to fill, which takes the place of `folder` at the end; what an exception interrupts leaves nothing
    behind, and what was there before where it was."""
    folder = folder.absolute()  # '.' has no name
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(folder)
    aside.mkdir()
    try:
        yield aside
        _put_in_place(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _beside(folder: Path) -> Path:
    """A name of its own, as two runs may fill one folder at once."""
    return folder.with_name(f'.{folder.name}.{secrets.token_hex(8)}')


def _put_in_place(aside: Path, folder: Path) -> None:
    """Swap folders by two renames, so that no half-written one is ever seen under `folder`."""
    if not folder.exists():
        aside.rename(folder)
        return
    old = folder.rename(_beside(folder))
    try:
        aside.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    if old.is_symlink():  # what it points to belongs to someone else
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)
