"""The Lightning modules of a student under a teacher: the losses of a plain one plus the distillation terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kd6d_ros.distillation.clouds import best_clouds, student_clouds
from kd6d_ros.distillation.code_maps import CodeMaps, cells_of, placed, pooled_maps, thinned_cells
from kd6d_ros.distillation.code_terms import code_adlp, code_naive
from kd6d_ros.distillation.features import FeatureTerm
from kd6d_ros.distillation.teacher import Answer, answer_of
from kd6d_ros.distillation.terms import Term, adlp, naive, surface
from kd6d_ros.training.dense_module import DenseModule
from kd6d_ros.training.module import KeypointModule, PoseModule, mean_over_processes
from kd6d_ros.training.taught_codes import CodeQuestion
from kd6d_ros.training.taught_corners import CornerQuestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.distillation.clouds import Clouds
    from kd6d_ros.networks.dense_network import DenseOutput
    from kd6d_ros.networks.keypoint_network import KeypointOutput
    from kd6d_ros.training.checkpoint import AnyCheckpoint, Checkpoint, DenseCheckpoint
    from kd6d_ros.training.dataset import Batch
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.training.taught import Question

WeightedTerms = dict[str, tuple[float, Term]]
"""Weight and term by name."""


class UnderTeacher(PoseModule):
    """Trains ``self.network`` as the plain module of its kind does, which a subclass names after this one, and with the
    terms of ``recipe.distillation``.

    The teacher looks at the same augmented windows. It is no submodule: neither the optimiser nor the checkpoint nor
    the exchange of gradients knows of it.
    """

    feature: FeatureTerm | None

    def take_teacher(self, checkpoint: AnyCheckpoint, strides: Sequence[int]) -> None:
        """strides: of the maps that the feature term compares."""
        teacher = checkpoint.network.eval().requires_grad_(False)
        self._teacher, self._facts = (teacher,), checkpoint.facts
        self.feature = (
            FeatureTerm(self.recipe.network.channels, teacher.spec.channels, len(strides))
            if self.recipe.distillation.feature.weight else None
        )  # fmt: skip
        self.shared_strides = tuple(strides)

    @property
    def teacher(self) -> Any:
        return self._teacher[0]

    def facts(self) -> dict[str, Any]:
        known = {key: self._facts[key] for key in ('commit', 'parameters', 'images_seen') if key in self._facts}
        recall = (self._facts.get('validation') or {}).get('recall')
        return {'teacher': {'backbone': self.teacher.spec.backbone, **known, 'recall': recall}}

    def helpers(self) -> list[nn.Parameter]:
        return [] if self.feature is None else list(self.feature.parameters())

    def on_fit_start(self) -> None:
        self.teacher.to(self.device, memory_format=torch.channels_last)

    def objective(self, output: Any, batch: Batch) -> Tensor:
        loss = super().objective(output, batch)
        terms = self.terms(output, batch)
        shared = mean_over_processes(torch.stack([term.amount.float() for _, term in terms.values()]))
        for amount, (name, (weight, term)) in zip(shared, terms.items(), strict=True):
            value = term.total / amount.clamp_min(1e-6)
            self.log(f'train/{name}', value.detach())
            loss = loss + weight * value
        return loss

    @torch.no_grad()
    def ask_teacher(self, batch: Batch) -> Any:
        return self.teacher(batch.image.contiguous(memory_format=torch.channels_last))

    def feature_term(self, mine: Sequence[Tensor], theirs: Sequence[Tensor], strides: Sequence[int]) -> WeightedTerms:
        """Of maps of the student and the teacher, the latter's with `strides`; nothing where it is not in use."""
        if self.feature is None:
            return {}
        theirs_at = dict(zip(strides, theirs, strict=True))
        same = [theirs_at[stride] for stride in self.shared_strides]
        settings = self.recipe.distillation.feature
        return {'feature': (settings.weight, self.feature(mine, same, settings))}

    def terms(self, mine: Any, batch: Batch) -> WeightedTerms:
        """Those that are in use; the teacher is asked only for what it has not said."""
        raise NotImplementedError(f'{type(self).__name__} has no terms')

    def question(self) -> Question:
        """What the teacher can be asked about a whole pool beforehand."""
        raise NotImplementedError(f'{type(self).__name__} has no question')


class DistillationModule(UnderTeacher, KeypointModule):
    """A ``KeypointNetwork`` under one."""

    def __init__(self, recipe: Recipe, checkpoint: Checkpoint) -> None:
        super().__init__(recipe)
        self.take_teacher(checkpoint, recipe.network.strides)

    def question(self) -> CornerQuestion:
        recipe = self.recipe
        return CornerQuestion(self.teacher, recipe.distillation, recipe.network.strides, recipe.input.crop_size / 2)

    def own_clouds(self, mine: KeypointOutput, batch: Batch) -> Clouds:
        """The student's clouds of the kind that the recipe asks for."""
        settings = self.recipe.distillation
        if settings.adlp.student_cells == 'best':
            return best_clouds(mine, self.recipe.network.anchor_sizes, batch.instances, settings)
        return student_clouds(mine, batch)

    def terms(self, mine: KeypointOutput, batch: Batch) -> WeightedTerms:
        settings, found = self.recipe.distillation, {}
        live = batch.taught is None or self.feature is not None or settings.surface.weight > 0
        theirs: KeypointOutput | None = self.ask_teacher(batch) if live else None
        answer = batch.taught
        if answer is None and theirs is not None:
            answer = answer_of(theirs, self.teacher.spec, batch, settings, self.recipe.network.strides)
        assert isinstance(answer, Answer)
        if settings.adlp.weight:
            term = adlp(self.own_clouds(mine, batch), answer.clouds, batch.instances, settings.adlp)
            found['adlp'] = settings.adlp.weight, term
        if settings.naive.weight:
            term = naive(mine, answer, batch, settings.threshold, settings.naive.mass)
            found['naive'] = settings.naive.weight, term
        if theirs is None:
            return found
        found |= self.feature_term(mine.maps, theirs.maps, self.teacher.spec.strides)
        if settings.surface.weight:
            assert mine.surface is not None
            assert theirs.surface is not None, 'checked with the teacher'
            found['surface'] = settings.surface.weight, surface(mine.surface, theirs.surface, settings.surface.mask)
        return found


class DenseDistillationModule(UnderTeacher, DenseModule):
    """A ``DenseNetwork`` under one."""

    def __init__(self, recipe: Recipe, checkpoint: DenseCheckpoint) -> None:
        super().__init__(recipe, checkpoint.books)
        theirs = checkpoint.network.decoder.strides
        self.take_teacher(checkpoint, [stride for stride in self.network.decoder.strides if stride in theirs])
        self.side = recipe.input.crop_size // (recipe.network.code_stride * recipe.distillation.pooling)

    def question(self) -> CodeQuestion:
        return CodeQuestion(self.teacher, self.side)

    def terms(self, mine: DenseOutput, batch: Batch) -> WeightedTerms:
        settings, found = self.recipe.distillation, {}
        live = batch.taught is None or self.feature is not None
        theirs: DenseOutput | None = self.ask_teacher(batch) if live else None
        answer = batch.taught
        if answer is None and theirs is not None:
            answer = pooled_maps(theirs, batch.instances, self.side)
        assert isinstance(answer, CodeMaps)
        if settings.adlp.weight or settings.naive.weight:
            own, usable = pooled_maps(mine, batch.instances, self.side), cells_of(batch.instances, self.side)
            if settings.adlp.weight:
                found['adlp'] = settings.adlp.weight, self.transported(own, answer, usable)
            if settings.naive.weight:
                term = code_naive(own, answer, usable, settings.threshold, settings.naive.mass)
                found['naive'] = settings.naive.weight, term
        if theirs is not None:
            own_at = dict(zip(self.network.decoder.strides, mine.maps, strict=True))
            same = [own_at[stride] for stride in self.shared_strides]
            found |= self.feature_term(same, theirs.maps, self.teacher.decoder.strides)
        return found

    def transported(self, own: CodeMaps, answer: CodeMaps, usable: Tensor) -> Term:
        """The transport as the recipe wants it: of which cells, and with their places or without."""
        how = self.recipe.distillation
        cells = thinned_cells(self.side, how.adlp.every, self.global_step).to(usable.device)
        mine, theirs = own.at(cells), answer.at(cells)
        if how.adlp.place:
            mine, theirs = (placed(maps, cells, self.side, how.adlp.place) for maps in (mine, theirs))
        return code_adlp(mine, theirs, usable[:, cells], how.threshold, how.adlp)
