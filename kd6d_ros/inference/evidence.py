"""What a candidate's local predictions say about its pose beside the pose itself: how sharply, and how well they agree.

The 8 corners of a cell are right or wrong together, and so are the cells of one corner: K x 8 residuals are not K x 8
measurements. So the residuals only enter as a few summary figures, and what they mean in metres and radians is learnt
on renders (``covariance.py``). The Hessian says in which directions the geometry is weak, the scatter of the residuals'
pulls how far they disagree in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Sequence, Tuple, Union

import numpy as np

from kd6d_ros.geometry.cameras import undistort_points
from kd6d_ros.inference.pnp import corner_jacobian
from kd6d_ros.inference.pnp_surface import CORNER_WEIGHT, LEAST_POINTS
from kd6d_ros.inference.robust import geman_mcclure

if TYPE_CHECKING:
    from kd6d_ros.inference.outline_view import MaskMap
    from kd6d_ros.inference.surface import SurfaceCloud
    from kd6d_ros.types import AnyArray, Camera, FloatArray, RigidTransform

FEATURES = (
    'corner_spread', 'corner_bias', 'surface_residual', 'inlier_ratio', 'cell_score', 'seen_area', 'visible_share',
)  # fmt: skip
"""Names of ``Evidence.features``, all logarithms: spread of the cells' corners about their mean, distance of that mean
from the pose's corners and residual of the surface points, each over the object's size in the image; share of inliers;
mean score of the cells; area of the surface cells over the object's size squared; share of the object's box inside the
image. A network without a surface branch has the corners' residual and the number of cells in their place. A dense
network has how unsure the first bits of the codes are and the median residual in place of the corners' figures, and all
cells of its mask count as surface cells."""

LEAST = 1e-3
"""Logarithms are taken of no less than this."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a pose was solved from. points (8, 3) [m]; pixels (K, 8, 2) [image px]; scores (K,); threshold [px];
    cell_area: of one surface cell [image px^2]; mask: where the network sees the object, if it says so."""

    points: AnyArray
    pixels: AnyArray
    scores: AnyArray
    surface: Optional[SurfaceCloud]
    threshold: float
    cell_area: float
    mask: Optional[MaskMap] = None


@dataclass(frozen=True, eq=False)
class CodePredictions:
    """The same of a dense network: the surface points, the score of their cells, threshold [px], cell_area [image
    px^2] of one of them, and the mask."""

    surface: SurfaceCloud
    score: float
    threshold: float
    cell_area: float
    mask: Optional[MaskMap] = None


AnyPredictions = Union[Predictions, CodePredictions]


@dataclass(frozen=True, eq=False)
class Evidence:
    """features (7,), see FEATURES; hessian (6, 6) of half the squared reprojection residuals [px^2], robust weights
    included, by translation [m] and a left rotation vector [rad] in the camera frame; scatter (6, 6): sum of the outer
    products of the gradients of these residuals, those of all cells for one corner taken together."""

    features: FloatArray
    hessian: FloatArray
    scatter: FloatArray


def gather(
    predictions: Predictions, pose: RigidTransform, camera: Camera, size: float, inlier_ratio: float, visible: float
) -> Evidence:
    """size: longer side of the object's projected 3D box [image px]; visible: share of that box inside the image."""
    focal = np.array([camera.matrix[0, 0], camera.matrix[1, 1]])
    scores = np.asarray(predictions.scores, np.float64)
    residual = _residuals(predictions.pixels, predictions.points, pose, camera, focal)  # (K, 8, 2)
    share = scores / max(float(scores.sum()), 1e-9)
    mean = np.einsum('k,kcd->cd', share, residual)
    spread = np.sqrt(np.einsum('k,kcd->', share, (residual - mean) ** 2) / len(mean))
    bias = np.sqrt((mean**2).sum() / len(mean))
    weight, _ = geman_mcclure(residual, CORNER_WEIGHT * scores[:, None], predictions.threshold)
    jacobian = corner_jacobian(np.asarray(predictions.points, np.float64), pose.rotation, pose.translation, focal)
    hessian = np.einsum('kc,cdi,cdj->ij', weight, jacobian, jacobian)
    pull = np.einsum('kc,kcd,cdi->ci', weight, residual, jacobian)
    scatter = pull.T @ pull
    rms, area = float(np.hypot(spread, bias)), len(scores) / 100.0
    found = _surface(predictions, pose, camera, focal)
    if found is not None:
        more, pull, rms, area = found
        hessian, scatter, area = hessian + more, scatter + pull.T @ pull, area / size**2
    values = [spread / size, bias / size, rms / size, inlier_ratio, scores.mean(), area, visible]
    return _evidence(values, hessian, scatter)


def gather_codes(
    predictions: CodePredictions,
    pose: RigidTransform,
    camera: Camera,
    size: float,
    inlier_ratio: float,
    visible: float,
) -> Evidence:
    """As ``gather``, for a dense network."""
    focal = np.array([camera.matrix[0, 0], camera.matrix[1, 1]])
    surface, score = predictions.surface, max(predictions.score, 1e-9)
    residual = _residuals(surface.pixels, surface.points, pose, camera, focal)
    median = float(np.median(np.linalg.norm(residual, axis=1)))
    unsure = 1.0 - float(surface.weights.mean()) / score
    nothing = np.zeros((6, 6)), np.zeros((0, 6)), median, 0.0
    hessian, pull, rms, area = _surface(predictions, pose, camera, focal) or nothing
    values = [unsure, median / size, rms / size, inlier_ratio, score, area / size**2, visible]
    return _evidence(values, hessian, pull.T @ pull)


def disagreement(predictions: AnyPredictions, pose: RigidTransform, camera: Camera) -> float:
    """How far the predictions are from a pose: their Geman-McClure cost, 0 to 1 (all of them far outliers)."""
    focal = np.array([camera.matrix[0, 0], camera.matrix[1, 1]])
    cost, most, surface = 0.0, 0.0, predictions.surface
    groups = [] if surface is None else [(surface.pixels, surface.points, surface.weights)]
    if isinstance(predictions, Predictions):
        groups.append((predictions.pixels, predictions.points, CORNER_WEIGHT * np.asarray(predictions.scores)[:, None]))
    for pixels, points, weight in groups:
        residual = _residuals(pixels, points, pose, camera, focal)
        every = np.broadcast_to(weight, residual.shape[:-1])
        cost += geman_mcclure(residual, every, predictions.threshold)[1]
        most += float(every.sum()) * predictions.threshold**2
    return cost / max(most, 1e-9)


def _evidence(values: Sequence[float], hessian: FloatArray, scatter: FloatArray) -> Evidence:
    """values (7,) of FEATURES, no logarithms yet; hessian, scatter (6, 6) of the solver, with the rotation first."""
    features: FloatArray = np.log(np.maximum(values, LEAST))
    order = [3, 4, 5, 0, 1, 2]
    return Evidence(features, hessian[np.ix_(order, order)], scatter[np.ix_(order, order)])


def _residuals(
    pixels: AnyArray, points: AnyArray, pose: RigidTransform, camera: Camera, focal: FloatArray
) -> FloatArray:
    """Undistorted pixels minus projections [px], of the shape of `pixels`; zero where there is none."""
    rays = undistort_points(camera, np.asarray(pixels, np.float64).reshape(-1, 2)).reshape(np.shape(pixels))
    moved = pose.apply(np.asarray(points, np.float64))
    out: FloatArray = (rays - moved[:, :2] / np.maximum(moved[:, 2:], 1e-6)) * focal
    return np.where(np.isfinite(out), out, 0.0)


def _surface(
    predictions: AnyPredictions, pose: RigidTransform, camera: Camera, focal: FloatArray
) -> Optional[Tuple[FloatArray, FloatArray, float, float]]:
    """Hessian (6, 6), gradients (N, 6), weighted RMS residual [px] and area [px^2] of the surface points; None with too
    few of them."""
    surface = predictions.surface
    if surface is None or len(surface.points) < LEAST_POINTS:
        return None
    usable = (pose.apply(surface.points)[:, 2] > 1e-6) & np.isfinite(surface.pixels).all(1)
    points, pixels, weight = surface.points[usable], surface.pixels[usable], surface.weights[usable]
    if len(points) < LEAST_POINTS:
        return None
    residual = _residuals(pixels, points, pose, camera, focal)
    weight, _ = geman_mcclure(residual, weight, predictions.threshold)
    jacobian = corner_jacobian(points, pose.rotation, pose.translation, focal)
    hessian = np.einsum('n,ndi,ndj->ij', weight, jacobian, jacobian)
    pull = np.einsum('n,nd,ndi->ni', weight, residual, jacobian)
    rms = float(np.sqrt((weight * (residual**2).sum(1)).sum() / max(float(weight.sum()), 1e-9)))
    return hessian, pull, rms, len(points) * predictions.cell_area
