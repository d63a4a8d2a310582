"""``outline_view.colour_odds`` pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np

from kd6d_ros.inference.loops.numba_loops import compiled
from kd6d_ros.inference.outline_view import BINS, LEAST_PIXELS, UNSEEN_COLOUR

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Float32Array, FloatArray

_STRAIGHT, _DIAGONAL = 62587, 89738
"""Lengths of the steps of ``cv2.distanceTransform`` with DIST_L2 and a mask of 3 (0.955 and 1.3693), times 2^16."""

_FAR = 1 << 30


@compiled('UniTuple(i8, 4)(u1[:,::1], i8)')
def _around(silhouette: AnyArray, margin: int) -> Tuple[int, int, int, int]:
    """First row, end of rows, first column and end of columns of the silhouette with a margin [px] around it."""
    height, width = silhouette.shape
    top, bottom, left, right = height, 0, width, 0
    for row in range(height):
        for column in range(width):
            if silhouette[row, column] > 0:
                top, bottom = min(top, row), max(bottom, row + 1)
                left, right = min(left, column), max(right, column + 1)
    return max(top - margin, 0), min(bottom + margin, height), max(left - margin, 0), min(right + margin, width)


@compiled('i4[:,:](u1[:,:], b1)')
def distances(silhouette: AnyArray, inside: bool) -> AnyArray:
    """How far (H, W) pixels lie from the nearest one that is not (`inside`), or is, of the silhouette [2^-16 px]."""
    height, width = silhouette.shape
    out = np.full((height + 2, width + 2), _FAR, np.int32)  # with a frame around it
    for row in range(1, height + 1):
        for column in range(1, width + 1):
            if (silhouette[row - 1, column - 1] > 0) != inside:
                out[row, column] = 0
            else:
                straight = min(out[row, column - 1], out[row - 1, column]) + _STRAIGHT
                out[row, column] = min(straight, min(out[row - 1, column - 1], out[row - 1, column + 1]) + _DIAGONAL)
    for row in range(height, 0, -1):
        for column in range(width, 0, -1):
            straight = min(out[row, column + 1], out[row + 1, column]) + _STRAIGHT
            diagonal = min(out[row + 1, column - 1], out[row + 1, column + 1]) + _DIAGONAL
            out[row, column] = min(out[row, column], straight, diagonal)
    return out[1:-1, 1:-1]


@compiled('Tuple((f8[:,::1], i8[::1]))(u1[:,::1], i8[:,::1], f4[:,::1], b1, f8, f8)')
def count_colours(
    silhouette: AnyArray, colours: AnyArray, mask: Float32Array, masked: bool, gap: float, ring: float
) -> Tuple[FloatArray, AnyArray]:
    """How often (4, BINS^3) each colour is more than `gap` inside of the silhouette and in the mask (if `masked`), more
    than `gap` inside, anywhere inside, and `gap` to `ring` outside; and the pixels (4,) of each."""
    counts, sizes = np.zeros((4, BINS**3)), np.zeros(4, np.int64)
    top, bottom, left, right = _around(silhouette, int(np.ceil(ring)) + 1)
    window = silhouette[top:bottom, left:right]
    depth, away = distances(window, True), distances(window, False)
    least, most = gap * 65536.0, ring * 65536.0
    for row in range(bottom - top):
        for column in range(right - left):
            kind = -1
            if least < away[row, column] < most:
                kind = 3
            elif depth[row, column] > least:
                kind = 0 if masked and mask[top + row, left + column] > 0.0 else 1
            elif depth[row, column] > 0:
                kind = 2
            if kind >= 0:
                counts[kind, colours[top + row, left + column]] += 1.0
                sizes[kind] += 1
    for kind in range(1, 3):  # what is deep inside is inside
        counts[kind] += counts[kind - 1]
        sizes[kind] += sizes[kind - 1]
    return counts, sizes


@compiled('f8[::1](f8[::1], i8)')
def smoothed(counts: FloatArray, pixels: int) -> FloatArray:
    """Share (BINS^3,) of each colour, a quarter of it given to the neighbour on either side of each channel."""
    now, out = counts / pixels, np.empty(len(counts))
    for stride in (1, BINS, BINS * BINS):
        for i in range(len(now)):
            place = (i // stride) % BINS
            value = 0.5 * now[i]
            if place > 0:
                value += 0.25 * now[i - stride]
            if place < BINS - 1:
                value += 0.25 * now[i + stride]
            out[i] = value
        now, out = out, now
    return now


@compiled('Tuple((b1, f4[::1]))(u1[:,::1], i8[:,::1], f4[:,::1], b1, f8, f8)')
def odds(
    silhouette: AnyArray, colours: AnyArray, mask: Float32Array, masked: bool, gap: float, ring: float
) -> Tuple[bool, Float32Array]:
    """Log-odds (BINS^3,) of every colour to be the object's; False where there are too few pixels."""
    counts, sizes = count_colours(silhouette, colours, mask, masked, gap, ring)
    out = np.zeros(BINS**3, np.float32)
    own = 0 if sizes[0] >= 2 * LEAST_PIXELS else 1 if sizes[1] >= LEAST_PIXELS else 2
    if min(sizes[own], sizes[3]) < LEAST_PIXELS:
        return False, out
    object_share, other_share = smoothed(counts[own], sizes[own]), smoothed(counts[3], sizes[3])
    for i in range(len(out)):
        out[i] = np.log((object_share[i] + UNSEEN_COLOUR) / (other_share[i] + UNSEEN_COLOUR))
    return True, out
