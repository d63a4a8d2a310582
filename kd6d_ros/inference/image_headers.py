"""Size and completeness of compressed images, read from their headers before anything is decoded.

A JPEG of 200 bytes may claim 100 megapixels, and OpenCV returns a truncated JPEG with a grey lower part
and no error. Both are found here. Sources: ITU-T T.81 annex B (JPEG), RFC 2083 (PNG).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Tuple

from kd6d_ros.errors import ImageError

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
PNG_END = b'IEND\xaeB`\x82'
JPEG_START = b'\xff\xd8'
JPEG_END = b'\xff\xd9'
START_OF_SCAN = 0xDA
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
MOST_SCANS = 100
"""A progressive JPEG has about ten scans. Each one costs a pass over the whole image, however few bytes it has."""
WITHOUT_LENGTH = frozenset(range(0xD0, 0xD8)) | {0x01}


class CompressedHeader(NamedTuple):
    """What a header claims: kind 'jpeg' or 'png', size [px], and whether the data reach the end marker."""

    kind: str
    width: int
    height: int
    complete: bool


def read_header(data: bytes) -> CompressedHeader:
    """Header of a compressed image.

    Raises:
        ImageError: neither JPEG nor PNG, damaged, or too short to know its size.
    """
    if data[:2] == JPEG_START:
        return _jpeg(data)
    if data[:8] == PNG_SIGNATURE:
        return _png(data)
    start = data[:4].hex() or 'nothing'
    raise ImageError(
        f'compressed image is neither JPEG nor PNG (it starts with {start}): '
        'set the format of the compressed transport to jpeg or png'
    )


def _jpeg(data: bytes) -> CompressedHeader:
    width = height = scan = 0
    position = 2
    while position + 4 <= len(data) and not scan:
        marker, length = _segment(data, position)
        if marker in FRAME_MARKERS and position + 9 <= len(data):
            height, width = struct.unpack_from('>HH', data, position + 5)
        elif marker == START_OF_SCAN:
            scan = position
        position += length
    if width == 0 or height == 0:
        word = 'damaged: its header has' if scan else f'truncated: {len(data)} bytes with'
        raise ImageError(f'JPEG is {word} no image size')
    scans = data.count(bytes([0xFF, START_OF_SCAN]), scan)
    if scans > MOST_SCANS:
        raise ImageError(f'JPEG has {scans} scans, more than the limit of {MOST_SCANS}: check the camera driver')
    # An EXIF thumbnail has an end marker of its own, so only one after the scan counts.
    return CompressedHeader('jpeg', width, height, bool(scan) and data.rfind(JPEG_END, scan) > 0)


def _segment(data: bytes, position: int) -> Tuple[int, int]:
    """Marker and length in bytes, marker included, of the segment at a position."""
    if data[position] != 0xFF:
        raise ImageError(f'JPEG is damaged: no marker at byte {position}')
    marker = data[position + 1]
    if marker == 0xFF:
        return marker, 1
    if marker in WITHOUT_LENGTH:
        return marker, 2
    (length,) = struct.unpack_from('>H', data, position + 2)
    if length < 2:
        raise ImageError(f'JPEG is damaged: a segment of length {length} at byte {position}')
    return marker, 2 + int(length)


def _png(data: bytes) -> CompressedHeader:
    if len(data) < 33 or data[12:16] != b'IHDR':
        raise ImageError(f'PNG is truncated: {len(data)} bytes with no image size')
    width, height = struct.unpack_from('>II', data, 16)
    if width == 0 or height == 0:
        raise ImageError(f'PNG is damaged: its size is {width}x{height}')
    return CompressedHeader('png', width, height, data.rfind(PNG_END) > 0)
