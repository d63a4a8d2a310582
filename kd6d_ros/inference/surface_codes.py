"""Binary surface codes: 16 bits name a small piece of an object's surface, coarse to fine.

The surface is halved 16 times; the first bit says which half, the next which half of that, and so on, so that two
codes that begin alike are near each other. A network that says the bits of a pixel says which surface point lies
under it, and how finely it knows that.

Reference: Su et al., "ZebraPose: Coarse to Fine Surface Encoding for 6DoF Object Pose Estimation", CVPR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.errors import ShapeError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Float32Array, FloatArray

BITS = 16
LEAVES = 1 << BITS

HARD_BITS = 10
"""A decoded pixel lies in the region that its first bits name; over the finer ones the mean is taken."""

PLACES = 2 ** np.arange(BITS - 1, -1, -1, dtype=np.int64)
"""Value of each bit in a code, the first split being the highest."""


@dataclass(frozen=True, eq=False)
class CodeBook:
    """Codes of one object: the leaf with code c has its centre at ``low + step * grid[c]`` [m, object frame].

    low, step (3,) [m]; grid (65536, 3) uint16. mesh_sha256: of the mesh that the codes were made from, see
    ``mesh_hash``; samples, seed: how many surface points they were made from, and with which seed those were drawn.
    """

    name: str
    obj_id: int
    diameter: float
    low: FloatArray
    step: FloatArray
    grid: AnyArray
    mesh_sha256: str = ''
    samples: int = 0
    seed: int = 0

    @cached_property
    def points(self) -> Float32Array:
        """Centre of every leaf (65536, 3) [m], the code being the row."""
        out: Float32Array = (self.low + self.step * self.grid).astype(np.float32)
        out.setflags(write=False)
        return out

    def decode(self, codes: AnyArray) -> Float32Array:
        """Surface points (N, 3) [m] of codes (N,) in 0..65535."""
        out: Float32Array = self.points[np.asarray(codes, np.int64)]
        return out

    def expected(self, probability: AnyArray) -> Float32Array:
        """Surface points (N, 3) [m] of bit probabilities (N, 16), first split first.

        The first HARD_BITS are rounded. Over the finer ones it is the mean that their probabilities give, so a bit
        that says nothing (0.5) leaves the point in the middle of the two halves instead of jumping to one. Bits of 0
        and 1 give ``decode`` of the code.

        Raises:
            ShapeError: not 16 columns.
        """
        probability = np.asarray(probability, np.float32)
        if probability.ndim != 2 or probability.shape[1] != BITS:
            raise ShapeError(f'code probabilities: expected shape (N, {BITS}), got {probability.shape}')
        regions = self.points.reshape(1 << HARD_BITS, -1, 3)
        region = (probability[:, :HARD_BITS] > 0.5) @ PLACES[BITS - HARD_BITS :]
        left: Float32Array = regions[region]
        for bit in range(BITS - 1, HARD_BITS - 1, -1):
            share = probability[:, bit, None, None]
            left = left[:, ::2] * (1 - share) + left[:, 1::2] * share
        return left[:, 0]


def bits_of(codes: AnyArray) -> AnyArray:
    """Bits (..., 16) uint8 of codes (...), first split first."""
    out: AnyArray = (np.asarray(codes, np.int64)[..., None] & PLACES > 0).astype(np.uint8)
    return out


def codes_from(bits: AnyArray) -> AnyArray:
    """Codes (...) int64 of bits (..., 16), first split first."""
    out: AnyArray = (np.asarray(bits) > 0) @ PLACES
    return out
