"""The Lightning module of a student under a teacher: the losses of a plain one plus the distillation terms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kd6d_ros.distillation.clouds import best_clouds, student_clouds
from kd6d_ros.distillation.features import FeatureTerm
from kd6d_ros.distillation.teacher import answer_of, has_cells_of
from kd6d_ros.distillation.terms import Term, adlp, naive, surface
from kd6d_ros.errors import ConfigError
from kd6d_ros.training.checkpoint import Checkpoint, load_checkpoint
from kd6d_ros.training.module import KeypointModule, mean_over_processes

if TYPE_CHECKING:
    from kd6d_ros.distillation.clouds import Clouds
    from kd6d_ros.networks.keypoint_network import KeypointNetwork, KeypointOutput
    from kd6d_ros.training.dataset import Batch
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.types import ObjectModel


def load_teacher(recipe: Recipe, objects: tuple[ObjectModel, ...]) -> Checkpoint:
    """The teacher of a recipe.

    Raises:
        ConfigError: no such checkpoint; other objects or input sizes than the student's; a term that needs the same
            cells as the student's.
    """
    path = recipe.distillation.teacher
    teacher = load_checkpoint(Path(path))
    mine, theirs = [(o.name, o.obj_id) for o in objects], [(o.name, o.obj_id) for o in teacher.objects]
    if mine != theirs:
        names = [', '.join(name for name, _ in pair) for pair in (theirs, mine)]
        raise ConfigError(f'{path}: the teacher knows {names[0]}; the student learns {names[1]}, in this order')
    sizes = teacher.recipe.input.crop_size, recipe.input.crop_size
    if sizes[0] != sizes[1]:
        raise ConfigError(f'{path}: the teacher sees crops of {sizes[0]} px; set input.crop_size={sizes[0]}')
    strides = teacher.recipe.network.strides, recipe.network.strides
    settings = recipe.distillation
    for name, weight in (('naive', settings.naive.weight), ('feature', settings.feature.weight)):
        if weight > 0 and not has_cells_of(teacher.recipe.network, strides[1]):
            raise ConfigError(
                f'{path}: the {name} term compares cell by cell, but the teacher has strides {list(strides[0])}, '
                f'the student {list(strides[1])}; use distillation.adlp, or network.strides={list(strides[0])}'
            )
    if settings.surface.weight > 0 and not (teacher.recipe.network.surface and recipe.network.surface):
        raise ConfigError(f'{path}: the surface term needs network.surface in the teacher and in the student')
    return teacher


class DistillationModule(KeypointModule):
    """Trains ``self.network`` as ``KeypointModule`` does and with the terms of ``recipe.distillation``.

    The teacher looks at the same augmented windows. It is no submodule: neither the optimiser nor the checkpoint nor
    the exchange of gradients knows of it.
    """

    def __init__(self, recipe: Recipe, checkpoint: Checkpoint) -> None:
        super().__init__(recipe)
        teacher = checkpoint.network.eval().requires_grad_(False)
        self._teacher, self._facts = (teacher,), checkpoint.facts
        settings = recipe.distillation
        self.feature = (
            FeatureTerm(recipe.network.channels, teacher.spec.channels, len(recipe.network.strides))
            if settings.feature.weight else None
        )  # fmt: skip

    @property
    def teacher(self) -> KeypointNetwork:
        return self._teacher[0]

    def facts(self) -> dict[str, Any]:
        known = {key: self._facts[key] for key in ('commit', 'parameters', 'images_seen') if key in self._facts}
        recall = (self._facts.get('validation') or {}).get('recall')
        return {'teacher': {'backbone': self.teacher.spec.backbone, **known, 'recall': recall}}

    def helpers(self) -> list[nn.Parameter]:
        return [] if self.feature is None else list(self.feature.parameters())

    def on_fit_start(self) -> None:
        self.teacher.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def objective(self, output: KeypointOutput, batch: Batch) -> Tensor:
        loss = super().objective(output, batch)
        terms = self.terms(output, batch)
        shared = mean_over_processes(torch.stack([term.amount.float() for _, term in terms.values()]))
        for amount, (name, (weight, term)) in zip(shared, terms.items(), strict=True):
            value = term.total / amount.clamp_min(1e-6)
            self.log(f'train/{name}', value.detach())
            loss = loss + weight * value
        return loss

    @torch.no_grad()
    def ask_teacher(self, batch: Batch) -> KeypointOutput:
        answer: KeypointOutput = self.teacher(batch.image.contiguous(memory_format=torch.channels_last))
        return answer

    def own_clouds(self, mine: KeypointOutput, batch: Batch) -> Clouds:
        """The student's clouds of the kind that the recipe asks for."""
        settings = self.recipe.distillation
        if settings.adlp.student_cells == 'best':
            return best_clouds(mine, self.recipe.network.anchor_sizes, batch.instances, settings)
        return student_clouds(mine, batch)

    def terms(self, mine: KeypointOutput, batch: Batch) -> dict[str, tuple[float, Term]]:
        """Weight and term by name, of those that are in use; the teacher is asked only for what it has not said."""
        settings, found = self.recipe.distillation, {}
        live = batch.taught is None or self.feature is not None or settings.surface.weight > 0
        theirs = self.ask_teacher(batch) if live else None
        answer = batch.taught
        if answer is None and theirs is not None:
            answer = answer_of(theirs, self.teacher.spec, batch, settings, self.recipe.network.strides)
        if settings.adlp.weight and answer is not None:
            term = adlp(self.own_clouds(mine, batch), answer.clouds, batch.instances, settings.adlp)
            found['adlp'] = settings.adlp.weight, term
        if settings.naive.weight and answer is not None:
            term = naive(mine, answer, batch, settings.threshold, settings.naive.mass)
            found['naive'] = settings.naive.weight, term
        if self.feature is not None and theirs is not None:
            theirs_at = dict(zip(self.teacher.spec.strides, theirs.maps, strict=True))
            same_levels = [theirs_at[stride] for stride in self.recipe.network.strides]
            found['feature'] = settings.feature.weight, self.feature(mine.maps, same_levels, settings.feature)
        if settings.surface.weight and theirs is not None:
            assert mine.surface is not None
            assert theirs.surface is not None, 'checked with the teacher'
            found['surface'] = settings.surface.weight, surface(mine.surface, theirs.surface, settings.surface.mask)
        return found
