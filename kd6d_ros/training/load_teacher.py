"""The teacher that a recipe names, checked against the student."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kd6d_ros.distillation.teacher import has_cells_of
from kd6d_ros.errors import ConfigError
from kd6d_ros.training.checkpoint import DenseCheckpoint, load_any_checkpoint
from kd6d_ros.training.code_targets import fingerprints

if TYPE_CHECKING:
    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.training.checkpoint import AnyCheckpoint, Checkpoint
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.types import ObjectModel


def load_teacher(recipe: Recipe, objects: tuple[ObjectModel, ...], books: tuple[CodeBook, ...] = ()) -> AnyCheckpoint:
    """The teacher of a recipe for a student that learns `objects`, a dense one the codes of `books`.

    Raises:
        ConfigError: no such checkpoint; another kind of network, other objects, input sizes or codes than the
            student's; a term that needs cells which the teacher does not have.
    """
    path = Path(recipe.distillation.teacher)
    teacher = load_any_checkpoint(path)
    kinds = teacher.recipe.network.kind, recipe.network.kind
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f'{path}: the teacher is of network.kind: {kinds[0]}, the student of network.kind: {kinds[1]}'
        )
    mine, theirs = [(o.name, o.obj_id) for o in objects], [(o.name, o.obj_id) for o in teacher.objects]
    if mine != theirs:
        names = [', '.join(name for name, _ in pair) for pair in (theirs, mine)]
        raise ConfigError(f'{path}: the teacher knows {names[0]}; the student learns {names[1]}, in this order')
    sizes = teacher.recipe.input.crop_size, recipe.input.crop_size
    if sizes[0] != sizes[1]:
        raise ConfigError(f'{path}: the teacher sees crops of {sizes[0]} px; set input.crop_size={sizes[0]}')
    if isinstance(teacher, DenseCheckpoint):
        _check_dense(path, recipe, teacher, books)
    else:
        _check_keypoints(path, recipe, teacher)
    return teacher


def _check_keypoints(path: Path, recipe: Recipe, teacher: Checkpoint) -> None:
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


def _check_dense(path: Path, recipe: Recipe, teacher: DenseCheckpoint, books: tuple[CodeBook, ...]) -> None:
    known, wanted = fingerprints(teacher.books), fingerprints(books)
    for book, theirs, mine in zip(books, known, wanted, strict=True):
        if theirs != mine:
            raise ConfigError(
                f'{path}: the teacher learnt other codes of {book.name} than those in {recipe.data.codes}; set '
                'data.codes to the folder that it was trained with'
            )
    strides = teacher.recipe.network.code_stride, recipe.network.code_stride
    if strides[0] > strides[1]:
        raise ConfigError(
            f"{path}: the teacher has a pixel for every {strides[0]} px of the crop, coarser than the student's "
            f'{strides[1]}; a teacher needs maps as fine as those of its student, see network.decoder'
        )
