"""Matrices between the camera frame and OpenGL clip space, and mesh bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.data.renderer.records import RenderItem
    from kd6d_ros.types import AnyArray, FloatArray

NEAR_M = 0.02
FAR_M = 50.0


def clip_from_camera(matrix: AnyArray, width: int, height: int, near: float = NEAR_M, far: float = FAR_M) -> FloatArray:
    """Clip matrix (4, 4) for OpenCV intrinsics (3, 3) [px] with pixel centres at integers.

    Image row 0 lies at the bottom of OpenGL's window, so a readback needs no flip.
    """
    clip = np.zeros((4, 4))
    clip[0, :3] = 2.0 * np.asarray(matrix)[0] / width
    clip[0, 2] += 1.0 / width - 1.0
    clip[1, :3] = 2.0 * np.asarray(matrix)[1] / height
    clip[1, 2] += 1.0 / height - 1.0
    clip[2, 2] = (far + near) / (far - near)
    clip[2, 3] = -2.0 * far * near / (far - near)
    clip[3, 2] = 1.0
    return clip


def item_sphere(item: RenderItem, bounds: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, float]:
    """Centre (3,) in the camera frame and radius [m] of a sphere about the item's box; `bounds` are the low
    and the high corner of its mesh."""
    low, high = bounds[0] * item.scale, bounds[1] * item.scale
    centre = item.cam_from_obj.apply(0.5 * (low + high)[None])[0]
    return centre, float(0.5 * np.linalg.norm(high - low))


def shadow_projection(
    spheres: Sequence[tuple[FloatArray, float]], direction: AnyArray, map_size: int
) -> tuple[FloatArray, float]:
    """Orthographic projection (4, 4) of the casters' bounding spheres along a directional light, and metres
    per texel."""
    centres = np.array([centre for centre, _ in spheres])
    radii = np.array([radius for _, radius in spheres])
    middle = 0.5 * ((centres - radii[:, None]).min(axis=0) + (centres + radii[:, None]).max(axis=0))
    extent = float((np.linalg.norm(centres - middle, axis=1) + radii).max())
    forward = -np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    helper = np.array([1.0, 0.0, 0.0]) if abs(forward[0]) < 0.8 else np.array([0.0, 1.0, 0.0])
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    view[:3, 3] = -view[:3, :3] @ middle
    # receivers (a table) reach further back than the casters: only the casters need the map's depth range
    scale = np.diag([1.0 / extent, 1.0 / extent, 1.0 / extent, 1.0])
    return scale @ view, 2.0 * extent / map_size
