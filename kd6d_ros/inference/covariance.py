"""How uncertain a pose is, as 6x6 covariance: the geometry of its correspondences, scaled by what they say.

The inverse Hessian B of the reprojection error says in which directions a pose is weak and how its errors go together,
but not how large they are: the network's errors are biases shared by all cells, not noise of each. So the standard
deviations across the viewing ray, along it and of the rotation are predicted apart, log-linear in what the cells show
(``evidence.FEATURES``) and in B's own, with coefficients that `kd6d calibrate` fits on renders by maximum likelihood:

    C = D B' D,   D = diag(s_across, s_across, s_along, s_turn, s_turn, s_turn) / (geometric mean of B's own per group)
    log s_g = offset_g + object_g + weights_g . (features - mean) / scale + views_g . direction

B' is B with the correlations between position and rotation times `coupling`, for they are weaker than B's. Among the
features are the sizes of the sandwich B M B, M the scatter of the residuals' gradients: the covariance that would be
right were all residuals independent (White, "A Heteroskedasticity-Consistent Covariance Matrix Estimator", 1980).
The direction is that from the object to the camera in the object's axes: a network is less sure of some sides than of
others. Objects with symmetries have no such term, for their sides cannot be told apart.

Errors are estimate minus truth, to the nearest symmetric pose: translation [m] in the camera's axes and the rotation
vector [rad] of R_est R_true^T in the same axes (the order x y z rx ry rz of geometry_msgs/PoseWithCovariance).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

import numpy as np

from kd6d_ros.errors import BundleError
from kd6d_ros.inference.evidence import FEATURES

if TYPE_CHECKING:
    from kd6d_ros.inference.evidence import Evidence
    from kd6d_ros.types import AnyArray, FloatArray, RigidTransform

GROUPS = ('across', 'along', 'turn')
GROUP_OF_AXIS = np.array([0, 0, 1, 2, 2, 2])
"""Axes of the ray frame: two across the viewing ray, one along it, three of the rotation."""

COLUMNS = (*FEATURES, *(f'geometry_{name}' for name in GROUPS), *(f'scatter_{name}' for name in GROUPS))
KIND = 'log_linear_by_view'
PRECISIONS = 'precisions'
"""Key of a bundle's covariance: records of precisions whose errors differ from those that the rest was fitted to."""
LIKE = {'int8': 'int8-cpu', 'int8-cpu': 'int8'}
"""Precisions that round alike: what was fitted to one holds for the other, better than what was fitted to FP32."""
RIDGE = 1e-6
FARTHEST = 4.0
LEAST_VARIANCE = 1e-24
"""Logarithms are taken of no less: predictions that agree to the last bit have no scatter."""
LARGEST = 10.0
"""No standard deviation is said to be beyond this many metres or radians."""


@dataclass(frozen=True, eq=False)
class CovarianceModel:
    """mean, scale (13,) of COLUMNS; offset (3,), weights (3, 13) by GROUPS; objects: name to offsets (3,); coupling: of
    position and rotation, 0 to 1; views: name to weights (3, 3) by GROUPS of the viewing direction."""

    mean: FloatArray
    scale: FloatArray
    offset: FloatArray
    weights: FloatArray
    objects: Mapping[str, FloatArray]
    coupling: float
    views: Mapping[str, FloatArray] = field(default_factory=dict)

    def predict(self, evidence: Evidence, pose: RigidTransform, name: str) -> Optional[FloatArray]:
        """(6, 6) in the camera's axes; None where the geometry gives none (a singular or infinite Hessian).

        pose: of the object with that name in the camera frame [m].
        """
        geometry = ray_geometry(evidence.hessian, pose.translation)
        if geometry is None:
            return None
        spread, turn = geometry
        row = standardised(columns(evidence, spread, turn), self.mean, self.scale)
        size = self.offset + self.objects.get(name, np.zeros(3)) + self.weights @ row
        size = size + self.views.get(name, np.zeros((3, 3))) @ viewing_direction(pose)
        in_ray = scaled(loosened(spread, self.coupling), np.minimum(np.exp(np.minimum(size, 700.0)), LARGEST))
        out: FloatArray = turn.T @ in_ray @ turn
        out = (out + out.T) / 2
        return out if np.isfinite(out).all() else None

    def record(self) -> Dict[str, Any]:
        """Plain values for the bundle's manifest."""
        return {
            'kind': KIND,
            'columns': list(COLUMNS),
            'mean': np.round(self.mean, 6).tolist(),
            'scale': np.round(self.scale, 6).tolist(),
            'offset': np.round(self.offset, 6).tolist(),
            'weights': np.round(self.weights, 6).tolist(),
            'objects': {name: np.round(values, 6).tolist() for name, values in self.objects.items()},
            'coupling': round(float(self.coupling), 6),
            'views': {name: np.round(values, 6).tolist() for name, values in self.views.items()},
        }


def read_model(record: Mapping[str, Any], where: str = '') -> CovarianceModel:
    """The model in a manifest's `covariance`; `where` goes before what is said about mistakes.

    Raises:
        BundleError: of another kind, for other columns, or not the numbers that it must hold.
    """
    where = f'{where}: ' if where else ''
    if record.get('kind') != KIND or list(record.get('columns', [])) != list(COLUMNS):
        raise BundleError(
            f'{where}the covariance is of a kind that this kd6d_ros does not know: update kd6d_ros, or calibrate '
            'again with `kd6d calibrate`'
        )
    shapes = {'mean': (len(COLUMNS),), 'scale': (len(COLUMNS),), 'offset': (3,), 'weights': (3, len(COLUMNS))}
    values = {key: _numbers(record.get(key), shape, f'{where}covariance.{key}') for key, shape in shapes.items()}
    if not (values['scale'] > 0).all():
        raise BundleError(f'{where}covariance.scale must be positive')
    own = _by_object(record, 'objects', (3,), where)
    views = _by_object(record, 'views', (3, 3), where)
    coupling = float(_numbers(record.get('coupling'), (), f'{where}covariance.coupling'))
    if not 0 <= coupling <= 1:
        raise BundleError(f'{where}covariance.coupling must be 0 to 1')
    return CovarianceModel(**values, objects=own, coupling=coupling, views=views)


def record_of(covariance: Mapping[str, Any], precision: str) -> Mapping[str, Any]:
    """The record in a bundle's `covariance` that counts for poses of `precision`."""
    own: Mapping[str, Mapping[str, Any]] = covariance.get(PRECISIONS) or {}
    return own.get(precision) or own.get(LIKE.get(precision, ''), covariance)


def with_record(covariance: Optional[Mapping[str, Any]], precision: str, record: Mapping[str, Any]) -> Dict[str, Any]:
    """A bundle's `covariance` with a new record for `precision`. That of FP32, and the first one there is, count for
    all precisions without one of their own."""
    own = dict((covariance or {}).get(PRECISIONS) or {})
    if covariance is None or precision == 'fp32':
        return {**record, PRECISIONS: own} if own else dict(record)
    return {**covariance, PRECISIONS: {**own, precision: dict(record)}}


def _by_object(record: Mapping[str, Any], key: str, shape: Tuple[int, ...], where: str) -> Dict[str, FloatArray]:
    content = record.get(key) or {}
    if not isinstance(content, dict):
        raise BundleError(f'{where}covariance.{key} must map names of objects to numbers')
    return {str(name): _numbers(v, shape, f'{where}covariance.{key}.{name}') for name, v in content.items()}


def _numbers(value: Any, shape: Tuple[int, ...], where: str) -> FloatArray:
    try:
        array: FloatArray = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != shape or not np.isfinite(array).all() or (np.abs(array) > 1e6).any():
        size = ' x '.join(str(side) for side in shape)
        raise BundleError(f'{where}: expected {f"{size} finite numbers" if size else "a finite number"}')
    return array


def ray_geometry(hessian: FloatArray, translation: AnyArray) -> Optional[Tuple[FloatArray, FloatArray]]:
    """Inverse Hessian (6, 6) with the translation in the ray frame (two axes across, the third along the viewing ray),
    and the matrix (6, 6) that turns camera axes into it; None for a Hessian without inverse."""
    turn = np.eye(6)
    turn[:3, :3] = ray_axes(translation)
    own = np.diag(hessian)
    if not np.isfinite(hessian).all() or not (own > 0).all():
        return None
    try:
        inverse = np.linalg.inv(hessian + RIDGE * np.diag(own))
    except np.linalg.LinAlgError:
        return None
    spread: FloatArray = turn @ inverse @ turn.T
    spread = (spread + spread.T) / 2
    if not np.isfinite(spread).all() or not (np.linalg.eigvalsh(spread)[0] > 0):
        return None
    return spread, turn


def ray_axes(translation: AnyArray) -> FloatArray:
    """Rows: two unit vectors across the ray to `translation` (3,) and the one along it."""
    distance = float(np.linalg.norm(translation))
    along = np.asarray(translation, np.float64) / distance if distance > 1e-9 else np.array([0.0, 0.0, 1.0])
    across = np.cross([0.0, 1.0, 0.0], along)
    if np.linalg.norm(across) < 1e-6:
        across = np.array([1.0, 0.0, 0.0])
    across = across / np.linalg.norm(across)
    return np.stack([across, np.cross(along, across), along])


def viewing_direction(pose: RigidTransform) -> FloatArray:
    """Unit vector (3,) from the object to the camera, in the object's axes."""
    towards: FloatArray = -(np.asarray(pose.translation, np.float64) @ pose.rotation)
    return towards / max(float(np.linalg.norm(towards)), 1e-9)


def columns(evidence: Evidence, spread: FloatArray, turn: FloatArray) -> FloatArray:
    """(13,) values of COLUMNS; spread and turn as from ``ray_geometry``."""
    sandwich = spread @ (turn @ evidence.scatter @ turn.T) @ spread
    out: FloatArray = np.concatenate([evidence.features, group_means(spread), group_means(sandwich)])
    return out


def loosened(spread: FloatArray, coupling: float) -> FloatArray:
    """`spread` (..., 6, 6) with the correlations between position and rotation times `coupling`."""
    out = np.array(spread)
    out[..., :3, 3:] *= coupling
    out[..., 3:, :3] *= coupling
    return out


def standardised(raw: FloatArray, mean: FloatArray, scale: FloatArray) -> FloatArray:
    """Columns (..., 13) in units of their spread, cut at FARTHEST: a law is not trusted where nobody looked."""
    return np.clip((raw - mean) / scale, -FARTHEST, FARTHEST)


def group_means(spread: FloatArray) -> FloatArray:
    """(3,) mean logarithm of the standard deviations in each group of axes."""
    own = 0.5 * np.log(np.maximum(np.diag(spread), LEAST_VARIANCE))
    return np.array([own[group == GROUP_OF_AXIS].mean() for group in range(3)])


def scaled(spread: FloatArray, size: FloatArray) -> FloatArray:
    """`spread` with its groups stretched so that their geometric mean standard deviations are `size` (3,)."""
    stretch = (size / np.exp(group_means(spread)))[GROUP_OF_AXIS]
    out: FloatArray = spread * np.outer(stretch, stretch)
    return out


def after_symmetry(covariance: FloatArray, moved: AnyArray) -> FloatArray:
    """The covariance of the equivalent pose whose translation is `moved` (3,) [m, camera axes] away from the first
    one's: a point of the object away from its origin moves when the object turns."""
    x, y, z = (float(v) for v in moved)
    change = np.eye(6)
    change[:3, 3:] = -np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    out: FloatArray = change @ covariance @ change.T
    return out
