"""Which engine runs a bundle."""

from __future__ import annotations

import functools
import importlib.util
import logging
from typing import TYPE_CHECKING, Callable, List, Optional

from kd6d_ros.errors import ConfigError, EngineError
from kd6d_ros.inference.engines.cache_folder import private_folder
from kd6d_ros.inference.engines.engine_cache import EngineCache, NotBuiltError
from kd6d_ros.inference.engines.onnxruntime_providers import CPU, CUDA, TENSORRT
from kd6d_ros.inference.engines.precision_choice import (
    AUTO,
    built_precisions,
    graphics_precision,
    processor_precision,
)
from kd6d_ros.inference.engines.tensorrt_build import CPU_ONLY, BuildOptions, EngineSource

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.inference.engines.tensorrt_seam import Backend, Notify

ONNXRUNTIME = {'onnxruntime': CPU, 'onnxruntime-cuda': CUDA, 'onnxruntime-tensorrt': TENSORRT}
NATIVE = {'tensorrt': None, 'tensorrt-weak': False}
"""Engine -> strongly typed, None for what the installed TensorRT does best."""

ENGINES = ('auto', *ONNXRUNTIME, *NATIVE)
"""Names that ``make_engine`` takes; 'auto' chooses the fastest that is ready on this machine."""


def make_engine(
    bundle: Bundle,
    engine: str = 'auto',
    precision: str = 'fp32',
    threads: Optional[int] = None,
    notify: Optional[Notify] = None,
) -> Engine:
    """The engine that runs `bundle` here.

    'auto' never starts a build of several minutes: it takes TensorRT where ``kd6d engine`` has built the engines
    already, then ONNX Runtime on CUDA, then on the CPU. The description says which and why not the better ones.

    Args:
        engine: one of ENGINES.
        precision: one of the bundle's precisions; 'int8' means 'int8-cpu' on a processor, where the bundle has it.
            'auto': the fastest that this machine computes as the exporter measured it (see ``precision_choice``).
        threads: CPU threads of the network; None lets the engine choose.
        notify: takes lines about a build under way; None: warnings of the module ``logging``.

    Raises:
        ConfigError: unknown engine or a number of threads that makes no sense.
        BundleError: the bundle has no such precision.
        EngineError: the back end is missing or refuses the network.
    """
    if engine not in ENGINES:
        raise ConfigError(f'engine {engine!r}: expected one of {", ".join(ENGINES)}')
    if threads is not None and not 1 <= threads <= 256:
        raise ConfigError(f'threads: expected 1 .. 256, got {threads}')
    if precision != AUTO:
        bundle.engine_path(precision if precision in bundle.engines else bundle.cpu_precision(precision))
    say = logging.getLogger(__name__).warning if notify is None else notify
    if engine in NATIVE:
        return _native(bundle, graphics_precision(bundle) if precision == AUTO else precision, NATIVE[engine], say)
    if engine != 'auto':
        return _onnxruntime(bundle, precision, threads, ONNXRUNTIME[engine])
    return _best(bundle, precision, threads, say)


def tensorrt_installed() -> bool:
    """Whether the package is there; it is not imported."""
    return importlib.util.find_spec('tensorrt') is not None


def new_backend() -> Backend:
    """TensorRT on this machine. The seam that tests replace.

    Raises:
        EngineError: TensorRT, cuda-python or a GPU is missing.
    """
    from kd6d_ros.inference.engines.tensorrt_api import TensorRt

    return TensorRt()


def engine_source(
    bundle: Bundle, precision: str, options: BuildOptions, notify: Notify, cache: Optional[str] = None
) -> EngineSource:
    """Where the TensorRT engines of a bundle come from on this machine; `cache`: folder, None for the usual one.

    Raises:
        BundleError, ConfigError, EngineError: see ``EngineSource`` and ``private_folder``.
    """
    bundle.engine_path(precision)
    return EngineSource(bundle, precision, new_backend(), EngineCache(private_folder(cache)), options, notify)


def _best(bundle: Bundle, precision: str, threads: Optional[int], notify: Notify) -> Engine:
    reasons: List[str] = []
    found: Optional[Engine] = None
    for way in _ways(bundle, precision, threads, notify):
        found = _tried(way, reasons)
        if found is not None:
            break
    else:
        found = _onnxruntime(bundle, precision, threads, CPU)
    # Why not TensorRT is what helps; that there is no CUDA provider either is the rule on a CPU.
    if reasons:
        found.description += f' (auto: {reasons[0]})'
    return found


def _ways(bundle: Bundle, precision: str, threads: Optional[int], notify: Notify) -> List[Callable[[], Engine]]:
    """How a GPU could run it, best first."""
    if precision == AUTO:
        built = built_precisions(bundle)
        usual = [name for name in built if name in ('fp16', 'fp32')][-1:]
    else:
        built = usual = [precision] if precision in bundle.engines and precision not in CPU_ONLY else []
    return [
        *(functools.partial(_ready, bundle, name, notify) for name in built),
        *(functools.partial(_onnxruntime, bundle, name, threads, CUDA) for name in usual),
    ]


def _tried(way: Callable[[], Engine], reasons: List[str]) -> Optional[Engine]:
    try:
        return way()
    except EngineError as error:
        reasons.append(str(error))
        return None


def _ready(bundle: Bundle, precision: str, notify: Notify) -> Engine:
    """TensorRT, if nothing has to be built."""
    if not tensorrt_installed():
        raise EngineError('tensorrt is not installed')
    try:
        return _native(bundle, precision, None, notify, may_build=False)
    except NotBuiltError as error:
        raise EngineError(f'{error}; kd6d engine {bundle.folder} --precision {precision} prepares it') from error


def _native(
    bundle: Bundle, precision: str, strongly_typed: Optional[bool], notify: Notify, may_build: bool = True
) -> Engine:
    from kd6d_ros.inference.engines.tensorrt_engine import TensorRtEngine

    source = engine_source(bundle, precision, BuildOptions(strongly_typed), notify)
    return TensorRtEngine(bundle, precision, source, notify, may_build)


def _onnxruntime(bundle: Bundle, precision: str, threads: Optional[int], provider: str) -> Engine:
    from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine

    if precision == AUTO:
        precision = processor_precision(bundle) if provider == CPU else graphics_precision(bundle)
    precision = bundle.cpu_precision(precision) if provider == CPU else precision
    return OnnxRuntimeEngine(bundle, bundle.engine_path(precision), precision, threads, provider)
