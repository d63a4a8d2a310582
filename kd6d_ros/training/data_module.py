"""The data of a run for Lightning: frames packed once, split by scene, served as windows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from kd6d_ros.data.code_maps import load_books
from kd6d_ros.data.objects import load_objects
from kd6d_ros.errors import ConfigError, DatasetError
from kd6d_ros.training.code_targets import CodeTargets
from kd6d_ros.training.dataset import Sample, WindowDataset, collate
from kd6d_ros.training.frames import FramePack, describe, pack_frames
from kd6d_ros.training.held_out import held_out
from kd6d_ros.training.pool import PoolBatches, PoolDataset, make_pool
from kd6d_ros.training.taught import taught_by

if TYPE_CHECKING:
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.training.taught import Question, Taught
    from kd6d_ros.types import AnyArray, ObjectModel


MOST_PROCESSES = 8
"""That draw a pool."""


class Windows(L.LightningDataModule):
    """Packs the frames once, splits them by scene and serves shuffled windows, new ones or those of a pool.

    books: surface codes of the objects, for a dense network. question: to a teacher, asked once about a pool's windows,
    where its answers alone are needed. start_step: batches that an earlier part of the run has seen.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.objects = recipe_objects(recipe)
        dense = recipe.network.kind == 'dense'
        self.books = load_books(Path(recipe.data.codes), self.objects) if dense else ()
        self.codes = CodeTargets(self.books, self.objects) if dense else None
        self.question: Question | None = None
        self.start_step = 0

    def prepare_data(self) -> None:
        folder = self._pack_folder()
        if self.recipe.sampling.pool:
            self._answers(self._pool_folder(FramePack(folder, self.objects)))

    def _pack_folder(self) -> Path:
        data = self.recipe.data
        return pack_frames(Path(data.train), data.split, Path(data.cache))

    def _pool_folder(self, pack: FramePack) -> Path:
        training, _ = split_frames(pack, self.recipe.data.validation_fraction)
        self._check_depth(pack)
        processes = min(os.cpu_count() or 1, MOST_PROCESSES)
        return make_pool(pack.folder, self.objects, training, self.recipe, processes, self.codes)

    def _answers(self, pool: Path) -> Taught | None:
        if self.question is None:
            return None
        return taught_by(pool, self.question, torch.device('cuda' if torch.cuda.is_available() else 'cpu'))

    def setup(self, stage: str | None = None) -> None:
        folder = self._pack_folder()
        self.pack = FramePack(folder, self.objects)
        self._check_depth(self.pack)
        self.training, self.validation = split_frames(self.pack, self.recipe.data.validation_fraction)
        print(f'frames: {describe(folder)}, {len(self.validation)} kept for validation', flush=True)

    def _check_depth(self, pack: FramePack) -> None:
        if self.codes is not None and pack.depth is None:
            raise DatasetError(
                f'{self.recipe.data.train}: no depth images, from which a dense network learns its codes; `kd6d synth` '
                'writes them'
            )

    def some_images(self, count: int) -> torch.Tensor:
        """The images (count, 3, S, S) uint8 of the first training windows."""
        pack = FramePack(self._pack_folder(), self.objects)
        frames, _ = split_frames(pack, self.recipe.data.validation_fraction)
        dataset = WindowDataset(pack.folder, self.objects, frames, self.recipe, self.recipe.seed, codes=self.codes)
        return collate([sample for sample, _ in zip(dataset, range(count), strict=False)]).image

    def train_dataloader(self) -> DataLoader[Sample]:
        trainer, settings = self.trainer, self.recipe.train
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        how: dict[str, Any] = {
            'num_workers': settings.workers, 'collate_fn': collate, 'pin_memory': torch.cuda.is_available(),
            'persistent_workers': settings.workers > 0, 'prefetch_factor': 4 if settings.workers else None,
        }  # fmt: skip
        if self.recipe.sampling.pool:
            folder = self._pool_folder(self.pack)
            pool = PoolDataset(folder, self._answers(folder))
            batches = PoolBatches(len(pool), settings.batch_size, self.recipe.seed, rank, ranks, self.start_step)
            return DataLoader(pool, batch_sampler=batches, **how)
        seed = self.recipe.seed * 1_000_003 + self.start_step
        dataset = WindowDataset(
            self.pack.folder, self.objects, self.training, self.recipe, seed, rank, ranks, self.codes
        )
        return DataLoader(dataset, batch_size=settings.batch_size, **how)


def recipe_objects(recipe: Recipe) -> tuple[ObjectModel, ...]:
    """The objects of a recipe in class order; fewer or more than network.classes is an error."""
    folder = Path(recipe.data.models or Path(recipe.data.train) / 'models')
    known = {model.name: model for model in load_objects(folder)}
    missing = [name for name in recipe.data.objects if name not in known]
    if missing:
        raise ConfigError(f'data.objects: {missing[0]!r} is not in {folder}; known: {", ".join(known)}')
    objects = tuple(known[name] for name in recipe.data.objects or known)
    if len(objects) != recipe.network.classes:
        raise ConfigError(
            f'network.classes is {recipe.network.classes}, but {folder} and data.objects give {len(objects)} objects'
        )
    return objects


def split_frames(pack: FramePack, fraction: float) -> tuple[AnyArray, AnyArray]:
    """Training and validation frames; see ``held_out``."""
    return held_out(pack.index['scene'], fraction, str(pack.folder))
