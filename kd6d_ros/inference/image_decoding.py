"""Image messages to RGB arrays, with NumPy and OpenCV only (no cv_bridge, which breaks under NumPy 2).

Works on anything with the fields of sensor_msgs/Image or CompressedImage, so it needs no ROS: the node and the
reader of bags get the same pixels from it. The result equals cv_bridge's ``desired_encoding='rgb8'``: 16 bit is scaled
by 255/65535 and rounded, alpha is dropped, Bayer is interpolated bilinearly.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional

import cv2
import numpy as np

from kd6d_ros.errors import ImageError
from kd6d_ros.foreign_text import shown
from kd6d_ros.inference.image_headers import CompressedHeader, read_header

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, ImageArray

MAX_PIXELS = 50_000_000
"""Default limit on width x height [px]."""


class Encoding(NamedTuple):
    """Channels and bytes per channel of an encoding, and OpenCV's code that makes it RGB."""

    channels: int
    depth: int
    code: Optional[int]


def _encodings() -> Dict[str, Encoding]:
    table: Dict[str, Encoding] = {}
    for bits, depth in (('8', 1), ('16', 2)):
        table['rgb' + bits] = Encoding(3, depth, None)
        table['bgr' + bits] = Encoding(3, depth, cv2.COLOR_BGR2RGB)
        table['rgba' + bits] = Encoding(4, depth, cv2.COLOR_RGBA2RGB)
        table['bgra' + bits] = Encoding(4, depth, cv2.COLOR_BGRA2RGB)
        table['mono' + bits] = Encoding(1, depth, cv2.COLOR_GRAY2RGB)
        # OpenCV names a Bayer pattern by its second row, ROS by its first.
        table['bayer_rggb' + bits] = Encoding(1, depth, cv2.COLOR_BayerBG2RGB)
        table['bayer_bggr' + bits] = Encoding(1, depth, cv2.COLOR_BayerRG2RGB)
        table['bayer_gbrg' + bits] = Encoding(1, depth, cv2.COLOR_BayerGR2RGB)
        table['bayer_grbg' + bits] = Encoding(1, depth, cv2.COLOR_BayerGB2RGB)
    for name in ('yuv422', 'uyvy'):
        table[name] = Encoding(2, 1, cv2.COLOR_YUV2RGB_UYVY)
    for name in ('yuv422_yuy2', 'yuyv'):
        table[name] = Encoding(2, 1, cv2.COLOR_YUV2RGB_YUY2)
    return table


ENCODINGS = _encodings()


def decode_image(message: Any, max_pixels: int = MAX_PIXELS) -> ImageArray:
    """RGB (H, W, 3) uint8 of a sensor_msgs/Image; a view of the message's data where no change is needed.

    Raises:
        ImageError: unknown encoding, impossible size, step too small, data too short.
    """
    encoding = check_image(message, max_pixels)
    pixels = _pixels(message, encoding)
    if encoding.depth == 2 and encoding.channels > 1:
        pixels = _eight_bits(pixels)
    if encoding.code is not None:
        pixels = _convert(pixels, encoding.code, message.encoding)
    if encoding.depth == 2 and encoding.channels == 1:
        pixels = _eight_bits(pixels)
    return np.ascontiguousarray(pixels)


def _convert(pixels: AnyArray, code: int, encoding: str) -> AnyArray:
    try:
        converted: AnyArray = cv2.cvtColor(pixels, code)
    except cv2.error as error:
        raise ImageError(f'{encoding} image: OpenCV cannot make it RGB ({_line(error)}): check the driver') from error
    return converted


def _line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:200]


def check_image(message: Any, max_pixels: int = MAX_PIXELS) -> Encoding:
    """The encoding of a message whose size, step and length of data fit together; else ImageError."""
    width, height, step = int(message.width), int(message.height), int(message.step)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageError(
            f'image encoding {shown(message.encoding)} is not known: set the camera driver to one of '
            f'{", ".join(sorted(ENCODINGS))}'
        )
    check_size(width, height, max_pixels)
    name = message.encoding
    if name.startswith('bayer') and min(width, height) < 3:
        raise ImageError(f'{name} image of {width}x{height} px is too small to interpolate: check the driver')
    if encoding.channels == 2 and width % 2:
        raise ImageError(f'{name} image has an odd width of {width} px: two pixels share their colour')
    row = width * encoding.channels * encoding.depth
    if step < row:
        raise ImageError(
            f'image step is {step} bytes but a row of {width} px {name} takes {row}: correct the camera driver'
        )
    # The padding of the last row may be missing.
    needed = step * (height - 1) + row
    if len(message.data) < needed:
        raise ImageError(
            f'image data are {len(message.data)} bytes but {width}x{height} px {name} with step {step} take '
            f'{needed}: correct the camera driver'
        )
    return encoding


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises ImageError unless both sides are positive and the area is within the limit."""
    if width <= 0 or height <= 0:
        raise ImageError(f'image size is {width}x{height} px: the camera driver sends empty images')
    if width * height > max_pixels:
        raise ImageError(
            f'image claims {width}x{height} = {width * height / 1e6:.1f} megapixels, more than the limit of '
            f'{max_pixels / 1e6:.1f}: raise the parameter max_image_pixels if that is right'
        )


def _pixels(message: Any, encoding: Encoding) -> AnyArray:
    """View (H, W) or (H, W, C) of the data, in the machine's byte order."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    dtype = np.dtype(np.uint8 if encoding.depth == 1 else np.uint16)
    shape = (height, width) if encoding.channels == 1 else (height, width, encoding.channels)
    strides = (step, dtype.itemsize * encoding.channels, dtype.itemsize)[: len(shape)]
    data = np.frombuffer(message.data, dtype=np.uint8)
    pixels: AnyArray = np.ndarray(shape, dtype, data, 0, strides)
    if encoding.depth == 2 and bool(message.is_bigendian) != (sys.byteorder == 'big'):
        pixels = pixels.byteswap()
    return np.ascontiguousarray(pixels)


def _eight_bits(pixels: AnyArray) -> ImageArray:
    # 65535 / 255 = 257 exactly; the sum cannot overflow 32 bits.
    scaled: ImageArray = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return scaled


def compressed_header(message: Any, max_pixels: int = MAX_PIXELS) -> CompressedHeader:
    """What a sensor_msgs/CompressedImage (JPEG or PNG) claims to be; nothing is decoded.

    Raises:
        ImageError: another format, truncated data, or more than `max_pixels`.
    """
    if 'compressedDepth' in message.format:
        raise ImageError(f'compressed image has format {shown(message.format)}: use the colour image topic')
    if message.format.strip().lower().startswith('bayer'):
        raise ImageError(
            f'compressed image has format {shown(message.format)}, a mosaic without colours: use the colour topic or '
            'image_transport:=raw'
        )
    data = bytes(message.data)
    header = read_header(data)
    check_size(header.width, header.height, max_pixels)
    if not header.complete:
        raise ImageError(
            f'{header.kind.upper()} is truncated: {len(data)} bytes for {header.width}x{header.height} px without '
            'the end marker: check the network and the camera driver'
        )
    return header


def decode_compressed(message: Any, max_pixels: int = MAX_PIXELS) -> ImageArray:
    """RGB (H, W, 3) uint8 of a sensor_msgs/CompressedImage (JPEG or PNG).

    Raises:
        ImageError: as from ``compressed_header``, or damaged data.
    """
    header = compressed_header(message, max_pixels)
    data = np.frombuffer(message.data, dtype=np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(f'{header.kind.upper()} of {len(data)} bytes cannot be decoded: {_line(error)}') from error
    if pixels is None or pixels.shape != (header.height, header.width, 3):
        raise ImageError(f'{header.kind.upper()} of {len(data)} bytes is damaged: it cannot be decoded')
    image: ImageArray = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels)
    return image
