"""Visible surface discrepancy (VSD) as BOP defines it: the only error that looks at depth.

Source: Hodan et al., "BOP: Benchmark for 6D Object Pose Estimation", ECCV 2018, with the visibility of BOP 2019 (a
pixel without depth hides nothing). Depth images come in as arguments: this room renders nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.errors import DatasetError, ShapeError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Camera, Float32Array, FloatArray, RigidTransform

    RenderDepth = Callable[[int, RigidTransform, Camera], Float32Array]
    """Depth (H, W) [m], 0 where nothing is, of an object id alone in a pose."""
    ReadDepth = Callable[[int, int], Optional[Float32Array]]
    """Measured depth (H, W) [m], 0 where unknown, by scene and image id; None: there is none."""

VSD_DELTA = 0.015
"""Tolerance of the visibility [m]; BOP takes 0.005 for ITODD and this for its other sets."""
VSD_TAUS = tuple(round(0.05 * step, 2) for step in range(1, 11))
"""Tolerances of the distance, as fractions of the diameter."""


def vsd(
    estimate: AnyArray,
    truth: AnyArray,
    scene: AnyArray,
    camera: Camera,
    diameter: float,
    delta: float = VSD_DELTA,
    taus: Sequence[float] = VSD_TAUS,
) -> FloatArray:
    """VSD for each of `taus`: (T,) in [0, 1]; 1 where neither pose shows a visible pixel.

    Args:
        estimate, truth: rendered depth (H, W) [m] of the object alone in the two poses, 0 elsewhere.
        scene: measured depth (H, W) [m], 0 where unknown.
        diameter, delta: [m].

    Raises:
        ShapeError: images of different sizes.
    """
    if not estimate.shape == truth.shape == scene.shape == (camera.height, camera.width):
        raise ShapeError(
            f'VSD: depth images of {estimate.shape}, {truth.shape} and {scene.shape} for a camera of '
            f'{(camera.height, camera.width)}'
        )
    rows, columns = _window((estimate > 0) | (truth > 0))
    scale = _distance_per_depth(camera, rows, columns)
    est, gt, measured = (np.asarray(item[rows, columns], np.float64) * scale for item in (estimate, truth, scene))
    visible_gt = _visible(gt, measured, delta)
    visible_est = _visible(est, measured, delta) | (visible_gt & (est > 0))
    both, either = visible_gt & visible_est, visible_gt | visible_est
    total = int(either.sum())
    if total == 0:
        return np.ones(len(taus))
    apart = np.abs(gt[both] - est[both]) / diameter
    only_one = total - int(both.sum())
    return np.array([(np.count_nonzero(apart >= tau) + only_one) / total for tau in taus])


def _window(mask: AnyArray) -> Tuple[slice, slice]:
    """The rows and columns that hold everything of a mask (H, W)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _distance_per_depth(camera: Camera, rows: slice, columns: slice) -> FloatArray:
    """Distance from the camera's centre per metre of depth, for each pixel of a window."""
    x = (np.arange(columns.start, columns.stop) - camera.matrix[0, 2]) / camera.matrix[0, 0]
    y = (np.arange(rows.start, rows.stop) - camera.matrix[1, 2]) / camera.matrix[1, 1]
    distance: FloatArray = np.sqrt(1.0 + x[None, :] ** 2 + y[:, None] ** 2)
    return distance


def _visible(model: FloatArray, measured: FloatArray, delta: float) -> AnyArray:
    seen: AnyArray = (model > 0) & ((model - measured <= delta) | (measured == 0))
    return seen


class VisibleSurface:
    """VSD of poses in the images of a dataset; keeps the depth and the rendered truths of the last image only."""

    def __init__(self, render: RenderDepth, read: ReadDepth, delta: float = VSD_DELTA) -> None:
        self._render, self._read, self._delta = render, read, delta
        self._image: Tuple[int, int] = (-1, -1)
        self._depth: Optional[Float32Array] = None
        self._truths: Dict[Tuple[int, bytes], Float32Array] = {}

    def errors(
        self,
        image: Tuple[int, int],
        camera: Camera,
        obj_id: int,
        diameter: float,
        estimate: RigidTransform,
        truth: RigidTransform,
    ) -> FloatArray:
        """(T,) for VSD_TAUS in the image (scene id, image id).

        Raises:
            DatasetError: the image has no depth.
        """
        if image != self._image:
            self._image, self._depth, self._truths = image, self._read(*image), {}
        if self._depth is None:
            raise DatasetError(f'scene {image[0]} image {image[1]} has no depth image, which VSD needs')
        key = (obj_id, truth.matrix().tobytes())
        if key not in self._truths:
            self._truths[key] = self._render(obj_id, truth, camera)
        rendered = self._render(obj_id, estimate, camera)
        return vsd(rendered, self._truths[key], self._depth, camera, diameter, self._delta)
