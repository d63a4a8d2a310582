"""Which engine runs a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from kd6d_ros.errors import ConfigError

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine

ENGINES = ('auto', 'onnxruntime')
"""Names that ``make_engine`` takes; 'auto' chooses the fastest that this machine can run."""


def make_engine(bundle: Bundle, engine: str = 'auto', precision: str = 'fp32', threads: Optional[int] = None) -> Engine:
    """The engine that runs `bundle` here.

    Args:
        engine: one of ENGINES.
        precision: one of the bundle's precisions.
        threads: CPU threads of the network; None lets the engine choose.

    Raises:
        ConfigError: unknown engine or a number of threads that makes no sense.
        BundleError: the bundle has no such precision.
        EngineError: the back end is missing or refuses the network.
    """
    if engine not in ENGINES:
        raise ConfigError(f'engine {engine!r}: expected one of {", ".join(ENGINES)}')
    if threads is not None and not 1 <= threads <= 256:
        raise ConfigError(f'threads: expected 1 .. 256, got {threads}')
    path = bundle.engine_path(precision)
    from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, path, precision, threads)
