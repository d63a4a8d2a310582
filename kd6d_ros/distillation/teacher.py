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
    from kd6d_ros.networks.spec import NetworkSpec
    from kd6d_ros.training.dataset import Batch


class Answer(NamedTuple):
    """clouds of the instances; belief (P,) in [0, 1] and corners (P, 8, 2) [window px] of the teacher in the positive
    cells of the student, both empty where it lacks a level of the student's."""

    clouds: Clouds
    belief: Tensor
    corners: Tensor


def has_cells_of(teacher: NetworkSpec, strides: Sequence[int]) -> bool:
    """Whether the teacher has all levels with these strides, and with them all cells of such a student."""
    return set(strides) <= set(teacher.strides)


@torch.no_grad()
def answer_of(
    output: KeypointOutput, teacher: NetworkSpec, batch: Batch, settings: DistillationSettings, strides: Sequence[int]
) -> Answer:
    """The answer in the output of `teacher` for the windows of `batch`, whose cells are those of a student with
    `strides`."""
    clouds = teacher_clouds(output, teacher.anchor_sizes, batch.instances, settings)
    if not has_cells_of(teacher, strides):
        return Answer(clouds, clouds.mass.new_zeros(0), clouds.points.new_zeros(0, 8, 2))
    levels = [torch.nonzero(output.grid.level == teacher.strides.index(stride))[:, 0] for stride in strides]
    where = batch.positive_image, torch.cat(levels)[batch.positive_cell], batch.positive_class
    return Answer(clouds, torch.sigmoid(output.logits[where].float()), output.keypoints[where].float())
