"""Whether the loops of this room are compiled: with Numba, where it is installed.

Everything here has a NumPy form elsewhere in ``inference``, which runs where Numba is not; the results are the same but
for rounding. Loops let go of Python's lock, so that the objects of an image are worked on side by side.
"""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, TypeVar

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.cache_folder import private_folder

if TYPE_CHECKING:
    Function = TypeVar('Function', bound=Callable[..., Any])


def _load() -> Tuple[Any, str]:
    """Numba, or None and why not."""
    try:
        import numba
    except ModuleNotFoundError as error:
        if error.name == 'numba':
            return None, 'Numba is not installed'
        return None, f'Numba does not load: {error}'
    except Exception as error:  # one that is too old or too new for this NumPy fails in many ways
        return None, f'Numba does not load: {" ".join(str(error).split())}'
    return numba, f'compiled by Numba {numba.__version__}'


_NUMBA, DESCRIPTION = _load()

AVAILABLE = _NUMBA is not None


def compiled(signature: str) -> Callable[[Function], Function]:
    """Compile a function for arguments of these types (Numba's notation) when its module is imported, so that no image
    waits for it. Without Numba the function stays as it is.

    Machine code is kept between runs in the user's own cache folder, because loading it is to run it.
    """

    def decorate(function: Function) -> Function:
        if _NUMBA is None:
            return function
        before, folder = _NUMBA.config.CACHE_DIR, _cache()
        _NUMBA.config.CACHE_DIR = '' if folder is None else str(folder)
        try:
            options = {'cache': folder is not None, 'nogil': True, 'error_model': 'numpy'}
            out: Function = _NUMBA.njit(signature, **options)(function)
        finally:
            _NUMBA.config.CACHE_DIR = before
        return out

    return decorate


@lru_cache(maxsize=1)
def _cache() -> Optional[Path]:
    """Where machine code of these sources is kept; None where there is no such place, and it is compiled every time."""
    try:
        folder = private_folder() / 'loops' / _sources()
    except EngineError:
        return None
    if not folder.exists():
        logging.getLogger(__name__).warning('compiling loops for this machine with Numba: once, for some 20 seconds')
    return folder


def _sources() -> str:
    """A name for the present text of this room and of the constants that it takes from ``inference``: Numba itself
    would go on with the old code of a function whose own file is unchanged."""
    room = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted([*room.glob('*.py'), *room.parent.glob('*.py')]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
