"""The distillation terms as sums with counts, so that several processes can divide by what all of them saw.

Reference: Guo et al., CVPR 2023, eq. 4 and its released code (ADLP); the naive term is the paper's baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kd6d_ros.distillation.sinkhorn import SinkhornSettings, sinkhorn_divergence

if TYPE_CHECKING:
    from kd6d_ros.distillation.clouds import Clouds
    from kd6d_ros.distillation.settings import AdlpSettings
    from kd6d_ros.distillation.teacher import Answer
    from kd6d_ros.networks.keypoint_network import KeypointOutput
    from kd6d_ros.training.dataset import Batch, Instances


class Term(NamedTuple):
    """total: sum over what was compared (scalar, differentiable); amount: how much that was (scalar)."""

    total: Tensor
    amount: Tensor


def adlp(student: Clouds, teacher: Clouds, instances: Instances, settings: AdlpSettings) -> Term:
    """Sum over the instances of the divergences of their 8 corners, all levels pooled; counts the instances that both
    networks see. An instance without positive cells, or that the teacher does not see, adds nothing."""
    if student.mass.numel() == 0 or teacher.mass.numel() == 0:
        return Term(student.points.sum() * 0.0, student.mass.new_zeros(()))
    value = transport(student, teacher, to_unit(instances, settings.coordinates)[:, None, None], settings)
    both = (student.mass.sum(1) > 0) & (teacher.mass.sum(1) > 0)
    return Term(value.sum(), both.sum())


def transport(student: Clouds, teacher: Clouds, unit: Tensor | float, settings: AdlpSettings) -> Tensor:
    """Divergence of the clouds of every instance and cluster (I, K), coordinates times `unit`; gradients as `settings`
    weighs them."""
    mass = scale_gradient(student.mass, settings.mass)
    source = scale_gradient(student.points, settings.geometry) * unit
    target = teacher.points * unit
    how = SinkhornSettings(
        settings.blur, settings.reach, settings.scaling, converge=settings.converge, power=settings.power
    )
    return sinkhorn_divergence(mass, source.transpose(1, 2), teacher.mass, target.transpose(1, 2), how)


def to_unit(instances: Instances, coordinates: str) -> Tensor:
    """(I, 2): factors from window pixels to shares of the frame, or to the object's size in the window."""
    if coordinates == 'frame':
        return instances.frame_from_window[instances.image]
    return (1.0 / instances.size_px.clamp_min(1.0))[:, None].expand(-1, 2)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x`, whose gradient is `factor` times what it would be."""
    return x if factor == 1 else x.detach() + factor * (x - x.detach())


def naive(student: KeypointOutput, answer: Answer, batch: Batch, threshold: float, mass: float) -> Term:
    """Cell by cell: L1 distance of the corners over the object's size, plus `mass` times the cross-entropy of the
    scores, each weighted by the teacher's score; counts the sum of these weights."""
    where = batch.positive_image, batch.positive_cell, batch.positive_class
    usable = (answer.belief > threshold) & torch.isfinite(answer.corners).flatten(1).all(1)
    weight = torch.where(usable, answer.belief, torch.zeros_like(answer.belief))
    corners = torch.where(usable[:, None, None], answer.corners, torch.zeros_like(answer.corners))
    gap = (student.keypoints[where].float() - corners).abs().flatten(1).mean(1) / batch.size_px
    scores = F.binary_cross_entropy_with_logits(
        student.logits[where].float(), torch.nan_to_num(answer.belief), reduction='none'
    )
    return Term((weight * (gap + mass * scores)).sum(), weight.sum())


def surface(mine: Tensor, theirs: Tensor, mask: float) -> Term:
    """Surface branches (N, C, 4, h, w) cell by cell: L1 distance of the points [diameters] weighted by the teacher's
    mask probability where it is above a half, plus `mask` times the cross-entropy of the masks; counts the sum of these
    weights. What is not finite in the teacher's answer counts for nothing."""
    finite = torch.isfinite(theirs).all(2)
    theirs = torch.where(finite[:, :, None], theirs.float(), torch.zeros_like(theirs, dtype=torch.float32))
    belief = torch.sigmoid(theirs[:, :, 3])
    weight = belief * (belief > 0.5) * finite
    gap = (mine[:, :, :3].float() - theirs[:, :, :3]).abs().mean(2)
    scores = F.binary_cross_entropy_with_logits(mine[:, :, 3].float(), belief, reduction='none')
    # The masks' term is a mean over all cells, so that background counts as in the supervised loss.
    amount = weight.sum()
    total = (weight * gap).sum() + mask * (scores * finite).sum() / finite.sum().clamp_min(1) * amount
    return Term(total, amount)
