"""What a teacher says about a batch, all that the terms on predictions need: asked now, or kept from before."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kd6d_ros.distillation.clouds import Clouds, teacher_clouds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.distillation.settings import DistillationSettings
    from kd6d_ros.networks.keypoint_network import KeypointOutput
    from kd6d_ros.training.dataset import Batch


class Answer(NamedTuple):
    """clouds of the instances; belief (P,) in [0, 1] and corners (P, 8, 2) [window px] of the teacher in the positive
    cells of the student, both empty where the two have different cells."""

    clouds: Clouds
    belief: Tensor
    corners: Tensor


@torch.no_grad()
def answer_of(
    output: KeypointOutput, anchors: Sequence[float], batch: Batch, settings: DistillationSettings, same_cells: bool
) -> Answer:
    """The answer in a teacher's output for the windows of `batch`; anchors: its anchor sizes [px]."""
    clouds = teacher_clouds(output, anchors, batch.instances, settings)
    if not same_cells:
        return Answer(clouds, clouds.mass.new_zeros(0), clouds.points.new_zeros(0, 8, 2))
    where = batch.positive_image, batch.positive_cell, batch.positive_class
    return Answer(clouds, torch.sigmoid(output.logits[where].float()), output.keypoints[where].float())
