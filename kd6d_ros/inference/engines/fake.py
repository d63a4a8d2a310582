"""A deterministic engine without a network, for tests and for timing everything around the network.

It reads where a crop lies from a *coordinate image*, whose colours encode pixel coordinates, and answers as
a network would that sees given objects at given poses: cells on every level, keypoints with noise, outliers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence, Tuple

import numpy as np

from kd6d_ros.geometry.cameras import project
from kd6d_ros.types import LocalPredictions

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import AnyArray, Camera, FloatArray, ImageArray, RigidTransform


def coordinate_image(camera: Camera) -> ImageArray:
    """(H, W, 3) uint8: red = column, green = row (0..250 over the image), blue = 255 inside the image."""
    columns = np.linspace(0, 250, camera.width)
    rows = np.linspace(0, 250, camera.height)
    out = np.full((camera.height, camera.width, 3), 255, dtype=np.uint8)
    out[..., 0] = np.round(columns)[None]
    out[..., 1] = np.round(rows)[:, None]
    return out


class FakeEngine:
    """Answers from `scene`, a list of (object name, cam_from_obj) that a test may replace at any time.

    noise_px: standard deviation of a keypoint [network px]; outliers: share of cells whose keypoints are
    nonsense; score: that of the best cells. The same input gives the same answer.
    """

    name = 'fake'
    precision = 'none'
    description = 'fake engine: poses are given, no network runs'
    side_by_side = 1

    def __init__(
        self,
        bundle: Bundle,
        camera: Camera,
        scene: Sequence[Tuple[str, RigidTransform]] = (),
        noise_px: float = 0.0,
        outliers: float = 0.0,
        score: float = 0.9,
        seed: int = 0,
    ) -> None:
        self._bundle, self._camera, self._seed = bundle, camera, seed
        self.scene = list(scene)
        self.noise_px, self.outliers, self.score = noise_px, outliers, score
        self.runs: List[Tuple[int, ...]] = []

    def run(self, image: ImageArray, classes: AnyArray) -> List[LocalPredictions]:
        """See ``Engine.run``; `image` must be cut from a coordinate image."""
        self.runs.append(tuple(image.shape))
        return [self._one(picture, allowed) for picture, allowed in zip(image, classes, strict=True)]

    def _one(self, picture: ImageArray, allowed: AnyArray) -> LocalPredictions:
        rng = np.random.default_rng(self._seed)
        rows: List[Tuple[int, float, int, FloatArray, FloatArray]] = []
        placed = _image_from_net(picture, self._camera)
        for name, pose in self.scene:
            index = self._bundle.index(name)
            if allowed[index] and placed is not None:
                rows += self._cells(index, pose, picture.shape[:2], placed, rng)
        rows.sort(key=lambda row: -row[1])
        count = self._bundle.network.max_cells
        rows = rows[:count]
        rest = count - len(rows)
        return LocalPredictions(
            np.array([row[0] for row in rows] + [0] * rest, dtype=np.int64),
            np.array([row[1] for row in rows] + [0.0] * rest, dtype=np.float32),
            np.array([row[2] for row in rows] + [0] * rest, dtype=np.int64),
            np.array([row[3] for row in rows] + [np.zeros(2)] * rest, dtype=np.float32).reshape(count, 2),
            np.array([row[4] for row in rows] + [np.zeros((8, 2))] * rest, np.float32).reshape(count, 8, 2),
        )

    def _cells(
        self,
        index: int,
        pose: RigidTransform,
        size: Tuple[int, ...],
        placed: Tuple[FloatArray, FloatArray],
        rng: np.random.Generator,
    ) -> List[Tuple[int, float, int, FloatArray, FloatArray]]:
        corners = pose.apply(self._bundle.objects[index].keypoints)
        if corners[:, 2].min() <= 0:
            return []
        scale, shift = placed
        truth = (project(self._camera, corners) - shift) / scale
        low, high = truth.min(axis=0), truth.max(axis=0)
        middle, half = (low + high) / 2, np.maximum((high - low) / 2, 1e-3)
        out = []
        for number, level in enumerate(self._bundle.network.levels):
            ys, xs = np.mgrid[0 : size[0] // level.stride, 0 : size[1] // level.stride]
            centres = (np.stack([xs, ys], axis=-1).reshape(-1, 2) + 0.5) * level.stride - 0.5
            away = np.abs((centres - middle) / half).max(axis=1)
            for centre, far in zip(centres[away < 0.7], away[away < 0.7], strict=True):
                wrong = rng.random() < self.outliers
                noise = rng.normal(0, 1, (8, 2)) * self.noise_px
                guess = rng.uniform(low - half, high + half, (8, 2)) if wrong else truth + noise
                out.append((index, self.score * (1 - 0.3 * float(far)), number, centre, guess))
        return out


def _image_from_net(picture: ImageArray, camera: Camera) -> Tuple[FloatArray, FloatArray] | None:
    """Scale (2,) and shift (2,) of ``image = net * scale + shift``, fitted to the colours; None: no image."""
    scale, shift = np.zeros(2), np.zeros(2)
    inside = picture[..., 2] > 250
    for axis, size in enumerate((camera.width, camera.height)):
        lines = np.flatnonzero(inside.any(axis=axis))
        if len(lines) < 2:
            return None
        sums = np.where(inside, picture[..., axis].astype(np.float64), 0).sum(axis=axis)
        values = sums[lines] / inside.sum(axis=axis)[lines] * (size - 1) / 250
        scale[axis], shift[axis] = np.polyfit(lines, values, 1)
    return scale, shift
