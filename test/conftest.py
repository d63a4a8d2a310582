"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Random examples without a time limit each: machines under load are slow, not wrong.
settings.register_profile('unhurried', deadline=None)
settings.load_profile('unhurried')

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest-xdist (make test) the tests of a file stay together, and all that talk over DDS in one process: two
    at a time could meet on one domain, and would keep each other waiting."""
    for item in items:
        together = 'dds' if item.get_closest_marker('ros') else item.path.stem
        item.add_marker(pytest.mark.xdist_group(together))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """pytest-xdist 3.8 writes groups into names in a way that pytest 9.2 does not see: better no run at all."""
    grouped = 'PYTEST_XDIST_WORKER' in os.environ and session.config.getoption('dist') == 'loadgroup'
    if grouped and not all('@' in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest-xdist does not keep groups of tests together: pip install 'pytest<9.2'")


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder with the datasets for development (lmo, lm_more, ycb, backgrounds); skips where it is missing."""
    given = os.environ.get('KD6D_DATA')
    folder = Path(given) if given else ROOT.parent / 'shared' / 'data'
    if not (folder / 'lmo' / 'models').is_dir():
        source = 'KD6D_DATA names it' if given else 'set KD6D_DATA to the folder that holds lmo/, ycb/...'
        pytest.skip(f'development data not found at {folder} ({source})')
    return folder
