"""The one map between image and network pixels: round trips, half pixels, borders."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.errors import ShapeError
from kd6d_ros.inference.crop import Crop

edges = st.floats(-2000, 4000)
scales = st.floats(0.02, 50)
sizes = st.integers(1, 2048)


@given(edges, edges, scales, sizes, sizes, st.integers(0, 2**32 - 1))
def test_points_round_trip(x0, y0, scale, width, height, seed):
    crop = Crop(x0, y0, scale, width, height)
    points = np.random.default_rng(seed).uniform(-500, 3000, (4, 5, 2))
    np.testing.assert_allclose(crop.to_image(crop.to_network(points)), points, atol=1e-8)
    np.testing.assert_allclose(crop.to_network(crop.to_image(points)), points, atol=1e-7)


@given(edges, edges, scales, sizes, sizes, st.integers(0, 2**32 - 1))
def test_the_matrix_is_the_same_map(x0, y0, scale, width, height, seed):
    crop = Crop(x0, y0, scale, width, height)
    points = np.random.default_rng(seed).uniform(-500, 3000, (6, 2))
    by_matrix = points @ crop.net_from_image()[:, :2].T + crop.net_from_image()[:, 2]
    np.testing.assert_allclose(by_matrix, crop.to_network(points), rtol=1e-9, atol=1e-6)


@given(st.floats(-200, 900), st.floats(-200, 700), st.floats(4, 1500), st.sampled_from([64, 128, 256]))
def test_square_has_its_centre_and_edges_where_asked(x, y, side, size):
    crop = Crop.square((x, y), side, size)
    np.testing.assert_allclose(crop.to_network([x, y]), [(size - 1) / 2] * 2, atol=1e-7)
    # Image edges of the window: half a network pixel outside the first and last pixel centre.
    np.testing.assert_allclose(crop.to_network([x - side / 2, y + side / 2]), [-0.5, size - 0.5], atol=1e-7)


@given(st.floats(0, 600), st.floats(0, 400), st.floats(1, 300), st.floats(1, 300), st.floats(1, 3))
def test_around_box_keeps_centre_and_padding(x0, y0, width, height, padding):
    crop = Crop.around_box(np.array([x0, y0, x0 + width, y0 + height]), padding, 128)
    np.testing.assert_allclose(crop.to_network([x0 + width / 2, y0 + height / 2]), [63.5, 63.5], atol=1e-7)
    assert crop.scale == pytest.approx(128 / (padding * max(width, height)))


def test_an_empty_box_still_gives_a_window():
    assert Crop.around_box(np.array([10.0, 10, 10, 10]), 1.5, 128).scale == pytest.approx(128 / 1.5)


@given(st.integers(16, 2000), st.integers(16, 2000), st.sampled_from([(640, 480), (320, 320), (96, 64)]))
def test_letterbox_holds_the_whole_image_centred(width, height, network):
    crop = Crop.letterbox((width, height), network)
    low = crop.to_network([-0.5, -0.5])
    high = crop.to_network([width - 0.5, height - 0.5])
    assert (low >= -0.5 - 1e-6).all()
    assert (high <= np.array(network) - 0.5 + 1e-6).all()
    np.testing.assert_allclose((low + high) / 2, (np.array(network) - 1) / 2, atol=1e-6)
    tight = np.abs((high - low) - np.array(network)) < 1e-6
    assert tight.any()


def test_letterbox_of_the_same_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    crop = Crop.letterbox((64, 48), (64, 48))
    np.testing.assert_array_equal(crop.extract(image), image)
    np.testing.assert_allclose(crop.to_network([[3.25, 7.5]]), [[3.25, 7.5]])


@pytest.mark.parametrize('scale', [0.25, 0.5, 0.6, 0.75, 1.0, 1.7, 3.0])
def test_pixel_values_lie_where_the_map_says(scale):
    """On a ramp the value tells the image coordinate, so a half-pixel shift would show as a constant error."""
    x, y = np.meshgrid(np.arange(60), np.arange(60))
    ramp = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=2).astype(np.uint8)
    size = round(40 * scale)
    crop = Crop(8.3, 6.8, scale, size, size)
    out = crop.extract(ramp)[..., :2] / 4.0
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing='ij')
    error = out - crop.to_image(np.stack([columns, rows], axis=2))
    # Rounding to 8 bits alone is worth an eighth of a pixel on this ramp.
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.13
    assert np.abs(error).max() < 0.3


@pytest.mark.parametrize('factor', [2, 3, 4])
def test_shrinking_is_close_to_an_area_average(factor):
    """On a photo-like texture, and on the right grid: half a network pixel aside fits much worse."""
    noise = np.random.default_rng(1).normal(0, 400, (240, 360, 3))
    image = np.clip(cv2.GaussianBlur(noise, (0, 0), 1.2 * factor) + 128, 0, 255).astype(np.uint8)
    area = image.reshape(240 // factor, factor, 360 // factor, factor, 3).mean(axis=(1, 3))
    inner = np.s_[4:-4, 4:-4]

    def misfit(shift):
        crop = Crop(shift * factor, 0, 1 / factor, 360 // factor, 240 // factor)
        return np.abs(crop.extract(image).astype(float) - area)[inner].mean()

    assert misfit(0.0) < 0.1 * image.std()
    assert misfit(0.5) > 2 * misfit(0.0)
    assert misfit(-0.5) > 2 * misfit(0.0)
    # The best grid is at no shift: symmetric to a tenth of the effect of half a pixel.
    assert abs(misfit(0.5) - misfit(-0.5)) < 0.1 * misfit(0.5)


@pytest.mark.parametrize('factor', [4, 8])
def test_shrinking_does_not_alias(factor):
    """A one-pixel checkerboard must turn grey, not into stripes."""
    board = ((np.indices((256, 256)).sum(axis=0) % 2) * 255).astype(np.uint8)
    out = Crop(0.3, 0.7, 1 / factor, 24, 24).extract(np.repeat(board[..., None], 3, axis=2))
    assert out[2:-2, 2:-2].std() < 3
    assert out[2:-2, 2:-2].mean() == pytest.approx(127.5, abs=3)


def test_outside_the_image_is_border():
    image = np.zeros((50, 60, 3), dtype=np.uint8)
    out = Crop(-40, -30, 1.0, 64, 64).extract(image, border=200)
    assert (out[:29, :] == 200).all()
    assert (out[:, :39] == 200).all()
    assert (out[31:, 41:] == 0).all()
    assert (Crop(500, 500, 1.0, 8, 8).extract(image) == 114).all()


def test_whole_pixel_windows_copy_pixels():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    out = Crop(5, 7, 1.0, 16, 16).extract(image)
    np.testing.assert_array_equal(out, image[7:23, 5:21])


@pytest.mark.parametrize(
    'arguments', [(np.nan, 0, 1, 8, 8), (0, 0, 0, 8, 8), (0, 0, -1, 8, 8), (0, 0, 1, 0, 8), (0, np.inf, 1, 8, 8)]
)
def test_impossible_crops_are_refused(arguments):
    with pytest.raises(ShapeError, match='crop: needs finite edges, positive scale and size'):
        Crop(*arguments)


@pytest.mark.parametrize(
    'image',
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
)
def test_other_images_are_refused(image):
    with pytest.raises(ShapeError, match=r'crop: expected an \(H, W, 3\) uint8 image'):
        Crop(0, 0, 1, 8, 8).extract(image)
