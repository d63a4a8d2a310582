from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from kd6d_ros.errors import ImageError
from kd6d_ros.inference.image_decoding import ENCODINGS, decode_compressed, decode_image
from kd6d_ros.inference.image_headers import read_header

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
# Smooth, so that Bayer interpolation and chroma subsampling reproduce it.
SMOOTH = np.stack(np.broadcast_arrays(np.arange(32)[None] * 4 + 60, np.arange(24)[:, None] * 4 + 50, 90), -1)
SMOOTH = SMOOTH.astype(np.uint8)


def message(encoding, pixels, step=None, bigendian=0, pad=0):
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    row = pixels.reshape(height, -1).view(np.uint8)
    row = np.concatenate([row, np.full((height, pad), 77, np.uint8)], axis=1)
    return SimpleNamespace(
        width=width,
        height=height,
        encoding=encoding,
        step=row.shape[1] if step is None else step,
        is_bigendian=bigendian,
        data=row.tobytes(),
    )


def alpha(image):
    return np.concatenate([image, np.full((*image.shape[:2], 1), 9, image.dtype)], axis=-1)


@pytest.mark.parametrize('pad', [0, 5])
@pytest.mark.parametrize(
    ('encoding', 'pixels'),
    [
        ('rgb8', RGB),
        ('bgr8', RGB[..., ::-1]),
        ('rgba8', alpha(RGB)),
        ('bgra8', alpha(RGB[..., ::-1])),
    ],
)
def test_colour_orders(encoding, pixels, pad):
    np.testing.assert_array_equal(decode_image(message(encoding, pixels, pad=pad)), RGB)


@pytest.mark.parametrize('bigendian', [0, 1])
def test_sixteen_bits_in_both_byte_orders(bigendian):
    grey = np.array([[0, 128, 129, 257, 65535, 65406, 65407, 40000]], np.uint16)
    dtype = '>u2' if bigendian else '<u2'
    got = decode_image(message('mono16', grey.astype(dtype), bigendian=bigendian))
    expected = np.rint(grey * (255 / 65535)).astype(np.uint8)
    np.testing.assert_array_equal(got, np.repeat(expected[..., None], 3, -1))
    colour = RGB.astype(np.uint16) * 257
    got = decode_image(message('bgr16', colour[..., ::-1].astype(dtype), bigendian=bigendian, pad=2))
    np.testing.assert_array_equal(got, RGB)


def test_mono8_is_grey():
    got = decode_image(message('mono8', RGB[..., 0], pad=3))
    np.testing.assert_array_equal(got, np.repeat(RGB[..., :1], 3, -1))


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_patterns_name_the_first_row(pattern, bits):
    channel = {'r': 0, 'g': 1, 'b': 2}
    mosaic = np.empty(SMOOTH.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        y, x = divmod(place, 2)
        mosaic[y::2, x::2] = SMOOTH[y::2, x::2, channel[letter]]
    pixels = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
    got = decode_image(message(f'bayer_{pattern}{bits}', pixels))
    difference = np.abs(got.astype(int) - SMOOTH)[2:-2, 2:-2]
    assert difference.max() <= 4


@pytest.mark.parametrize(('encoding', 'order'), [('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuv422_yuy2', 'yuyv')])
def test_yuv422(encoding, order):
    r, g, b = (SMOOTH[..., i].astype(float) for i in range(3))
    luma = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = (128 - 0.148 * r - 0.291 * g + 0.439 * b)[:, ::2]
    v = (128 + 0.439 * r - 0.368 * g - 0.071 * b)[:, ::2]
    packed = np.empty((24, 32, 2))
    first, second = (1, 0) if order == 'uyvy' else (0, 1)
    packed[..., first] = luma
    packed[:, ::2, second] = u
    packed[:, 1::2, second] = v
    got = decode_image(message(encoding, np.rint(packed).astype(np.uint8), pad=4))
    assert np.abs(got.astype(int) - SMOOTH).max() <= 6


def test_rgb8_without_padding_is_not_copied():
    data = bytearray(RGB.tobytes())
    image = SimpleNamespace(width=8, height=6, encoding='rgb8', step=24, is_bigendian=0, data=data)
    got = decode_image(image)
    data[0] = (data[0] + 1) % 256
    assert got[0, 0, 0] == data[0]


def test_the_last_row_may_lack_its_padding():
    image = message('rgb8', RGB, pad=7)
    image.data = image.data[:-7]
    np.testing.assert_array_equal(decode_image(image), RGB)


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'data': b''}, r'image data are 0 bytes but 8x6 px rgb8 with step 24 take 144: correct'),
        ({'data': b'x' * 143}, r'image data are 143 bytes but .* 144'),
        ({'step': 23}, r'image step is 23 bytes but a row of 8 px rgb8 takes 24'),
        ({'step': 0}, r'image step is 0 bytes'),
        ({'encoding': '32FC1'}, r"image encoding '32FC1' is not known: set the camera driver to one of bayer"),
        ({'encoding': ''}, r"image encoding '' is not known"),
        ({'width': 0}, r'image size is 0x6 px'),
        ({'width': 20000, 'height': 20000}, r'image claims 20000x20000 = 400.0 megapixels, more than the limit'),
        ({'encoding': 'yuv422', 'width': 7}, r'odd width of 7 px'),
        ({'encoding': 'bayer_rggb8', 'width': 2}, r'too small to interpolate'),
    ],
)
def test_bad_images_name_the_mistake(change, text):
    image = message('rgb8', RGB)
    for name, value in change.items():
        setattr(image, name, value)
    with pytest.raises(ImageError, match=text):
        decode_image(image)


def test_every_encoding_decodes_to_rgb():
    for name, encoding in ENCODINGS.items():
        kind = np.uint8 if encoding.depth == 1 else np.uint16
        shape = (8, 8) if encoding.channels == 1 else (8, 8, encoding.channels)
        got = decode_image(message(name, np.zeros(shape, kind)))
        assert got.shape == (8, 8, 3), name
        assert got.dtype == np.uint8
        assert got.flags.c_contiguous


def compressed(data, form='jpeg'):
    return SimpleNamespace(data=data, format=form)


def encode(extension, image=SMOOTH, *options):
    return cv2.imencode(extension, np.ascontiguousarray(image[..., ::-1]), list(options))[1].tobytes()


def test_jpeg_and_png():
    np.testing.assert_array_equal(decode_compressed(compressed(encode('.png'), 'png')), SMOOTH)
    got = decode_compressed(compressed(encode('.jpg', SMOOTH, cv2.IMWRITE_JPEG_QUALITY, 98)))
    assert np.abs(got.astype(int) - SMOOTH).max() < 12
    grey = cv2.imencode('.jpg', SMOOTH[..., 0])[1].tobytes()
    assert decode_compressed(compressed(grey)).shape == (24, 32, 3)


def test_progressive_jpeg_and_padding_after_the_end():
    data = encode('.jpg', SMOOTH, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert decode_compressed(compressed(data + b'\0' * 40)).shape == (24, 32, 3)


def test_truncated_jpeg_is_refused_at_every_length():
    data = encode('.jpg')
    for length in range(0, len(data) - 1, 7):
        with pytest.raises(ImageError, match=r'JPEG is truncated|neither JPEG nor PNG'):
            decode_compressed(compressed(data[:length]))


def test_a_thumbnail_does_not_hide_a_truncated_jpeg():
    data = encode('.jpg')
    thumbnail = b'Exif\0\0' + encode('.jpg', SMOOTH[:8, :8])
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    whole = data[:2] + segment + data[2:]
    assert read_header(whole)[:3] == ('jpeg', 32, 24)
    assert decode_compressed(compressed(whole)).shape == (24, 32, 3)
    with pytest.raises(ImageError, match=r'JPEG is truncated: .* for 32x24 px'):
        decode_compressed(compressed(whole[:-20]))


def test_truncated_png_is_refused():
    data = encode('.png')
    for length in (8, 20, 40, len(data) - 5):
        with pytest.raises(ImageError, match=r'PNG is truncated'):
            decode_compressed(compressed(data[:length], 'png'))


def test_a_tiny_jpeg_that_claims_100_megapixels_is_not_decoded(monkeypatch):
    data = bytearray(encode('.jpg'))
    start = data.index(b'\xff\xc0')
    data[start + 5 : start + 9] = (10000).to_bytes(2, 'big') * 2
    assert len(data) < 2000
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    with pytest.raises(ImageError, match=r'claims 10000x10000 = 100.0 megapixels, more than the limit of 50.0'):
        decode_compressed(compressed(bytes(data)))


def test_a_jpeg_with_thousands_of_scans_is_not_decoded(monkeypatch):
    data = encode('.jpg', SMOOTH, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    start = data.rfind(b'\xff\xda')
    length = int.from_bytes(data[start + 2 : start + 4], 'big')
    bomb = data[:-2] + data[start : start + 2 + length] * 3000 + data[-2:]
    assert decode_compressed(compressed(data)).shape == (24, 32, 3)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    with pytest.raises(ImageError, match=r'JPEG has 30\d\d scans, more than the limit of 100: check the camera driver'):
        decode_compressed(compressed(bomb))


def test_words_of_a_message_are_quoted_and_cut():
    image = message('rgb8', RGB)
    image.encoding = '\x1b[2J' + 'x' * 100_000
    with pytest.raises(
        ImageError, match=r"encoding '\\x1b\[2Jx{56}'\.\.\. \(100004 characters\) is not known"
    ) as caught:
        decode_image(image)
    assert len(str(caught.value)) < 500


def test_damaged_data_are_refused():
    data = bytearray(encode('.jpg'))
    with pytest.raises(ImageError, match=r'neither JPEG nor PNG'):
        decode_compressed(compressed(b'hello'))
    with pytest.raises(ImageError, match=r'neither JPEG nor PNG .it starts with nothing'):
        decode_compressed(compressed(b''))
    with pytest.raises(ImageError, match=r'JPEG is damaged'):
        decode_compressed(compressed(b'\xff\xd8' + b'garbage!' * 20))
    with pytest.raises(ImageError, match=r'use the colour image topic'):
        decode_compressed(compressed(bytes(data), '16UC1; compressedDepth png'))
    png = bytearray(encode('.png'))
    png[60:-12] = b'\0' * (len(png) - 72)
    with pytest.raises(ImageError, match=r'PNG of .* is damaged'):
        decode_compressed(compressed(bytes(png), 'png'))


@pytest.mark.parametrize('encoding', ['yuyv', 'uyvy', 'yuv422', 'yuv422_yuy2'])
def test_two_pixels_that_share_a_colour_need_an_even_width(encoding):
    with pytest.raises(ImageError, match=f'{encoding} image has an odd width of 5 px'):
        decode_image(message(encoding, np.zeros((4, 5, 2), np.uint8)))


def test_a_compressed_mosaic_is_refused_with_the_cure():
    data = cv2.imencode('.png', RGB[..., 0])[1].tobytes()
    text = (
        "format 'bayer_rggb8; png compressed bayer_rggb8', a mosaic without colours: use the colour topic or image_tr"
    )
    with pytest.raises(ImageError, match=text):
        decode_compressed(SimpleNamespace(format='bayer_rggb8; png compressed bayer_rggb8', data=data))


def test_what_opencv_raises_is_one_line(monkeypatch):
    def fail(*args):
        raise cv2.error('first\nsecond')

    data = cv2.imencode('.png', RGB)[1].tobytes()
    monkeypatch.setattr(cv2, 'imdecode', fail)
    monkeypatch.setattr(cv2, 'cvtColor', fail)
    with pytest.raises(ImageError, match=r'PNG of .* first second'):
        decode_compressed(SimpleNamespace(format='png', data=data))
    with pytest.raises(ImageError, match=r'bgr8 image: .*first second'):
        decode_image(message('bgr8', RGB))
