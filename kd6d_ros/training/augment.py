"""Photometric changes of a window: what the renderer's sensor model left fixed varies again each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.training.recipe import AugmentationRecipe
    from kd6d_ros.types import ImageArray


def augment(image: ImageArray, recipe: AugmentationRecipe, rng: np.random.Generator) -> ImageArray:
    """Return a changed copy of `image` (S, S, 3) uint8 RGB; geometry stays as it is."""
    if rng.random() < recipe.cutout:
        image = _cutout(image, rng)
    if rng.random() < recipe.blur:
        image = _blur(image, rng)
    if rng.random() < recipe.sharpen:
        image = _sharpen(image, rng)
    if rng.random() < recipe.colour:
        image = _colour(image, recipe, rng)
    if rng.random() < recipe.grey:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)  # type: ignore[assignment]
    if rng.random() < recipe.noise:
        noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 12)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image


def _colour(image: ImageArray, recipe: AugmentationRecipe, rng: np.random.Generator) -> ImageArray:
    """Contrast, brightness, white balance and saturation in one affine map; hue as a rotation of chroma."""
    grey = np.full((3, 3), 1 / 3)
    saturation = 1 + recipe.saturation * rng.uniform(-1, 1)
    mix = saturation * np.eye(3) + (1 - saturation) * grey
    angle = recipe.hue * 2 * np.pi * rng.uniform(-1, 1)
    hue, _ = cv2.Rodrigues(np.full(3, angle / np.sqrt(3)))
    gain = (1 + recipe.contrast * rng.uniform(-1, 1)) * rng.uniform(0.92, 1.08, 3)
    matrix = np.diag(gain) @ hue @ mix
    mean = np.array(cv2.mean(image)[:3])
    shift = mean * (1 + recipe.brightness * rng.uniform(-1, 1)) - matrix @ mean
    shift += 255 * 0.15 * recipe.brightness * rng.uniform(-1, 1)
    affine = np.concatenate([matrix, shift[:, None]], 1).astype(np.float32)
    out = np.clip(cv2.transform(image.astype(np.float32), affine), 0, 255)
    if rng.random() < 0.3:
        out = 255 * (out / 255) ** rng.uniform(0.7, 1.4)
    return out.astype(np.uint8)  # type: ignore[no-any-return]


def _blur(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    if rng.random() < 0.3:
        length = int(rng.choice([3, 5, 7]))  # odd, or the picture would move by half a pixel
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        turn = cv2.getRotationMatrix2D(((length - 1) / 2,) * 2, rng.uniform(0, 180), 1)
        kernel = cv2.warpAffine(kernel, turn, (length, length))
        moved: ImageArray = cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-6))
        return moved
    soft: ImageArray = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.4))
    return soft


def _sharpen(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    soft = cv2.GaussianBlur(image, (0, 0), 1.2)
    amount = rng.uniform(0.3, 1.5)
    sharp: ImageArray = cv2.addWeighted(image, 1 + amount, soft, -amount, 0)
    return sharp


def _cutout(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Paint one to three rectangles: flat, noisy, or copied from elsewhere in the window."""
    image, size = image.copy(), image.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        h, w = rng.integers(max(size // 16, 1), max(size // 4, 2), 2)
        y, x = rng.integers(0, size - h), rng.integers(0, size - w)
        kind = rng.random()
        if kind < 0.35:
            patch = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (h, w, 3))
        elif kind < 0.55:
            patch = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        else:
            ys, xs = rng.integers(0, size - h), rng.integers(0, size - w)
            patch = image[ys : ys + h, xs : xs + w].copy()
        image[y : y + h, x : x + w] = patch
    return image
