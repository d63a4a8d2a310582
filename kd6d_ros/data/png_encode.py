"""PNG for masks and depth at a fraction of the usual cost: lossless, readable anywhere, same bytes every time.

A dataset of many objects writes two masks per object and image, nearly all zeros; general encoders spend
2 ms on each. Here only the rows the object covers are compressed; the empty rows above and below are cached
deflate blocks that start and end on byte borders, so that streams can be joined. Format:
https://www.w3.org/TR/png/ and RFC 1950, 1951.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_ZLIB_HEADER = b'\x78\x01'
_LAST_BLOCK = b'\x03\x00'  # an empty final deflate block
_ADLER_BASE = 65521
_FILTER_UP = 2


def encode_mask(mask: AnyArray) -> bytes:
    """8-bit grey PNG of a mask (H, W) uint8 of 0 and 255."""
    height, width = mask.shape
    used = np.flatnonzero(mask.any(axis=1))
    first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (height, height)
    lines = np.zeros((last - first, width + 1), dtype=np.uint8)  # column 0: filter type 'none'
    lines[:, 1:] = mask[first:last]
    body = lines.tobytes()
    stream = _zeros(first * (width + 1)) + _deflated(body, zlib.Z_RLE) + _zeros((height - last) * (width + 1))
    checksum = _adler_zeros(1, first * (width + 1))
    checksum = _adler_zeros(zlib.adler32(body, checksum), (height - last) * (width + 1))
    return _png(width, height, 8, _ZLIB_HEADER + stream + _LAST_BLOCK + struct.pack('>I', checksum))


def encode_depth(raw: AnyArray) -> bytes:
    """16-bit grey PNG of raw depth (H, W) uint16; every row is stored as its difference to the row above."""
    height, width = raw.shape
    values = raw.astype('>u2').view(np.uint8).reshape(height, 2 * width)
    lines = np.empty((height, 2 * width + 1), dtype=np.uint8)
    lines[:, 0] = _FILTER_UP
    lines[0, 1:] = values[0]
    np.subtract(values[1:], values[:-1], out=lines[1:, 1:])  # bytes, modulo 256, as the filter wants
    return _png(width, height, 16, zlib.compress(lines.tobytes(), 1))


def _deflated(data: bytes, strategy: int) -> bytes:
    """Raw deflate blocks that end on a byte border and refer to nothing before or after them."""
    if not data:
        return b''
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15, 9, strategy)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


@lru_cache(maxsize=4096)
def _zeros(count: int) -> bytes:
    return _deflated(bytes(count), zlib.Z_DEFAULT_STRATEGY)


def _adler_zeros(checksum: int, count: int) -> int:
    """Adler-32 after `count` further zero bytes: the low sum stays, the high sum grows by it each time."""
    low, high = checksum & 0xFFFF, checksum >> 16
    return ((high + count * low) % _ADLER_BASE) << 16 | low


def _png(width: int, height: int, bits: int, data: bytes) -> bytes:
    header = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    return b''.join((_SIGNATURE, _chunk(b'IHDR', header), _chunk(b'IDAT', data), _chunk(b'IEND', b'')))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(data, zlib.crc32(kind)))
