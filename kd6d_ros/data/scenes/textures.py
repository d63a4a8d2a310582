"""Procedural textures: noise, gradients, checkers, stripes, wood, speckles. (H, W, 3) uint8 sRGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, ImageArray

    Rng = np.random.Generator


def random_colour(rng: Rng) -> AnyArray:
    """An sRGB colour (3,) in [0, 1], often greyish as most things are."""
    grey = rng.uniform(0.05, 0.95)
    return np.clip(grey + rng.normal(0.0, rng.choice([0.03, 0.12, 0.3]), 3), 0.0, 1.0)


def smooth_noise(rng: Rng, width: int, height: int, cells: int, octaves: int = 4) -> AnyArray:
    """Noise (H, W) float32 in [0, 1]: octaves of upscaled random grids, halving in strength."""
    out = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        n = min(cells * 2**octave, max(width, height))
        grid = rng.random((n + 1, n + 1), dtype=np.float32)
        out += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    low, high = float(out.min()), float(out.max())
    return np.asarray((out - low) / max(high - low, 1e-6), np.float32)


def _blend(mask: AnyArray, first: AnyArray, second: AnyArray) -> AnyArray:
    """first * (1 - mask) + second * mask for colours (3,)."""
    return np.asarray(first + mask[..., None] * (second - first), np.float32)


def _noise(rng: Rng, size: int) -> AnyArray:
    mask = smooth_noise(rng, size, size, int(rng.integers(2, 24)))
    return _blend(mask, random_colour(rng), random_colour(rng))


def _gradient(rng: Rng, size: int) -> AnyArray:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    ramp = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    t = 0.5 + 0.35 * (np.cos(angle) * ramp[None] + np.sin(angle) * ramp[:, None])
    t = t + 0.1 * smooth_noise(rng, size, size, 4)
    return _blend(np.clip(t, 0.0, 1.0), random_colour(rng), random_colour(rng))


def _checker(rng: Rng, size: int) -> AnyArray:
    cells = int(rng.integers(2, 16))
    index = np.arange(size) * cells // size
    mask = ((index[None] + index[:, None]) % 2).astype(np.float32)
    return _blend(mask, random_colour(rng), random_colour(rng))


def _stripes(rng: Rng, size: int) -> AnyArray:
    widths = rng.integers(4, size // 4, 64).cumsum()
    palette = np.stack([random_colour(rng) for _ in range(int(rng.integers(2, 6)))])
    row = palette[np.searchsorted(widths, np.arange(size)) % len(palette)].astype(np.float32)
    image = np.repeat(row[None], size, axis=0)
    return image if rng.random() < 0.5 else np.ascontiguousarray(image.transpose(1, 0, 2))


def _wood(rng: Rng, size: int) -> AnyArray:
    ramp = np.linspace(0.0, 1.0, size, dtype=np.float32)
    bend = smooth_noise(rng, size, size, 3, 2)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (ramp[None] * rng.uniform(4, 18) + bend * rng.uniform(1, 5)))
    fibre = cv2.resize(
        rng.random((max(4, size // 40), size), dtype=np.float32), (size, size), interpolation=cv2.INTER_LINEAR
    )
    brown = np.array([0.62, 0.44, 0.28]) * rng.uniform(0.5, 1.5) + rng.normal(0, 0.06, 3)
    dark = brown * rng.uniform(0.5, 0.85)
    return _blend(np.clip(0.6 * rings + 0.4 * fibre, 0, 1), np.clip(brown, 0, 1), np.clip(dark, 0, 1))


def _speckles(rng: Rng, size: int) -> AnyArray:
    image = np.empty((size, size, 3), np.float32)
    image[:] = random_colour(rng)
    for _ in range(int(rng.integers(20, 160))):
        centre = tuple(int(x) for x in rng.integers(0, size, 2))
        colour = tuple(float(x) for x in random_colour(rng))
        radius = int(rng.integers(2, size // 10))
        if rng.random() < 0.5:
            cv2.circle(image, centre, radius, colour, -1, cv2.LINE_AA)
        else:
            corner = (centre[0] + radius, centre[1] + int(rng.integers(2, size // 10)))
            cv2.rectangle(image, centre, corner, colour, -1)
    return image


def _label(rng: Rng, size: int) -> AnyArray:
    """Lines of text-like marks: packages and papers lie on many tables."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = random_colour(rng) * 255.0
    for _ in range(int(rng.integers(3, 12))):
        text = ''.join(chr(int(c)) for c in rng.integers(65, 91, int(rng.integers(3, 12))))
        origin = (int(rng.integers(-20, size // 2)), int(rng.integers(10, size)))
        colour = tuple(float(x) for x in random_colour(rng) * 255.0)
        height, weight = float(rng.uniform(0.4, 3.0)) * size / 256, int(rng.integers(1, 6))
        cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, height, colour, weight, cv2.LINE_AA)
    return image.astype(np.float32) / 255.0


def _markers(rng: Rng, size: int) -> AnyArray:
    """A board of square black and white codes."""
    count = int(rng.integers(2, 6))
    bits = np.ones((count * 8, count * 8), np.float32)
    for row in range(0, count * 8, 8):
        for column in range(0, count * 8, 8):
            bits[row + 1 : row + 7, column + 1 : column + 7] = 0.0
            bits[row + 2 : row + 6, column + 2 : column + 6] = rng.random((4, 4)) < 0.5
    mask = cv2.resize(bits, (size, size), interpolation=cv2.INTER_AREA)
    return _blend(mask, np.full(3, rng.uniform(0.02, 0.2)), np.full(3, rng.uniform(0.7, 1.0)))


def _plain(rng: Rng, size: int) -> AnyArray:
    image = np.empty((size, size, 3), np.float32)
    image[:] = random_colour(rng)
    return image


MAKERS = (_noise, _gradient, _checker, _stripes, _wood, _speckles, _label, _markers, _plain)


def procedural_texture(rng: Rng, size: int) -> ImageArray:
    """One random texture (size, size, 3) with a little grain."""
    image = MAKERS[int(rng.integers(len(MAKERS)))](rng, size)
    image = image * (0.9 + 0.2 * smooth_noise(rng, size, size, 8)[..., None])
    image = image + rng.normal(0.0, rng.uniform(0.0, 0.04), image.shape).astype(np.float32)
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def photo_crop(rng: Rng, photo: ImageArray, width: int, height: int, smallest: float = 0.35) -> ImageArray:
    """Random crop of `photo` (keeping the aspect of the result), flip and mild colour change."""
    rows, columns = photo.shape[:2]
    scale = rng.uniform(smallest, 1.0) * min(columns / width, rows / height)
    w, h = max(2, int(width * scale)), max(2, int(height * scale))
    x, y = int(rng.integers(0, columns - w + 1)), int(rng.integers(0, rows - h + 1))
    crop = cv2.resize(photo[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    gain = rng.uniform(0.5, 1.3) * rng.uniform(0.85, 1.15, 3)
    table = np.clip(np.arange(256)[:, None] * gain, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(np.ascontiguousarray(crop), np.ascontiguousarray(table[None])), np.uint8)
