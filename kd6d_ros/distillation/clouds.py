"""The clouds that distillation compares: per instance, weighted predictions of its 8 corners.

The student's cloud is the instance's positive training cells, not its best-scored ones, unless a recipe asks for these;
the teacher's is what decoding would hand to PnP, taken from the instance's visible mask. They differ in number, place
and level.

Reference: Guo et al., "Knowledge Distillation for 6D Pose Estimation by Aligning Distributions of Local
Predictions", CVPR 2023, sec. 3.2; thresholds and cell counts as in its released code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kd6d_ros.networks.spec import LABEL_STEP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.distillation.settings import DistillationSettings
    from kd6d_ros.networks.keypoint_network import CellGrid, KeypointOutput
    from kd6d_ros.training.dataset import Batch, Instances

LEAST_MASS = 1e-3
"""The student's masses stay between this and one minus this, as released."""


class Clouds(NamedTuple):
    """mass (I, M), 0 for padding; points (I, M, K, D) in K clusters that share it: the 8 corners [window px] of a
    keypoint network, K = 1 for codes (``code_maps``)."""

    mass: Tensor
    points: Tensor


def student_clouds(output: KeypointOutput, batch: Batch) -> Clouds:
    """Scores and corners in the positive cells of each instance; differentiable."""
    table = batch.instances.positives
    if batch.positive_cell.numel() == 0:
        nothing = output.keypoints.new_zeros(table.shape[0], 0, *output.keypoints.shape[3:])
        empty = nothing + output.keypoints.sum() * 0.0  # part of the graph, as distributed training asks for
        return Clouds(empty[..., 0, 0], empty)
    row = table.clamp_min(0)
    where = batch.positive_image[row], batch.positive_cell[row], batch.positive_class[row]
    mass = torch.sigmoid(output.logits[where].float()).clamp(LEAST_MASS, 1 - LEAST_MASS)
    return Clouds(mass * (table >= 0), output.keypoints[where].float())


@torch.no_grad()
def teacher_clouds(
    output: KeypointOutput, anchors: Sequence[float], instances: Instances, settings: DistillationSettings
) -> Clouds:
    """The best cells of the teacher for each instance, `settings.cells` of them give or take a rounding.

    anchors: anchor size [px] of each level of the teacher. Cells whose prediction is not finite are left out.
    """
    return best_clouds(output, anchors, instances, settings, settings.threshold)


def best_clouds(
    output: KeypointOutput,
    anchors: Sequence[float],
    instances: Instances,
    settings: DistillationSettings,
    threshold: float = 0.0,
) -> Clouds:
    """What decoding would hand to PnP of each instance: its best cells above `threshold`; differentiable in their
    scores and corners, not in the choice. Of the student it is the other cloud that can be compared (see
    ``AdlpSettings.student_cells``): the cells that count on the robot instead of those drawn for training."""
    image, index = instances.image, instances.class_index
    logits, points = output.logits[image, :, index].float(), output.keypoints[image, :, index].float()
    with torch.no_grad():
        cell, mass = _best_cells(torch.sigmoid(logits), points, output.grid, anchors, instances, settings, threshold)
    picked = points.gather(1, cell[..., None, None].expand(-1, -1, *points.shape[2:]))
    score = torch.sigmoid(logits.gather(1, cell))
    seen = mass > 0
    return Clouds(
        torch.where(seen, score, torch.zeros_like(score)),
        torch.where(seen[..., None, None], picked, torch.zeros_like(picked)),
    )


def _best_cells(
    score: Tensor,
    points: Tensor,
    grid: CellGrid,
    anchors: Sequence[float],
    instances: Instances,
    settings: DistillationSettings,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Cell (I, M) and mass (I, M), 0 for padding, of the chosen ones of score (I, A) and points (I, A, 8, 2)."""
    usable = (score > threshold) & torch.isfinite(points).all(-1).all(-1)
    if settings.within_mask:
        usable &= on_instance(grid, instances)
    score = torch.where(usable, score, torch.zeros_like(score))
    share = level_share(_sizes(score, points), anchors, settings.cells, settings.sharpness)
    kept = torch.cat([_best(score[:, grid.level == level], share[:, level]) for level in range(len(anchors))], 1)
    most = min(settings.cells + len(anchors) // 2, kept.shape[1])  # as far as rounding can take the sum of the shares
    mass, cell = kept.topk(most, dim=1)
    return cell, mass


def on_instance(grid: CellGrid, instances: Instances) -> Tensor:
    """(I, A) bool: whether the centre of each cell lies in the instance's visible mask."""
    last = torch.tensor(instances.at_pixel.shape[:0:-1], device=grid.centre.device) - 1
    place = torch.minimum((grid.centre / LABEL_STEP).round().long(), last)
    at_cell = instances.at_pixel[instances.image[:, None], place[:, 1], place[:, 0]]
    return at_cell == torch.arange(len(instances.image), device=at_cell.device)[:, None]


def level_share(size: Tensor, anchors: Sequence[float], total: int, sharpness: float) -> Tensor:
    """``inference.allocation.allocate_cells`` for many sizes (I,) at once: (I, L) int64."""
    anchor = torch.tensor(anchors, dtype=torch.float64, device=size.device)
    exponent = -sharpness * torch.log2(size.double().clamp_min(1e-3)[:, None] / anchor) ** 2
    weight = torch.softmax(exponent, 1)
    count = torch.round(total * weight).long()
    best = torch.nn.functional.one_hot(weight.argmax(1), len(anchors))
    return torch.where(count.sum(1, keepdim=True) > 0, count, best)


def _sizes(score: Tensor, points: Tensor) -> Tensor:
    """(I,) longer side of the corners' box of each instance's most confident cell [px]."""
    best = score.argmax(1)
    corners = points[torch.arange(len(points), device=points.device), best]
    size: Tensor = torch.nan_to_num((corners.amax(1) - corners.amin(1)).amax(1))
    return size


def _best(score: Tensor, count: Tensor) -> Tensor:
    """The scores (I, A) of one level with all but the `count` (I,) best set to zero."""
    rank = score.argsort(stable=True, dim=1, descending=True).argsort(1)
    return torch.where(rank < count[:, None], score, torch.zeros_like(score))
