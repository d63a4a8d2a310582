"""Opening an OpenGL context without a display."""

from __future__ import annotations

import os
from typing import Any

from kd6d_ros.errors import MissingDependencyError


def limit_mesa_threads(threads: int) -> None:
    """Mesa's software rasteriser starts one thread per core; several workers must not. Call it before the
    first context of the process. 0 rasterises in the calling thread."""
    os.environ.setdefault('LP_NUM_THREADS', str(threads))


def open_context() -> Any:
    """A standalone moderngl context over EGL (GPU driver or Mesa llvmpipe).

    Raises:
        MissingDependencyError: moderngl is not installed, or no EGL device answers.
    """
    try:
        import moderngl
    except ImportError as error:
        raise MissingDependencyError(
            "the renderer needs moderngl: pip install 'kd6d_ros[synth]' (or: pip install moderngl glcontext)"
        ) from error
    try:
        options: Any = {'standalone': True, 'backend': 'egl', 'require': 330}
        return moderngl.create_context(**options)
    except Exception as error:
        raise MissingDependencyError(
            f'no EGL device for headless rendering ({str(error).splitlines()[0] if str(error) else error!r}): '
            'apt install libegl1 libegl-mesa0 libgl1-mesa-dri (software), or a GPU driver with EGL'
        ) from error
