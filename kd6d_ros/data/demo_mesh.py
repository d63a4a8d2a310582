"""Painted boxes and cylinders: what the demo object and the demo scene are built from.

A `Patch` is a piece of surface with a painter; `painted_mesh` packs the tiles of many patches into one
texture. Metres throughout; faces are counter-clockwise seen from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, List, Sequence, Tuple

import numpy as np

from kd6d_ros.data.demo_paint import BLACK, Canvas, pack_tiles
from kd6d_ros.types import Mesh

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray, ImageArray, IntArray

TILE_MARGIN = 6
SIDES = 28
"""Flat sides of every cylinder."""

Painter = Callable[[Canvas], None]


@dataclass(frozen=True, eq=False)
class Patch:
    """A painted piece of surface: vertices (n, 3) [m], unit normals (n, 3), uv (n, 2) in its own tile with v
    up, triangles (m, 3) counter-clockwise from outside, the tile's width and height [m], its painter."""

    vertices: FloatArray
    normals: FloatArray
    uv: FloatArray
    triangles: IntArray
    size: Tuple[float, float]
    painter: Painter


def _quad(origin: FloatArray, right: FloatArray, up: FloatArray, painter: Painter) -> Patch:
    """A rectangle seen from outside: `origin` bottom left, `right` and `up` its edges [m]."""
    normal = np.cross(right, up)
    normal = normal / np.linalg.norm(normal)
    return Patch(
        vertices=np.array([origin, origin + right, origin + right + up, origin + up]),
        normals=np.tile(normal, (4, 1)),
        uv=np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
        triangles=np.array([[0, 1, 2], [0, 2, 3]]),
        size=(float(np.linalg.norm(right)), float(np.linalg.norm(up))),
        painter=painter,
    )


def box(centre: Sequence[float], size: Sequence[float], painters: Sequence[Painter]) -> List[Patch]:
    """Six faces: front (+x), rear (-x), left (+y), right (-y), top (+z), bottom (-z)."""
    middle = np.array(centre)
    x, y, z = np.diag(size)
    low, high = middle - np.array(size) / 2, middle + np.array(size) / 2
    frames = (
        (low + x, y, z),
        (low + y, -y, z),
        (high - z, -x, z),
        (low, x, z),
        (low + z, x, y),
        (low + x, -x, y),
    )
    return [_quad(origin, right, up, paint) for (origin, right, up), paint in zip(frames, painters, strict=True)]


def cylinder(start: Sequence[float], axis: Sequence[float], radius: float, painters: Sequence[Painter]) -> List[Patch]:
    """Side, far cap (at start + axis) and near cap of a cylinder; `axis` (3,) holds its length [m]."""
    base, along = np.array(start), np.array(axis)
    length = float(np.linalg.norm(along))
    direction = along / length
    first = np.cross(direction, [0.0, 0.0, 1.0] if abs(direction[2]) < 0.9 else [1.0, 0.0, 0.0])
    first = first / np.linalg.norm(first)
    second = np.cross(direction, first)
    turn = np.linspace(0.0, 2 * np.pi, SIDES + 1)
    ring = np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second
    low, high = base + radius * ring, base + radius * ring + along
    index = np.arange(SIDES)
    lower = np.stack([index, index + 1, index + SIDES + 2], axis=1)
    upper = np.stack([index, index + SIDES + 2, index + SIDES + 1], axis=1)
    side = Patch(
        vertices=np.concatenate([low, high]),
        normals=np.concatenate([ring, ring]),
        uv=np.concatenate([np.stack([turn / (2 * np.pi), np.full_like(turn, v)], axis=1) for v in (0.0, 1.0)]),
        triangles=np.concatenate([lower, upper]),
        size=(2 * np.pi * radius, length),
        painter=painters[0],
    )
    return [
        side,
        _cap(base + along, radius * first, radius * second, painters[1]),
        _cap(base, radius * first, -radius * second, painters[2]),
    ]


def _cap(centre: FloatArray, first: FloatArray, second: FloatArray, painter: Painter) -> Patch:
    """A disc spanned by two radii (3,) [m]; their cross product looks outward."""
    turn = np.linspace(0.0, 2 * np.pi, SIDES, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    rim = centre + circle[:, :1] * first + circle[:, 1:] * second
    normal = np.cross(first, second)
    normal = normal / np.linalg.norm(normal)
    diameter = 2 * float(np.linalg.norm(first))
    index = np.arange(SIDES)
    return Patch(
        vertices=np.concatenate([[centre], rim]),
        normals=np.tile(normal, (SIDES + 1, 1)),
        uv=np.concatenate([[[0.5, 0.5]], 0.5 + 0.5 * circle]),
        triangles=np.stack([np.zeros_like(index), index + 1, (index + 1) % SIDES + 1], axis=1),
        size=(diameter, diameter),
        painter=painter,
    )


def painted_mesh(patches: Sequence[Patch], side: int, pixels_per_metre: float) -> Mesh:
    """Join patches into one Mesh with uv (v up) and a texture (side, side, 3) uint8 RGB.

    Raises:
        ValueError: the tiles do not fit into the texture.
    """
    sizes = [
        (max(2, round(patch.size[0] * pixels_per_metre)), max(2, round(patch.size[1] * pixels_per_metre)))
        for patch in patches
    ]
    corners = pack_tiles(sizes, side, TILE_MARGIN)
    texture = np.empty((side, side, 3), dtype=np.uint8)
    texture[:] = BLACK
    uv = []
    for patch, (width, height), (x, y) in zip(patches, sizes, corners, strict=True):
        _paint_tile(texture, patch.painter, (x, y), (width, height))
        pixel_x = x + patch.uv[:, 0] * width
        pixel_y = y + (1 - patch.uv[:, 1]) * height
        uv.append(np.stack([pixel_x / side, 1 - pixel_y / side], axis=1))
    offsets = np.cumsum([0, *[len(patch.vertices) for patch in patches]])
    return Mesh(
        vertices=np.concatenate([patch.vertices for patch in patches]),
        faces=np.concatenate([patch.triangles + offset for patch, offset in zip(patches, offsets[:-1], strict=True)]),
        normals=np.concatenate([patch.normals for patch in patches]),
        uv=np.concatenate(uv),
        texture=texture,
    )


def _paint_tile(texture: ImageArray, painter: Painter, corner: Tuple[int, int], size: Tuple[int, int]) -> None:
    (x, y), (width, height), pad = corner, size, TILE_MARGIN
    tile = np.zeros((height, width, 3), dtype=np.uint8)
    painter(Canvas(tile))
    bled = np.pad(tile, ((pad, pad), (pad, pad), (0, 0)), mode='edge')
    texture[y - pad : y + height + pad, x - pad : x + width + pad] = bled
