"""Poses drawn into pictures: the edges of the 3D box, the object's axes, a label. OpenCV only.

Lines are bent by the lens like the image itself, end where they would pass behind the camera, and may leave
the image on any side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from kd6d_ros.errors import ShapeError
from kd6d_ros.geometry.cameras import project

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Camera, FloatArray, ImageArray, ObjectModel, RigidTransform

Colour = Tuple[int, int, int]

AXIS_COLOURS: Tuple[Colour, Colour, Colour] = ((255, 60, 60), (60, 220, 60), (80, 120, 255))
"""x, y, z in RGB order."""

PALETTE: Tuple[Colour, ...] = (
    (255, 200, 0), (0, 220, 255), (255, 90, 200), (120, 255, 80),
    (255, 130, 40), (150, 140, 255), (0, 255, 170), (255, 255, 120),
)  # fmt: skip
"""Colours (RGB) that tell objects apart: use ``PALETTE[index % len(PALETTE)]``."""

NEAR = 0.01
"""Parts of a line nearer to the camera plane than this [m] are not drawn."""

_STRAIGHT, _BENT = 2, 24  # points per line without and with lens distortion


def draw_pose(
    image: ImageArray,
    camera: Camera,
    model: ObjectModel,
    cam_from_obj: RigidTransform,
    colour: Colour,
    label: str = '',
    thickness: int = 2,
    axes: bool = True,
) -> None:
    """Draw one object into `image`, in place.

    Args:
        image: (H, W, 3) uint8 of the size of `camera`, contiguous; `colour` is in its channel order (the
            axes are red, green and blue in RGB order).
        model: gives the box (keypoints) and the length of the axes (diameter).
        label: text above the box; ASCII.
        thickness: of the box edges [px].

    Raises:
        ShapeError: the image is not of the camera's size, or cannot be written to.
    """
    _check(image, camera)
    lines = box_edges(model.keypoints)
    colours: List[Colour] = [colour] * len(lines)
    if axes:
        tips = 0.35 * model.diameter * np.eye(3)
        lines = np.concatenate([lines, np.stack([np.zeros((3, 3)), tips], axis=1)])
        colours += AXIS_COLOURS
    moved = cam_from_obj.apply(lines.reshape(-1, 3)).reshape(-1, 2, 3)
    draw_lines(image, camera, moved, colours, thickness)
    if label:
        _draw_label(image, camera, cam_from_obj.apply(model.keypoints), colour, label)


def box_edges(corners: AnyArray) -> FloatArray:
    """The 12 edges (12, 2, 3) of a box given by its corners (8, 3) in any order."""
    corners = np.asarray(corners, dtype=np.float64)
    upper = corners > corners.mean(axis=0)
    differ = (upper[:, None] != upper[None]).sum(axis=2)
    return corners[np.argwhere(np.triu(differ == 1))]  # type: ignore[no-any-return]


def draw_lines(image: ImageArray, camera: Camera, lines: AnyArray, colours: Sequence[Colour], thickness: int) -> None:
    """Draw lines (L, 2, 3) [m, camera frame], each in its colour, into `image`, in place."""
    share = np.linspace(0, 1, _STRAIGHT if camera.model == 'none' else _BENT)[:, None]
    fronts = [(_in_front(ends), colour) for ends, colour in zip(np.asarray(lines), colours, strict=True)]
    drawn = [(front, colour) for front, colour in fronts if front is not None]
    if not drawn:
        return
    points = np.stack([front[0] + share * (front[1] - front[0]) for front, _ in drawn])
    pixels = project(camera, points.reshape(-1, 3)).reshape(len(drawn), -1, 2)
    for path, (_, colour) in zip(pixels, drawn, strict=True):
        _draw_path(image, camera, path, colour, thickness)


def _draw_path(image: ImageArray, camera: Camera, pixels: FloatArray, colour: Colour, thickness: int) -> None:
    # The frame around the image bounds the coordinates that OpenCV sees, whatever the perspective does.
    window = (-camera.width, -camera.height, 3 * camera.width, 3 * camera.height)
    usable = np.asarray(np.isfinite(pixels).all(axis=1))
    for index in np.flatnonzero(usable[:-1] & usable[1:]):
        visible, first, second = cv2.clipLine(window, _whole(pixels[index]), _whole(pixels[index + 1]))
        if visible:
            cv2.line(image, first, second, colour, thickness, cv2.LINE_AA)


def _in_front(line: FloatArray) -> Optional[FloatArray]:
    """The part (2, 3) of the line in front of the NEAR plane, or None."""
    start, end = line
    if max(start[2], end[2]) < NEAR or not np.isfinite(line).all():
        return None
    if min(start[2], end[2]) >= NEAR:
        return line
    cut = start + (end - start) * (NEAR - start[2]) / (end[2] - start[2])
    return np.stack([cut, end]) if start[2] < NEAR else np.stack([start, cut])


def _whole(pixel: FloatArray) -> Tuple[int, int]:
    x, y = (min(max(float(value), -1e9), 1e9) for value in pixel)
    return round(x), round(y)


def _draw_label(image: ImageArray, camera: Camera, corners: FloatArray, colour: Colour, label: str) -> None:
    """Text on a dark ground above the box, moved into the image."""
    front = corners[corners[:, 2] > NEAR]
    pixels = project(camera, front) if len(front) else np.zeros((0, 2))
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(pixels):
        return
    scale = max(0.4, camera.height / 1200)
    (width, height), below = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x, y = _whole(np.array([pixels[:, 0].min(), pixels[:, 1].min() - 4]))
    x = min(max(x, 0), max(camera.width - width, 0))
    y = min(max(y, height + 2), camera.height - below)
    cv2.rectangle(image, (x - 1, y - height - 2), (x + width + 1, y + below), (20, 20, 20), cv2.FILLED)
    cv2.putText(image, label, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _check(image: ImageArray, camera: Camera) -> None:
    if image.shape != (camera.height, camera.width, 3) or image.dtype != np.uint8:
        raise ShapeError(
            f'overlay: image is {image.shape} {image.dtype}, '
            f'expected ({camera.height}, {camera.width}, 3) uint8 as the camera says'
        )
    if not image.flags.writeable or not image.flags.c_contiguous:
        raise ShapeError('overlay: the image is read-only or not contiguous; pass a copy')
