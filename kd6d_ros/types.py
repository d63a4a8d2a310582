"""Records that the rooms of the package exchange: immutable, NumPy only, no behaviour beyond algebra.

Conventions: metres, radians, seconds; camera frame = optical (x right, y down, z forward); object frame =
mesh origin; pixel centres lie at integer coordinates (as in OpenCV, BOP and ROS), so an image of width w
covers [-0.5, w - 0.5]. Transforms are named destination-from-source (``cam_from_obj``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional, Tuple

import numpy as np

from kd6d_ros.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Float32Array = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    ImageArray = NDArray[np.uint8]
    AnyArray = NDArray[Any]


def frozen_array(value: Any, shape: Tuple[int, ...], what: str, dtype: Any = np.float64) -> Any:
    """Return a read-only copy of `value` with `dtype`; -1 in `shape` means any length.

    Raises:
        ShapeError: wrong number of dimensions or length, or a non-finite number.
    """
    array = np.array(value, dtype=dtype)
    fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape, strict=False))
    if not fits:
        raise ShapeError(f'{what}: expected shape {shape}, got {array.shape}')
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
        raise ShapeError(f'{what}: contains NaN or infinite values')
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """A rotation (3, 3) and a translation (3,) in metres: ``p_dst = R @ p_src + t``."""

    rotation: FloatArray
    translation: FloatArray

    def __post_init__(self) -> None:
        rotation = frozen_array(self.rotation, (3, 3), 'rotation')
        translation = frozen_array(self.translation, (3,), 'translation')
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-4 or np.linalg.det(rotation) < 0:
            raise ShapeError('rotation: not a proper orthonormal matrix (tolerance 1e-4)')
        object.__setattr__(self, 'rotation', rotation)
        object.__setattr__(self, 'translation', translation)

    @staticmethod
    def identity() -> RigidTransform:
        return RigidTransform(np.eye(3), np.zeros(3))

    @staticmethod
    def from_matrix(matrix: AnyArray) -> RigidTransform:
        """From a homogeneous matrix (4, 4)."""
        matrix = frozen_array(matrix, (4, 4), 'matrix')
        return RigidTransform(matrix[:3, :3], matrix[:3, 3])

    def matrix(self) -> FloatArray:
        """Homogeneous matrix (4, 4)."""
        out = np.eye(4)
        out[:3, :3] = self.rotation
        out[:3, 3] = self.translation
        return out

    def __matmul__(self, other: RigidTransform) -> RigidTransform:
        """``a_from_c = a_from_b @ b_from_c``."""
        return RigidTransform(self.rotation @ other.rotation, self.rotation @ other.translation + self.translation)

    def inverse(self) -> RigidTransform:
        rotation = self.rotation.T
        return RigidTransform(rotation, -rotation @ self.translation)

    def apply(self, points: AnyArray) -> FloatArray:
        """Map points (N, 3) [m] from the source to the destination frame."""
        moved: FloatArray = np.asarray(points, dtype=np.float64) @ self.rotation.T
        return moved + self.translation


DISTORTION_LENGTHS = {
    'none': (0,),
    'plumb_bob': (4, 5),
    'rational_polynomial': (8,),
    'equidistant': (4,),
}
"""Distortion models (ROS names, REP-104) and the coefficient counts they take."""


@dataclass(frozen=True, eq=False)
class Camera:
    """Pinhole camera with distortion; validated by ``kd6d_ros.geometry.cameras.make_camera``.

    matrix (3, 3) [px], distortion (n,) in OpenCV order, model one of DISTORTION_LENGTHS, size in pixels.
    A rectified image has model 'none' and the left 3x3 of P.
    """

    matrix: FloatArray
    width: int
    height: int
    model: str = 'none'
    distortion: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with colours: vertices (V, 3) [m], faces (F, 3), optional colours (V, 3) uint8 sRGB,
    normals (V, 3) unit, uv (V, 2) with v up, texture (H, W, 3) uint8 sRGB (RGB order)."""

    vertices: FloatArray
    faces: IntArray
    colours: Optional[ImageArray] = None
    normals: Optional[FloatArray] = None
    uv: Optional[FloatArray] = None
    texture: Optional[ImageArray] = None


@dataclass(frozen=True, eq=False)
class ContinuousSymmetry:
    """Rotation by any angle about `axis` (3,) unit through `offset` (3,) [m] (BOP models_info.json)."""

    axis: FloatArray
    offset: FloatArray


@dataclass(frozen=True, eq=False)
class Symmetries:
    """BOP symmetries: transforms obj_from_obj that leave the object looking the same.

    `discrete` excludes the identity, as in models_info.json.
    """

    discrete: Tuple[RigidTransform, ...] = ()
    continuous: Tuple[ContinuousSymmetry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.discrete or self.continuous)


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """One known object. `keypoints` (8, 3) [m] are the bounding-box corners in the object frame."""

    name: str
    obj_id: int
    diameter: float
    keypoints: FloatArray
    symmetries: Symmetries = field(default_factory=Symmetries)
    display_name: str = ''
    mesh: Optional[Mesh] = None


@dataclass(frozen=True, eq=False)
class Detection:
    """A 2D box in the image: object name, score in [0, 1], box (4,) = x0 y0 x1 y1 [px]."""

    object_name: str
    score: float
    box: FloatArray


@dataclass(frozen=True, eq=False)
class CodeMaps:
    """What a dense network says about every cell (pixel of its map) of one region.

    class_index (h, w): the object, of those asked for, that the cell shows most likely; mask (h, w) in [0, 1]: how
    likely that is; code (16, h, w) in [0, 1]: probability of each bit of that object's surface code, first split first.
    """

    class_index: IntArray
    mask: Float32Array
    code: Float32Array


@dataclass(frozen=True, eq=False)
class LocalPredictions:
    """The M candidate cells of one region, best score first.

    class_index (M,) into the bundle's objects, score (M,) in [0, 1], level (M,) index into the bundle's
    levels, centre (M, 2) and keypoints (M, 8, 2) in network pixels. surface (C, 4, h, w) for a network with a
    surface branch: per class and cell x, y, z [diameters] relative to the centre of the box, and mask logit.
    A dense network has no candidates (M is 0) but `codes`.
    """

    class_index: IntArray
    score: Float32Array
    level: IntArray
    centre: Float32Array
    keypoints: Float32Array
    surface: Optional[Float32Array] = None
    codes: Optional[CodeMaps] = None

    @staticmethod
    def of_codes(codes: CodeMaps) -> LocalPredictions:
        """Those of a dense network."""
        whole, real = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return LocalPredictions(whole, real, whole, real.reshape(0, 2), real.reshape(0, 8, 2), codes=codes)


@dataclass(frozen=True, eq=False)
class PoseEstimate:
    """An accepted pose: what the node publishes and the evaluation scores.

    covariance (6, 6) in ROS order x y z rx ry rz [m, rad] in the camera frame, or None while a bundle
    carries no calibration; inliers = correspondences that agree, of `correspondences`;
    reprojection_error_px = RMS over the inliers in image pixels.
    """

    object_name: str
    instance_id: str
    cam_from_obj: RigidTransform
    score: float
    inliers: int
    correspondences: int
    reprojection_error_px: float
    covariance: Optional[FloatArray] = None
