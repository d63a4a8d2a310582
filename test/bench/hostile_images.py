"""Images that no camera should send, raw and compressed, each kind made anew from a seeded generator."""

from __future__ import annotations

import array
import functools
import struct
import zlib
from typing import Any, Callable

import numpy as np
from hostile_scene import CAMERA, Scene, jpeg, png

Change = Callable[[Any, np.random.Generator], None]


def change(**fields: Any) -> Change:
    def apply(message: Any, rng: np.random.Generator) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return apply


def cut(message: Any, rng: np.random.Generator) -> None:
    message.data = message.data[: int(rng.integers(len(message.data) - 1))]


def noise(message: Any, rng: np.random.Generator) -> None:
    message.data = array.array('B', rng.bytes(len(message.data)))


def unknown_encoding(message: Any, rng: np.random.Generator) -> None:
    words = (
        '',
        '32FC1',
        '8UC3',
        'rgb8 ',
        'RGB8',
        'nv12',
        'rgb8;rm -rf',
        "'quoted'",
        '\x1b[31mred',
        'é' * 9,
        'x' * 20000,
    )
    message.encoding = words[int(rng.integers(len(words)))]


def odd_yuv(message: Any, rng: np.random.Generator) -> None:
    message.width, message.encoding = 639, 'yuv422_yuy2'


def tiny_bayer(message: Any, rng: np.random.Generator) -> None:
    message.width, message.step, message.encoding = 2, 2, 'bayer_rggb8'


def other_size(message: Any, rng: np.random.Generator) -> None:
    message.width, message.height, message.step = 320, 240, 960
    message.data = message.data[: 320 * 240 * 3]


def no_size(message: Any, rng: np.random.Generator) -> None:
    setattr(message, ('width', 'height')[int(rng.integers(2))], 0)


def huge_size(message: Any, rng: np.random.Generator) -> None:
    sides = (60000, 2**31, 2**32 - 1)
    message.width, message.height = (sides[int(rng.integers(3))] for _ in range(2))


def sixteen_bits(message: Any, rng: np.random.Generator) -> None:
    message.encoding, message.step, message.is_bigendian = 'bgr16', 640 * 6, int(rng.integers(256))
    message.data = array.array('B', rng.bytes(640 * 480 * 6))


def wrong_step(message: Any, rng: np.random.Generator) -> None:
    message.step = (0, 1, 1919)[int(rng.integers(3))]


def huge_step(message: Any, rng: np.random.Generator) -> None:
    message.step = 2**32 - 1


def too_much(message: Any, rng: np.random.Generator) -> None:
    message.data.extend(rng.bytes(int(rng.integers(1, 100_000))))


def odd_frame(message: Any, rng: np.random.Generator) -> None:
    names = ('/', ' ', 'x' * 5000, '\x00', '../..', 'map\n', "it's")
    message.header.frame_id = names[int(rng.integers(len(names)))]


RAW: dict[str, tuple[Change, str]] = {
    'unknown encoding': (unknown_encoding, 'is not known: set the camera driver to one of'),
    'data cut off': (cut, 'correct the camera driver'),
    'no data': (change(data=array.array('B')), 'image data are 0 bytes'),
    'step too small': (wrong_step, 'image step is'),
    'step of 4 GB': (huge_step, 'image data are'),
    'no width or height': (no_size, 'the camera driver sends empty images'),
    'width and height of billions': (huge_size, 'more than the limit'),
    'YUV of odd width': (odd_yuv, 'has an odd width of'),
    'Bayer of two columns': (tiny_bayer, 'too small to interpolate'),
    'size unlike CameraInfo': (other_size, 'but the image has 320x240'),
    'noise': (noise, ''),
    'noise of 16 bits, any byte order': (sixteen_bits, ''),
    'more data than needed': (too_much, ''),
    'no frame_id': (lambda message, rng: setattr(message.header, 'frame_id', ''), 'image frame_id is empty'),
    'odd frame_id': (odd_frame, 'remap camera_info to the topic of the same camera'),
}
"""Name -> what is done to the image of an empty scene, and what diagnostics must say ('' where nothing is wrong)."""


SOUND = frozenset({
    'noise', 'noise of 16 bits, any byte order', 'more data than needed',
    'JPEG with wrong bytes', 'PNG of 16 bits', 'PNG in grey', 'JPEG in grey',
})  # fmt: skip
"""Kinds that are pictures all the same: the node looks at them, and it is the network that must see nothing in them."""


def stamps(message: Any, rng: np.random.Generator) -> None:
    """A stamp at the end or the beginning of time."""
    ends = ((0, 0), (-1, 0), (-(2**31), 5), (2**31 - 1, 0), (2**31 - 1, 999_999_999), (1, 1))
    message.header.stamp.sec, message.header.stamp.nanosec = ends[int(rng.integers(len(ends)))]


def nanoseconds(message: Any, rng: np.random.Generator) -> None:
    message.header.stamp.nanosec = int(rng.integers(10**9, 2**32))


def late(message: Any, rng: np.random.Generator) -> None:
    """Up to a second back, or a day."""
    message.header.stamp.sec -= (1, 86400)[int(rng.integers(2))]


TIMES: dict[str, tuple[Change, str]] = {
    'stamp at an end of time': (stamps, 'stamp'),
    'stamp with too many nanoseconds': (nanoseconds, 'nanoseconds'),
    'stamp that goes back': (late, 'time went back|goes back|tracking reset'),
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


@functools.lru_cache(maxsize=4)
def png_of_zeros(width: int, height: int, real: bool) -> bytes:
    """A small file that unfolds into a large image; `real`: its data are there, not only its header."""
    packer = zlib.compressobj(9)
    row = b'\0' * (3 * width + 1)
    body = b''.join(packer.compress(row) for _ in range(height if real else 1)) + packer.flush()
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', body) + chunk(b'IEND', b'')


def many_scans(data: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, without its data: seconds of work in a small file."""
    start = data.rfind(b'\xff\xda')
    (length,) = struct.unpack_from('>H', data, start + 2)
    return data[:-2] + data[start : start + 2 + length] * count + data[-2:]


def flip(data: bytes, rng: np.random.Generator, most: int = 40) -> bytes:
    out = bytearray(data)
    for place in rng.integers(0, len(out), int(rng.integers(1, most))):
        out[place] = int(rng.integers(256))
    return bytes(out)


STARTS = (
    b'GIF89a\x80\x02\xe0\x01\xf7',
    b'II*\0\x08\0\0\0',
    b'MM\0*\0\0\0\x08',
    b'BM6\x10\x0e\0',
    b'RIFF\xff\xff\xff\x7fWEBPVP8 ',
    b'\0\0\0\x0cjP  \r\n\x87\n',
    b'P6 640 480 255\n',
    b'<svg>',
    b'\0\0\0\x18ftypavif',
)


def other_format(image: np.ndarray, rng: np.random.Generator) -> bytes:
    return STARTS[int(rng.integers(len(STARTS)))] + rng.bytes(3000)


def lying_size(image: np.ndarray, rng: np.random.Generator) -> bytes:
    data = jpeg(image)
    place = data.index(b'\xff\xc0') + 5
    return data[:place] + struct.pack('>HH', *(int(side) for side in rng.integers(8000, 65536, 2))) + data[place + 4 :]


Bytes = Callable[[np.ndarray, np.random.Generator], bytes]
COMPRESSED: dict[str, tuple[Bytes, str]] = {
    'random bytes': (lambda image, rng: rng.bytes(int(rng.integers(4, 20000))), 'neither JPEG nor PNG'),
    'nothing': (lambda image, rng: b'', 'it starts with nothing'),
    'JPEG cut off': (lambda image, rng: jpeg(image)[: int(rng.integers(700, 8000))], 'JPEG is truncated'),
    'PNG cut off': (lambda image, rng: png(image)[: int(rng.integers(8, 30000))], 'PNG is truncated'),
    'JPEG with wrong bytes': (lambda image, rng: flip(jpeg(image), rng), ''),
    'PNG with wrong bytes': (lambda image, rng: flip(png(image), rng), 'PNG'),
    'JPEG marker and garbage': (lambda image, rng: b'\xff\xd8' + rng.bytes(4000), 'JPEG is'),
    'JPEG of another size than it says': (lying_size, 'more than the limit|but the image has'),
    'PNG bomb of 900 megapixels': (lambda image, rng: png_of_zeros(30000, 30000, False), 'more than the limit'),
    'PNG bomb within the limit': (lambda image, rng: png_of_zeros(7000, 7000, True), 'but the image has 7000x7000'),
    'JPEG with thousands of scans': (
        lambda image, rng: many_scans(jpeg(image, 2, 1), 3000),
        'scans',
    ),
    'PNG of 16 bits': (lambda image, rng: png(image.astype(np.uint16) * 257), ''),
    'PNG in grey': (lambda image, rng: png(image[..., 0]), ''),
    'JPEG in grey': (lambda image, rng: jpeg(image[..., 0]), ''),
    'GIF, TIFF, BMP, WebP ...': (other_format, 'neither JPEG nor PNG'),
    'another size': (lambda image, rng: jpeg(image[::2, ::2]), 'but the image has 320x240'),
}
"""Name -> the bytes made of the image of an empty scene, and what diagnostics must say."""

FORMATS = ('jpeg', '', 'png', 'rgb8; jpeg compressed bgr8', '\x1b[2J', 'x' * 9000, 'tiff')


def raw(scene: Scene, kind: str) -> Any:
    message = scene.raw(scene.pick(scene.empty), scene.header())
    {**RAW, **TIMES}[kind][0](message, scene.rng)
    return message


def compressed(scene: Scene, kind: str) -> Any:
    shot = scene.pick(scene.empty)
    message = scene.compressed(shot, scene.header(CAMERA))
    if kind in TIMES:
        TIMES[kind][0](message, scene.rng)
        return message
    message.data = array.array('B', COMPRESSED[kind][0](shot.frame.image, scene.rng))
    message.format = FORMATS[int(scene.rng.integers(len(FORMATS)))]
    return message
