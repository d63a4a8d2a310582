"""Losses of the keypoint network: focal score term and corner terms in space and in the window.

The score and corner terms are sums over cells divided by the number of positive cells of the batch (at least one),
so the ratio between them is that of the released code, which sums both, and batches without any object give
zero corner loss and zero gradient. Several processes divide by the mean of their numbers: the mean of their
gradients, which is what they exchange, is then that of one process with all their batches.

Reference: Lin et al., "Focal Loss", ICCV 2017; Hu et al., CVPR 2021, eq. 4 (error along the viewing ray
is left out by projecting the true corner onto the predicted ray).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kd6d_ros.networks.keypoint_network import KeypointOutput
from kd6d_ros.training.dataset import Batch
from kd6d_ros.training.recipe import LossRecipe
from kd6d_ros.training.surface_targets import UNKNOWN


class Losses(NamedTuple):
    """Weighted sum and its parts (scalars); surface: mask and point terms of the surface branch;
    corner_error: mean corner error over the object's size."""

    total: Tensor
    score: Tensor
    keypoints_3d: Tensor
    keypoints_2d: Tensor
    surface: Tensor
    corner_error: Tensor


def focal_loss(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """Sum over all entries whose target is 0 or 1; -1 is ignored. logits and target have one shape."""
    used = target >= 0
    logits, truth = logits[used].float(), target[used].float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction='none')
    probability = torch.sigmoid(logits)
    agreement = probability * truth + (1 - probability) * (1 - truth)
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return (weight * (1 - agreement) ** gamma * cross_entropy).sum()


def ray_distance(pixels: Tensor, corners: Tensor, intrinsics: Tensor) -> Tensor:
    """Vector (P, 8, 3) [m] from the true corners to their projections onto the rays through `pixels`.

    pixels (P, 8, 2), corners (P, 8, 3) in the camera frame [m], intrinsics (P, 4) fx fy cx cy.
    """
    focal, centre = intrinsics[:, None, :2], intrinsics[:, None, 2:]
    ray = F.pad((pixels - centre) / focal, (0, 1), value=1.0)
    ray = ray / ray.norm(dim=-1, keepdim=True)
    along = (corners * ray).sum(-1, keepdim=True)
    distance: Tensor = along * ray - corners
    return distance


def surface_loss(output: KeypointOutput, batch: Batch, beta: float) -> Tensor:
    """Binary cross-entropy of the masks, summed over classes and averaged over cells, plus twice the SmoothL1
    error of the points [diameters] averaged over cells with a class; zero for a network without the branch."""
    if output.surface is None:
        return output.logits.sum() * 0.0
    predicted = output.surface.flatten(3)  # (N, C, 4, G)
    classes = batch.surface_class.long()
    truth = (classes[:, None] == torch.arange(predicted.shape[1], device=classes.device)[:, None]).float()
    mask = F.binary_cross_entropy_with_logits(predicted[:, :, 3], truth, reduction='none').sum(1)
    total = (mask * (classes != UNKNOWN)).mean()
    image, cell = torch.nonzero(classes >= 0, as_tuple=True)
    if image.numel():
        points = predicted[image, classes[image, cell], :3, cell]
        total = total + 2.0 * F.smooth_l1_loss(points, batch.surface_point[image, cell], beta=beta)
    return total


def keypoint_losses(output: KeypointOutput, batch: Batch, recipe: LossRecipe, positives: Tensor) -> Losses:
    """All terms for one batch; positives: what to divide by (scalar), see the module's text."""
    positives = positives.clamp_min(1.0)
    score = focal_loss(output.logits, batch.score, recipe.focal_alpha, recipe.focal_gamma)
    score = score / positives
    surface = surface_loss(output, batch, recipe.beta)
    if batch.positive_cell.numel() == 0:
        none = output.keypoints.sum() * 0.0
        return Losses(recipe.score * score + none + recipe.surface * surface, score, none, none, surface.detach(), none)
    predicted = output.keypoints[batch.positive_image, batch.positive_cell, batch.positive_class]
    distance = ray_distance(predicted, batch.corners_m, batch.intrinsics)
    relative = distance / batch.diameter[:, None, None]
    spatial = _per_positive(relative, recipe.beta) / positives
    flat = (predicted - batch.corners_px) / batch.size_px[:, None, None]
    planar = _per_positive(flat, recipe.beta) / positives
    total = recipe.score * score + recipe.keypoints_3d * spatial + recipe.keypoints_2d * planar
    total = total + recipe.surface * surface
    error = flat.detach().norm(dim=-1).mean()
    return Losses(total, score.detach(), spatial.detach(), planar.detach(), surface.detach(), error)


def _per_positive(error: Tensor, beta: float) -> Tensor:
    """SmoothL1 of (P, 8, D), averaged over corners and coordinates, summed over the cells."""
    each = F.smooth_l1_loss(error, torch.zeros_like(error), beta=beta, reduction='none')
    total: Tensor = each.flatten(1).mean(1).sum()
    return total
