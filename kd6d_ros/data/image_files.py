"""Image files: size from the header, bounded decoding to RGB, depth and masks. OpenCV only."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Tuple

import cv2
import numpy as np

from kd6d_ros.errors import ImageError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Float32Array, ImageArray

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 50_000_000
"""Largest image that is decoded; the header is asked before."""

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff')

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def size_from_header(data: bytes) -> Optional[Tuple[int, int]]:
    """(width, height) that the header of PNG, JPEG or TIFF bytes claims; None for another or a broken one."""
    try:
        if data[:8] == b'\x89PNG\r\n\x1a\n':
            width, height = struct.unpack('>II', data[16:24])
            return int(width), int(height)
        if data[:2] == b'\xff\xd8':
            return _jpeg_size(data)
        if data[:4] in (b'II*\x00', b'MM\x00*'):
            return _tiff_size(data)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg_size(data: bytes) -> Optional[Tuple[int, int]]:
    position = 2
    while position + 9 < len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack('>HH', data[position + 5 : position + 9])
            return int(width), int(height)
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + int(struct.unpack('>H', data[position + 2 : position + 4])[0])
    return None


def _tiff_size(data: bytes) -> Optional[Tuple[int, int]]:
    order = '<' if data[:2] == b'II' else '>'
    (start,) = struct.unpack(order + 'I', data[4:8])
    (count,) = struct.unpack(order + 'H', data[start : start + 2])
    found = {}
    for index in range(count):
        place = start + 2 + 12 * index
        tag, kind = struct.unpack(order + 'HH', data[place : place + 4])
        if tag in (256, 257):
            form = {3: 'H', 4: 'I'}[kind] if kind in (3, 4) else 'I'
            found[tag] = int(struct.unpack_from(order + form, data, place + 8)[0])
    return (found[256], found[257]) if len(found) == 2 else None


def image_size(path: Path) -> Tuple[int, int]:
    """(width, height) [px] of an image file, from its header.

    Raises:
        ImageError: missing, of another kind, or larger than MAX_PIXELS.
    """
    return _checked_size(path, _read_bytes(path))


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ImageError(f'{path}: {size // 2**20} MiB is over the limit of {MAX_FILE_BYTES // 2**20} MiB')
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f'{path}: cannot be read ({error.strerror})') from None


def _checked_size(path: Path, data: bytes) -> Tuple[int, int]:
    size = size_from_header(data)
    if size is None or min(size) < 1:
        raise ImageError(f'{path}: not a PNG, JPEG or TIFF image, or its header is broken')
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f'{path}: the header claims {size[0]} x {size[1]} pixels, over the limit of {MAX_PIXELS // 10**6} million'
        )
    return size


def _is_cut(data: bytes) -> bool:
    """Whether the end marker is missing: OpenCV would fill the rest with grey and say nothing."""
    if data[:2] == b'\xff\xd8':
        return data.rfind(b'\xff\xd9') < 0
    return data[:4] == b'\x89PNG' and b'IEND' not in data[-4096:]


def _decode(path: Path) -> Any:
    data = _read_bytes(path)
    _checked_size(path, data)
    if _is_cut(data):
        raise ImageError(f'{path}: the image is cut off (no end marker); copy or download it again')
    try:
        # IMREAD_UNCHANGED also keeps OpenCV from turning the picture by its EXIF tag, which would break K.
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f'{path}: cannot be decoded ({error.err})') from None
    if image is None:
        raise ImageError(f'{path}: cannot be decoded; the file is damaged')
    return image


def read_rgb(path: Path) -> ImageArray:
    """Colour image (H, W, 3) uint8 RGB; grey is replicated, 16 bit scaled to 8, alpha dropped.

    Raises:
        ImageError: missing, too large, cut off or not decodable.
    """
    image = _decode(path)
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f'{path}: pixels are {image.dtype}; expected 8 or 16 bit whole numbers')
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
        return image  # type: ignore[no-any-return]
    grey = image if image.ndim == 2 else image[..., 0]
    if channels in (1, 2):
        return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
    return np.ascontiguousarray(image[..., 2::-1])


def read_depth(path: Path, depth_scale: float) -> Float32Array:
    """Depth (H, W) float32 [m]; 0 where there is none. `depth_scale` is millimetres per raw unit (BOP).

    Raises:
        ImageError: missing, not decodable, or not a single-channel picture.
    """
    raw = _decode(path)
    if raw.ndim != 2:
        raise ImageError(f'{path}: a depth picture has one channel, this one has {raw.shape[2]}')
    return raw.astype(np.float32) * np.float32(depth_scale / 1000.0)  # type: ignore[no-any-return]


def read_mask(path: Path) -> AnyArray:
    """Mask (H, W) bool: any value but 0 belongs to it.

    Raises:
        ImageError: missing or not decodable.
    """
    raw = _decode(path)
    return (raw if raw.ndim == 2 else raw[..., :3].any(axis=2)) != 0  # type: ignore[no-any-return]
