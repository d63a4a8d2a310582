"""What ``precision: auto`` means: the fastest of a bundle's precisions that this machine computes as it was measured.

INT8 with unsigned activations (``int8-cpu``) is exact on a processor with VNNI only: without it, ONNX Runtime adds
pairs of products in 16 bits, which saturate (ONNX Runtime, "Quantize ONNX models", When to use reduce-range). With AMX
tiles, ONNX Runtime 1.23 and 1.24 answer differently from run to run (issue 26324 of microsoft/onnxruntime; seen with
1.23.2 and 1.24.4, not with 1.25.1 and later).
"""

from __future__ import annotations

import functools
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, FrozenSet, List, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle

AUTO = 'auto'

MOST_DROP_POINTS = 2.0
"""What a precision may lose against FP32, in points of recall, to be exported without being asked for by name and to be
taken by 'auto'."""

VNNI = frozenset({'avx512_vnni', 'avx_vnni'})
"""Names of the instructions in /proc/cpuinfo."""

AMX, AMX_IS_RIGHT = 'amx_int8', (1, 25)
"""Instructions that ONNX Runtime uses for INT8 where it finds them, and its first version that does so rightly."""

BUILT = ('int8', 'fp16')
"""Precisions that 'auto' runs instead of FP32 where ``kd6d engine`` has built them, fastest first."""


def processor_precision(bundle: Bundle, flags: Optional[FrozenSet[str]] = None) -> str:
    """The precision that 'auto' runs on this processor; `flags`: of the processor, None: ask it."""
    known = processor_flags() if flags is None else flags
    good = int8_is_exact(known, runtime_version()) and _as_good(bundle, 'int8-cpu')
    return 'int8-cpu' if good else _usual(bundle, ('fp32', 'fp16'))


def int8_is_exact(flags: FrozenSet[str], runtime: Tuple[int, int]) -> bool:
    """Whether ONNX Runtime of this version (major, minor) computes `int8-cpu` as it was meant on this processor."""
    return bool(flags & VNNI) and not (AMX in flags and runtime < AMX_IS_RIGHT)


def runtime_version() -> Tuple[int, int]:
    """Major and minor version of ONNX Runtime; (0, 0) where it cannot be told."""
    try:
        found = re.match(r'(\d+)\.(\d+)', metadata.version('onnxruntime'))
    except metadata.PackageNotFoundError:  # also a build of another name, such as that with GPU providers
        return 0, 0
    return (int(found[1]), int(found[2])) if found else (0, 0)


def built_precisions(bundle: Bundle) -> List[str]:
    """Precisions whose TensorRT engines 'auto' looks for, in this order."""
    good = [name for name in BUILT if _as_good(bundle, name)]
    return [*good, 'fp32'] if 'fp32' in bundle.engines else good


def graphics_precision(bundle: Bundle) -> str:
    """The precision that 'auto' runs where a GPU's engine is asked for by name."""
    return 'fp16' if _as_good(bundle, 'fp16') else _usual(bundle, ('fp32', 'int8'))


@functools.lru_cache(maxsize=1)
def processor_flags() -> FrozenSet[str]:
    """Instruction sets of an x86 processor under Linux; empty elsewhere."""
    if platform.machine() not in ('x86_64', 'AMD64'):
        return frozenset()
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(':')[2].split() for line in lines if line.startswith('flags')), ()))


def _as_good(bundle: Bundle, precision: str) -> bool:
    """Whether the bundle has it, and its exporter saw that it loses next to nothing."""
    drop = bundle.measured[precision].drop_points if precision in bundle.measured else None
    return precision in bundle.engines and drop is not None and drop <= MOST_DROP_POINTS


def _usual(bundle: Bundle, order: Sequence[str]) -> str:
    """The first of `order` that the bundle has, else any."""
    return next((name for name in (*order, *sorted(bundle.engines)) if name in bundle.engines), 'fp32')
