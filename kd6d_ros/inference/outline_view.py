"""What the image says around an object: is a pixel's colour that of the object or of what is around it?

Colour histograms of both sides of a first outline give the odds of every colour; the network's mask, where there is
one, says where the object is seen at all.

Reference: Prisacariu, Reid, "PWP3D: Real-Time Segmentation and Tracking of 3D Objects", IJCV 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import cv2
import numpy as np

from kd6d_ros.geometry.cameras import project

if TYPE_CHECKING:
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.types import AnyArray, Camera, Float32Array, FloatArray, ImageArray

OBJECT_PX = 72
"""The object's size in the view [px]; a smaller one in the image is enlarged by LARGEST_ZOOM at most."""

LARGEST_ZOOM = 1.5
LARGEST = 3.0
"""An object of this many times the image has no outline in it."""

LEAST_BLUR = 0.4
SPAN = 2.4
"""Side of the view over the object's size."""

NO_MASK = -4.0
"""Log-odds where the network's map ends."""

BINS = 16
"""Of each colour channel."""

UNSEEN_COLOUR = 2e-4
"""Share of the pixels that every colour is given on both sides: one that was never seen says nothing."""

_NEIGHBOURS = sum(np.eye(BINS, k=k) * share for k, share in ((-1, 0.25), (0, 0.5), (1, 0.25)))

LEAST_PIXELS = 30
GRID_STEP = 8


@dataclass(frozen=True, eq=False)
class MaskMap:
    """Log-odds (h, w) by the network that a place of `crop` shows the object."""

    logits: AnyArray
    crop: Crop


@dataclass(frozen=True, eq=False)
class View:
    """A square picture around the object by a camera without distortion.

    matrix (3, 3) of that camera; size: of the object in the picture [px]; colours (S, S): number of the colour of each
    pixel; mask (S, S): log-odds by the network.
    """

    matrix: FloatArray
    size: float
    colours: AnyArray
    mask: Optional[Float32Array]

    @property
    def side(self) -> int:
        return int(self.colours.shape[0])


def look(image: ImageArray, camera: Camera, centre: FloatArray, size: float, mask: Optional[MaskMap]) -> Optional[View]:
    """The view of an object of `size` [image px] around `centre` (2,), a normalised ray (x/z, y/z); None where the
    object is not in the image, or far larger than it."""
    if not 1 <= size <= LARGEST * max(camera.width, camera.height):
        return None
    scale = min(OBJECT_PX / size, LARGEST_ZOOM)
    side = int(np.ceil(SPAN * size * scale))
    matrix = np.diag([camera.matrix[0, 0] * scale, camera.matrix[1, 1] * scale, 1.0])
    matrix[:2, 2] = (side - 1) / 2 - np.diag(matrix)[:2] * centre
    grid = _image_pixels(camera, matrix, side)
    picture = _picture(image, grid, scale)
    if picture is None:
        return None
    step = (picture // (256 // BINS)).astype(np.int64)
    return View(matrix, size * scale, (step[..., 0] * BINS + step[..., 1]) * BINS + step[..., 2], _logits(mask, grid))


def _picture(image: ImageArray, grid: Float32Array, scale: float) -> Optional[ImageArray]:
    """The image under the pixels (S, S, 2) of the view, smoothed so that shrinking does not alias; None beside it."""
    height, width = image.shape[:2]
    sigma = 0.5 * np.sqrt(max(1 / scale**2 - 1, 0.0))
    margin = int(np.ceil(3 * sigma)) + 2
    columns, rows = grid[..., 0], grid[..., 1]
    low = np.maximum(np.floor([columns.min(), rows.min()]).astype(int) - margin, 0)
    high = np.minimum(np.ceil([columns.max(), rows.max()]).astype(int) + margin + 1, (width, height))
    if (low >= high).any():
        return None
    part = image[low[1] : high[1], low[0] : high[0]]
    if sigma > LEAST_BLUR:
        part = cv2.GaussianBlur(part, (0, 0), sigma)
    at = grid - low.astype(np.float32)
    picture = cv2.remap(part, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    out: ImageArray = cv2.GaussianBlur(picture, (3, 3), 0)
    return out


def _logits(mask: Optional[MaskMap], grid: Float32Array) -> Optional[Float32Array]:
    """The mask under the pixels (S, S, 2) of the view."""
    if mask is None:
        return None
    share = mask.logits.shape[1] / mask.crop.width
    # As crop.to_network has it, in single numbers: to a thousandth of a pixel, and in a quarter of the time.
    scale = mask.crop.scale * share
    shift = 0.5 * scale - 0.5 - scale * np.array([mask.crop.x0, mask.crop.y0])
    at = grid * np.float32(scale) + shift.astype(np.float32)
    values = mask.logits.astype(np.float32)
    out: Float32Array = cv2.remap(
        values, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=NO_MASK
    )
    return out


def _image_pixels(camera: Camera, matrix: FloatArray, side: int) -> Float32Array:
    """Pixels (S, S, 2) of the image that the pixels of the view lie on; interpolated, as lenses bend slowly."""
    if camera.model == 'none':
        scale = np.diag(camera.matrix)[:2] / np.diag(matrix)[:2]
        lines = np.arange(side)[:, None] * scale + camera.matrix[:2, 2] - scale * matrix[:2, 2]
        straight: Float32Array = np.stack(np.meshgrid(*lines.T), axis=-1).astype(np.float32)
        return straight
    knots = np.arange(0, side - 1 + GRID_STEP, GRID_STEP, dtype=np.float64)
    rays = (np.stack(np.meshgrid(knots, knots), axis=-1) - matrix[:2, 2]) / np.diag(matrix)[:2]
    points = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=2)
    pixels = project(camera, points.reshape(-1, 3)).reshape(len(knots), len(knots), 2)
    columns, rows = np.meshgrid(*2 * [np.arange(side, dtype=np.float32) / GRID_STEP])
    # NaN, where the lens has no image, is outside of every image.
    knots_px = np.nan_to_num(pixels, nan=-1e6).astype(np.float32)
    out: Float32Array = cv2.remap(knots_px, columns, rows, cv2.INTER_LINEAR)
    return out


def colour_odds(view: View, silhouette: AnyArray, gap: float, ring: float) -> Optional[Float32Array]:
    """Log-odds (BINS^3,) of every colour to be the object's, by the pixels more than `gap` [px] inside of a silhouette
    and those `gap` to `ring` outside of it; None where there are too few of either."""
    inside = cv2.distanceTransform(silhouette, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(255 - silhouette, cv2.DIST_L2, 3)
    own = inside > gap
    if view.mask is not None:
        seen = own & (view.mask > 0)
        own = seen if np.count_nonzero(seen) >= 2 * LEAST_PIXELS else own
    if np.count_nonzero(own) < LEAST_PIXELS:
        own = inside > 0
    other = (outside > gap) & (outside < ring)
    if min(np.count_nonzero(own), np.count_nonzero(other)) < LEAST_PIXELS:
        return None
    ratio = _histogram(view.colours[own]) / _histogram(view.colours[other])
    return np.log(ratio).astype(np.float32)  # type: ignore[no-any-return]


def _histogram(colours: AnyArray) -> FloatArray:
    """Share (BINS^3,) of each colour, its neighbours counted in."""
    counts = np.bincount(colours, minlength=BINS**3).reshape(BINS, BINS, BINS) / len(colours)
    for _ in range(3):  # each time over the first axis, which becomes the last one
        counts = np.tensordot(counts, _NEIGHBOURS, (0, 0))
    out: FloatArray = counts.reshape(-1) + UNSEEN_COLOUR
    return out
