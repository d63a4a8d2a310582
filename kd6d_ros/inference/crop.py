"""The one affine map between image pixels and network pixels. Nobody else scales coordinates.

Pixel centres lie at integer coordinates in both (``kd6d_ros.types``). A window that starts at edge
coordinate x0 - 0.5 and is scaled by s maps ``u_net = (u - x0 + 0.5) * s - 0.5``, so no half-pixel shift
appears whatever the scale. Cell (i, j) of a level with stride k has its centre at
``((j + 0.5) * k - 0.5, (i + 0.5) * k - 0.5)`` network pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Tuple

import cv2
import numpy as np

from kd6d_ros.errors import ShapeError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray, ImageArray


@dataclass(frozen=True)
class Crop:
    """Window of the image (left edge x0, top edge y0, in pixel-centre coordinates plus 0.5) times `scale`.

    `width` and `height` are the network's input size in pixels. The window may leave the image: what lies
    outside is filled with `border`.
    """

    x0: float
    y0: float
    scale: float
    width: int
    height: int

    def __post_init__(self) -> None:
        finite = np.isfinite([self.x0, self.y0, self.scale]).all()
        if not finite or self.scale <= 0 or self.width < 1 or self.height < 1:
            raise ShapeError(f'crop: needs finite edges, positive scale and size, got {self}')

    @staticmethod
    def square(centre: Tuple[float, float], side: float, size: int) -> Crop:
        """Square window of `side` image pixels around `centre`, resampled to size x size."""
        x0 = centre[0] + 0.5 - side / 2
        y0 = centre[1] + 0.5 - side / 2
        return Crop(x0, y0, size / side, size, size)

    @staticmethod
    def around_box(box: AnyArray, padding: float, size: int) -> Crop:
        """Square window of `padding` times the longer side of box (x0 y0 x1 y1), same centre."""
        box = np.asarray(box, dtype=np.float64)
        side = padding * max(box[2] - box[0], box[3] - box[1], 1.0)
        return Crop.square(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), side, size)

    @staticmethod
    def letterbox(image_size: Tuple[int, int], network_size: Tuple[int, int]) -> Crop:
        """Whole image (width, height) centred in (width, height) of the network, aspect ratio kept."""
        scale = min(network_size[0] / image_size[0], network_size[1] / image_size[1])
        x0 = (image_size[0] - network_size[0] / scale) / 2
        y0 = (image_size[1] - network_size[1] / scale) / 2
        return Crop(x0, y0, scale, network_size[0], network_size[1])

    def net_from_image(self) -> FloatArray:
        """Affine matrix (2, 3): network pixels from image pixels."""
        shift = 0.5 * self.scale - 0.5
        return np.array(
            [
                [self.scale, 0.0, shift - self.x0 * self.scale],
                [0.0, self.scale, shift - self.y0 * self.scale],
            ]
        )

    def to_network(self, points: AnyArray) -> FloatArray:
        """Map image pixels (..., 2) to network pixels."""
        corner = np.array([self.x0, self.y0])
        mapped: FloatArray = (np.asarray(points, dtype=np.float64) - corner + 0.5) * self.scale - 0.5
        return mapped

    def to_image(self, points: AnyArray) -> FloatArray:
        """Map network pixels (..., 2) to image pixels."""
        corner = np.array([self.x0, self.y0])
        mapped: FloatArray = (np.asarray(points, dtype=np.float64) + 0.5) / self.scale - 0.5 + corner
        return mapped

    def extract(self, image: ImageArray, border: int = 114) -> ImageArray:
        """Resample the window of `image` (H, W, 3) uint8 to (height, width, 3); area filter when shrinking."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ShapeError(f'crop: expected an (H, W, 3) uint8 image, got {image.shape} {image.dtype}')
        identity = self.scale == 1 and self.x0 == 0 and self.y0 == 0
        if identity and image.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(image)
        source, matrix = image, self.net_from_image()
        if self.scale < 0.7:
            source, matrix = self._prefiltered(image)
        out: ImageArray = cv2.warpAffine(
            source,
            matrix,
            (self.width, self.height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(border, border, border),
        )
        return out

    def _prefiltered(self, image: ImageArray) -> Tuple[ImageArray, FloatArray]:
        """Blur the window's part of the image before bilinear sampling, so that shrinking does not alias."""
        sigma = 0.5 * np.sqrt(max(1.0 / self.scale**2 - 1.0, 0.0))
        margin = int(np.ceil(4 * sigma)) + 2
        height, width = image.shape[:2]
        left = int(np.clip(self.x0 - margin, 0, width - 1))
        top = int(np.clip(self.y0 - margin, 0, height - 1))
        right = int(np.clip(self.x0 + self.width / self.scale + margin, left + 1, width))
        bottom = int(np.clip(self.y0 + self.height / self.scale + margin, top + 1, height))
        blurred: ImageArray = cv2.GaussianBlur(image[top:bottom, left:right], (0, 0), sigma)
        matrix = self.net_from_image()
        matrix[:, 2] += self.scale * np.array([left, top])
        return blurred, matrix
