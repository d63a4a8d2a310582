"""Memory that a training step gives back is kept for the next one.

glibc returns large blocks to the kernel at once, which then has to clear them page by page for every feature map of
every step: a quarter of the time of a step on a CPU (docs/results.md, "Time of a training step").

Reference: mallopt(3).
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Names of <malloc.h>."""
LIMITS = {MMAP_THRESHOLD: (1 << 30, 32 << 20), TRIM_THRESHOLD: ((1 << 31) - 1,), TOP_PAD: (64 << 20,)}
"""Bytes, the first that the library takes: blocks up to the first limit come from the heap (32 MiB at most in an older
glibc), which is not cut below the second and grows by the third."""


def keep_freed_memory() -> bool:
    """For the rest of this process; whether its C library can (glibc)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = [any(mallopt(name, value) == 1 for value in values) for name, values in LIMITS.items()]
    return all(taken)
