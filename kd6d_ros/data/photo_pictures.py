"""Pictures of estimates: the photo with the 3D box, the axes and the score of every pose in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

from kd6d_ros.data.bop_write import write_aside
from kd6d_ros.errors import ImageError
from kd6d_ros.geometry.draw import PALETTE, draw_pose

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import Camera, ImageArray, RigidTransform

QUALITY = 92


def draw_estimate(
    image: ImageArray, camera: Camera, bundle: Bundle, name: str, score: float, cam_from_obj: RigidTransform
) -> None:
    """Draw one pose into `image` (H, W, 3) RGB, each object of the bundle in a colour of its own."""
    colour = PALETTE[bundle.index(name) % len(PALETTE)]
    draw_pose(image, camera, bundle.object(name), cam_from_obj, colour, f'{name} {score:.2f}', thickness=1)


def write_jpeg(path: Path, image: ImageArray) -> None:
    """Write `image` (H, W, 3) RGB, whole or not at all.

    Raises:
        ImageError: it cannot be encoded.
    """
    fine, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not fine:
        raise ImageError(f'{path}: the picture cannot be encoded')
    write_aside(path, data.tobytes())
