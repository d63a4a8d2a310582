"""Flat graphics for the demo object's texture: NumPy only, so that every machine paints the same pixels.

A `Canvas` is one tile of the texture. Coordinates are fractions of the tile, x right and y down, so a
painter does not know how many pixels its tile has. Letters come from a 5x7 bitmap font kept here, because
the glyphs of OpenCV's putText changed between versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, ImageArray

Colour = Tuple[int, int, int]

BLACK: Colour = (24, 24, 28)
WHITE: Colour = (240, 238, 230)
RED: Colour = (206, 38, 44)
ORANGE: Colour = (240, 128, 24)
YELLOW: Colour = (246, 208, 40)
GREEN: Colour = (40, 146, 72)
LIME: Colour = (158, 206, 52)
CYAN: Colour = (44, 182, 206)
BLUE: Colour = (34, 76, 172)
NAVY: Colour = (22, 34, 86)
PURPLE: Colour = (122, 52, 150)
PINK: Colour = (232, 110, 160)
BROWN: Colour = (120, 74, 40)
GREY: Colour = (128, 132, 136)

GLYPHS: Dict[str, Tuple[int, ...]] = {
    'A': (14, 17, 17, 31, 17, 17, 17),
    'D': (30, 17, 17, 17, 17, 17, 30),
    'F': (31, 16, 16, 30, 16, 16, 16),
    'G': (14, 17, 16, 23, 17, 17, 14),
    'K': (17, 18, 20, 24, 20, 18, 17),
    'P': (30, 17, 17, 30, 16, 16, 16),
    'R': (30, 17, 17, 30, 20, 18, 17),
    'Z': (31, 1, 2, 4, 8, 16, 31),
    '2': (14, 17, 1, 6, 8, 16, 31),
    '4': (2, 6, 10, 18, 31, 2, 2),
    '5': (31, 16, 30, 1, 1, 17, 14),
    '6': (6, 8, 16, 30, 17, 17, 14),
    '7': (31, 1, 2, 4, 8, 8, 8),
}
"""Rows of each glyph from the top, five bits each, the leftmost pixel being the highest bit."""


@dataclass(frozen=True)
class Canvas:
    """A tile `pixels` (h, w, 3) uint8 RGB, painted in place."""

    pixels: ImageArray

    def _grid(self) -> Tuple[AnyArray, AnyArray]:
        height, width = self.pixels.shape[:2]
        x = (np.arange(width) + 0.5) / width
        y = (np.arange(height) + 0.5) / height
        return x[None, :], y[:, None]

    @property
    def aspect(self) -> float:
        """Width over height in metres, so that discs come out round."""
        return float(self.pixels.shape[1] / self.pixels.shape[0])

    def fill(self, colour: Colour) -> None:
        self.pixels[:] = colour

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        x, y = self._grid()
        self.pixels[(x >= x0) & (x < x1) & (y >= y0) & (y < y1)] = colour

    def polygon(self, corners: Sequence[Tuple[float, float]], colour: Colour) -> None:
        """Fill a polygon by the even-odd rule."""
        x, y = self._grid()
        inside = np.zeros(self.pixels.shape[:2], dtype=bool)
        for (xa, ya), (xb, yb) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if ya == yb:
                continue
            crossing = xa + (y - ya) * (xb - xa) / (yb - ya)
            inside ^= ((ya > y) != (yb > y)) & (x < crossing)
        self.pixels[inside] = colour

    def disc(self, cx: float, cy: float, radius: float, colour: Colour) -> None:
        """A round disc; `radius` is a fraction of the tile's height."""
        x, y = self._grid()
        self.pixels[((x - cx) * self.aspect) ** 2 + (y - cy) ** 2 < radius**2] = colour

    def stripes(self, count: float, angle: float, colour: Colour) -> None:
        """`count` bands across the tile's height, turned by `angle` [rad]."""
        x, y = self._grid()
        phase = (np.sin(angle) * x * self.aspect + np.cos(angle) * y) * count
        self.pixels[phase % 1.0 < 0.5] = colour

    def checker(self, columns: int, rows: int, colour: Colour) -> None:
        x, y = self._grid()
        self.pixels[(np.floor(x * columns) + np.floor(y * rows)) % 2 == 0] = colour

    def sector(self, start: float, end: float, colour: Colour) -> None:
        """A pie slice about the tile's centre between two angles [rad], 0 to 2 pi."""
        x, y = self._grid()
        angle = np.arctan2(y - 0.5, x - 0.5) % (2 * np.pi)
        self.pixels[(angle >= start) & (angle < end)] = colour

    def text(self, word: str, area: Tuple[float, float, float, float], colour: Colour) -> None:
        """Write `word` so that it fills `area` = (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = area
        bits = np.concatenate([np.pad(_glyph(letter), ((0, 0), (0, 1))) for letter in word], axis=1)[:, :-1]
        x, y = np.broadcast_arrays(*self._grid())
        inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        column = ((x[inside] - x0) / (x1 - x0) * bits.shape[1]).astype(int)
        row = ((y[inside] - y0) / (y1 - y0) * bits.shape[0]).astype(int)
        region = self.pixels[inside]
        region[bits[row, column]] = colour
        self.pixels[inside] = region


def _glyph(letter: str) -> AnyArray:
    rows = np.array(GLYPHS[letter])
    bits: AnyArray = (rows[:, None] >> np.arange(4, -1, -1)) & 1 == 1
    return bits


def pack_tiles(sizes: Sequence[Tuple[int, int]], side: int, margin: int) -> Sequence[Tuple[int, int]]:
    """Top-left corners (x, y) [px] of tiles (width, height) on shelves of a square atlas.

    Every tile keeps `margin` pixels on all sides, so that a mipmap does not mix neighbours.

    Raises:
        ValueError: the tiles do not fit into side x side pixels.
    """
    order = sorted(range(len(sizes)), key=lambda index: (-sizes[index][1], -sizes[index][0], index))
    corners = [(0, 0)] * len(sizes)
    x = y = shelf = 0
    for index in order:
        width, height = sizes[index][0] + 2 * margin, sizes[index][1] + 2 * margin
        if x + width > side:
            x, y, shelf = 0, y + shelf, 0
        if x + width > side or y + height > side:
            raise ValueError(f'{len(sizes)} tiles do not fit into a texture of {side} px; lower the density')
        corners[index] = (x + margin, y + margin)
        x, shelf = x + width, max(shelf, height)
    return corners
