"""Losses of the keypoint network: focal score term and corner terms in space and in the window.

All terms are sums over cells divided by the number of positive cells of the batch (at least one), so the
ratio between them is that of the released code, which sums both, and batches without any object give
zero corner loss and zero gradient.

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


class Losses(NamedTuple):
    """Weighted sum and its parts (scalars); corner_error: mean corner error over the object's size."""

    total: Tensor
    score: Tensor
    keypoints_3d: Tensor
    keypoints_2d: Tensor
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


def keypoint_losses(output: KeypointOutput, batch: Batch, recipe: LossRecipe) -> Losses:
    """All terms for one batch; see the module's text for the reduction."""
    positives = batch.positive_cell.numel()
    score = focal_loss(output.logits, batch.score, recipe.focal_alpha, recipe.focal_gamma)
    score = score / max(positives, 1)
    if positives == 0:
        none = output.keypoints.sum() * 0.0
        return Losses(recipe.score * score + none, score, none, none, none)
    predicted = output.keypoints[batch.positive_image, batch.positive_cell, batch.positive_class]
    distance = ray_distance(predicted, batch.corners_m, batch.intrinsics)
    relative = distance / batch.diameter[:, None, None]
    spatial = F.smooth_l1_loss(relative, torch.zeros_like(relative), beta=recipe.beta)
    flat = (predicted - batch.corners_px) / batch.size_px[:, None, None]
    planar = F.smooth_l1_loss(flat, torch.zeros_like(flat), beta=recipe.beta)
    total = recipe.score * score + recipe.keypoints_3d * spatial + recipe.keypoints_2d * planar
    error = flat.detach().norm(dim=-1).mean()
    return Losses(total, score.detach(), spatial.detach(), planar.detach(), error)
