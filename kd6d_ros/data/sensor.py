"""What a camera does to a clean image: optics, exposure, colour, noise, sharpening, compression.

All randomness comes from the generator that is passed in, so an image depends on its seed alone. The
point-wise steps share one table per channel; noise comes from a fixed pool read at a random offset, which is
five times faster than drawing a million normals per image.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.data.scenes.recipe import SensorRecipe
    from kd6d_ros.types import AnyArray, Float32Array, ImageArray

    Rng = np.random.Generator

NOISE_POOL = 1 << 22


def apply_sensor(rng: Rng, image: ImageArray, recipe: SensorRecipe) -> ImageArray:
    """The image (H, W, 3) uint8 RGB as a random camera of `recipe` would deliver it; same shape and type."""
    image = _optics(rng, image, recipe)
    image = _tone(rng, image, recipe)
    if rng.random() < recipe.vignette_probability:
        image = _vignette(image, float(rng.uniform(*recipe.vignette)))
    if rng.random() < recipe.noise_probability:
        image = _noise(rng, image, recipe)
    if rng.random() < recipe.sharpen_probability:
        soft = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.7, 1.6)))
        amount = float(rng.uniform(*recipe.sharpen))
        image = cv2.addWeighted(image, 1.0 + amount, soft, -amount, 0.0)
    if rng.random() < recipe.jpeg_probability:
        quality = int(rng.uniform(*recipe.jpeg_quality))
        image = _jpeg(np.asarray(image, np.uint8), quality)
    return np.asarray(image, np.uint8)


def _jpeg(image: ImageArray, quality: int) -> ImageArray:
    """Compress and decompress."""
    swapped = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode('.jpg', swapped, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)  # type: ignore[arg-type]


def _optics(rng: Rng, image: ImageArray, recipe: SensorRecipe) -> ImageArray:
    sigma = float(rng.uniform(*recipe.base_blur_px))
    if rng.random() < recipe.defocus_probability:
        sigma = float(np.hypot(sigma, rng.uniform(*recipe.defocus_px)))
    image = cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.2 else image
    if rng.random() < recipe.motion_probability:
        image = cv2.filter2D(image, -1, motion_kernel(rng.uniform(*recipe.motion_px), rng.uniform(0, np.pi)))
    if rng.random() < recipe.chromatic_probability:
        image = _chromatic(image, float(rng.uniform(*recipe.chromatic_px)) * rng.choice([-1.0, 1.0]))
    return np.asarray(image, np.uint8)


def motion_kernel(length: float, angle: float) -> Float32Array:
    """A line of `length` px at `angle` rad through the centre of a normalised odd kernel."""
    half = int(np.ceil(length / 2)) + 1
    t = np.linspace(-length / 2, length / 2, 8 * half)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    x, y = half + t * np.cos(angle), half + t * np.sin(angle)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - column, y - row
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            np.add.at(kernel, (row + dy, column + dx), wx * wy)
    kernel /= kernel.sum()
    return kernel


def _chromatic(image: ImageArray, shift_px: float) -> ImageArray:
    """Lateral colour error: red grows and blue shrinks by `shift_px` at the corner."""
    height, width = image.shape[:2]
    radius = float(np.hypot(width, height)) / 2
    channels = list(cv2.split(image))
    for index, sign in ((0, 1.0), (2, -1.0)):
        scale = 1.0 + sign * shift_px / radius
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = np.hstack([np.eye(2) * scale, (centre * (1 - scale))[:, None]])
        channels[index] = cv2.warpAffine(
            channels[index], matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return np.asarray(cv2.merge(channels), np.uint8)


def _tone(rng: Rng, image: ImageArray, recipe: SensorRecipe) -> ImageArray:
    """Exposure and white balance on linear light, then gamma and contrast, in one table; then saturation."""
    code = np.arange(256) / 255.0
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    balance = np.exp(rng.normal(0.0, recipe.white_balance, 3))
    light = linear[:, None] * balance * 2.0 ** rng.uniform(*recipe.exposure_stops)
    # a soft shoulder instead of hard clipping, as camera tone curves have
    light = np.where(light > 0.7, 0.7 + 0.3 * (1.0 - np.exp(-(light - 0.7) / 0.3)), light)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
    encoded = np.clip(encoded, 0.0, 1.0) ** rng.uniform(*recipe.gamma)
    pivot = rng.uniform(0.3, 0.6)
    encoded = pivot + (encoded - pivot) * rng.uniform(*recipe.contrast)
    table = (np.clip(encoded, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    image = cv2.LUT(image, np.ascontiguousarray(table[None]))
    amount = float(rng.uniform(*recipe.saturation))
    matrix = amount * np.eye(3) + (1.0 - amount) * np.tile([0.299, 0.587, 0.114], (3, 1))
    return np.asarray(cv2.transform(image, matrix.astype(np.float32)), np.uint8)


def _vignette(image: ImageArray, strength: float) -> ImageArray:
    field = 1.0 - strength * _radius_squared(*image.shape[:2])
    return np.asarray(cv2.multiply(image, cv2.merge([field] * 3), dtype=cv2.CV_8U), np.uint8)


@lru_cache(maxsize=2)
def _radius_squared(height: int, width: int) -> Float32Array:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(0.5 * (x * x + y * y), np.float32)


@lru_cache(maxsize=1)
def _noise_pool() -> Float32Array:
    return np.random.Generator(np.random.PCG64(20240607)).standard_normal(NOISE_POOL, dtype=np.float32)


def _unit_noise(rng: Rng, shape: tuple[int, ...], grain: float) -> AnyArray:
    count = int(np.prod(shape))
    if count > NOISE_POOL:
        noise = rng.standard_normal(count, dtype=np.float32).reshape(shape)
    else:
        start = int(rng.integers(0, NOISE_POOL - count + 1))
        noise = _noise_pool()[start : start + count].reshape(shape)
    if grain > 0.3:  # demosaicking correlates neighbours
        noise = cv2.GaussianBlur(noise, (3, 3), grain)
        noise = noise / max(float(noise[::8].std()), 1e-6)
    return noise


def _noise(rng: Rng, image: ImageArray, recipe: SensorRecipe) -> ImageArray:
    """Shot noise (variance proportional to light) and read noise, drawn after the tone curve with the
    curve's slope, so that shadows are noisier than highlights as in a real file."""
    code = np.maximum(np.arange(256) / 255.0, 0.02)
    linear = code**2.2
    slope = code ** (1 - 2.2) / 2.2
    shot, read = rng.uniform(*recipe.shot_noise), rng.uniform(*recipe.read_noise)
    sigma = np.sqrt(shot**2 * linear + (0.25 * read) ** 2) * np.minimum(slope, 6.0) * 255.0
    scale = cv2.LUT(image, np.minimum(sigma, 24.0).astype(np.float32)[None])
    noise = _unit_noise(rng, image.shape, float(rng.uniform(*recipe.noise_grain_px)))
    return np.asarray(cv2.add(image, cv2.multiply(scale, noise), dtype=cv2.CV_8U), np.uint8)
