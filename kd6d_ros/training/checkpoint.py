"""Portable checkpoints: weights, recipe and objects in one file that loads without pickle.

safetensors-like plainness without another dependency: ``torch.save`` of tensors and plain containers,
read back with ``weights_only=True``, which refuses anything else. Matrices are kept in half precision, as the
exported graph has them: a file of half the size, small enough to be passed on as a start for other objects.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from kd6d_ros.errors import ConfigError
from kd6d_ros.inference.surface_codes import LEAVES, CodeBook
from kd6d_ros.networks.dense_network import DenseNetwork
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.make_network import make_network
from kd6d_ros.training.recipe import Recipe, from_mapping, to_mapping
from kd6d_ros.training.weights_file import read_weights_file
from kd6d_ros.types import ContinuousSymmetry, ObjectModel, RigidTransform, Symmetries

FORMAT = 'kd6d-checkpoint-1'


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network (evaluation mode, CPU) with its recipe, objects and facts about the run."""

    network: KeypointNetwork
    recipe: Recipe
    objects: tuple[ObjectModel, ...]
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class DenseCheckpoint:
    """The same of a dense network, with the surface codes that its bits mean, by class."""

    network: DenseNetwork
    recipe: Recipe
    objects: tuple[ObjectModel, ...]
    facts: dict[str, Any]
    books: tuple[CodeBook, ...]


AnyCheckpoint: TypeAlias = Checkpoint | DenseCheckpoint


def save_checkpoint(path: Path, checkpoint: AnyCheckpoint) -> None:
    """Write aside, then rename."""
    content: dict[str, Any] = {
        'format': FORMAT,
        'recipe': to_mapping(checkpoint.recipe),
        'objects': [_object_record(o) for o in checkpoint.objects],
        'facts': checkpoint.facts,
        'weights': {k: _compact(v.detach().cpu()) for k, v in checkpoint.network.state_dict().items()},
    }
    if isinstance(checkpoint, DenseCheckpoint):
        content['codes'] = [_book_record(book) for book in checkpoint.books]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + '.tmp')
    torch.save(content, aside)
    os.replace(aside, path)


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision for what the export rounds to it as well; what overflows stays as it is."""
    if tensor.ndim < 2 or not tensor.dtype.is_floating_point:
        return tensor
    half = tensor.half()
    return half if bool(torch.isfinite(half).all()) else tensor


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file of ``save_checkpoint`` that holds a keypoint network.

    Raises:
        ConfigError: not such a file, a dense network, or weights that do not fit the recipe.
    """
    return as_checkpoint(read_weights_file(path), path)


def load_any_checkpoint(path: Path) -> AnyCheckpoint:
    """Read a file of ``save_checkpoint``, of either kind.

    Raises:
        ConfigError: as ``any_checkpoint``.
    """
    return any_checkpoint(read_weights_file(path), path)


def is_checkpoint(content: Any) -> bool:
    """Whether what a file holds was written by ``save_checkpoint``."""
    return isinstance(content, dict) and content.get('format') == FORMAT


def as_checkpoint(content: Any, path: Path) -> Checkpoint:
    """The keypoint network's checkpoint in what the file `path` holds.

    Raises:
        ConfigError: as ``load_checkpoint``.
    """
    found = any_checkpoint(content, path)
    if isinstance(found, DenseCheckpoint):
        raise ConfigError(
            f'{path}: holds a dense network (network.kind: dense); this takes networks of the kind keypoints only'
        )
    return found


def any_checkpoint(content: Any, path: Path) -> AnyCheckpoint:
    """The checkpoint in what the file `path` holds, of either kind.

    Raises:
        ConfigError: not such a file, weights that do not fit the recipe, or codes that do not fit the objects.
    """
    if not is_checkpoint(content):
        raise ConfigError(f'{path}: not a {FORMAT} file; use the final.pt that `kd6d train` writes')
    recipe = from_mapping(Recipe, content['recipe'], str(path))
    network = make_network(recipe.network)
    try:
        network.load_state_dict(content['weights'])
    except RuntimeError as err:
        raise ConfigError(f'{path}: weights do not fit the recipe: {str(err).splitlines()[0]}') from None
    objects = tuple(_object(record) for record in content['objects'])
    if isinstance(network, DenseNetwork):
        return DenseCheckpoint(network.eval(), recipe, objects, content['facts'], _books(content, objects, path))
    return Checkpoint(network.eval(), recipe, objects, content['facts'])


def _object_record(model: ObjectModel) -> dict[str, Any]:
    return {
        'name': model.name,
        'display_name': model.display_name,
        'obj_id': model.obj_id,
        'diameter_m': model.diameter,
        'keypoints_m': model.keypoints.tolist(),
        'discrete': [item.matrix().tolist() for item in model.symmetries.discrete],
        'continuous': [[c.axis.tolist(), c.offset.tolist()] for c in model.symmetries.continuous],
    }


def _object(record: dict[str, Any]) -> ObjectModel:
    discrete = tuple(RigidTransform.from_matrix(np.array(matrix)) for matrix in record['discrete'])
    continuous = tuple(ContinuousSymmetry(np.array(a), np.array(o)) for a, o in record['continuous'])
    return ObjectModel(
        record['name'],
        record['obj_id'],
        record['diameter_m'],
        np.array(record['keypoints_m']),
        Symmetries(discrete, continuous),
        record['display_name'],
    )


def _book_record(book: CodeBook) -> dict[str, Any]:
    """The grid as signed numbers with the same bits: not every torch reads unsigned ones."""
    return {
        'name': book.name,
        'obj_id': book.obj_id,
        'diameter_m': book.diameter,
        'low_m': book.low.tolist(),
        'step_m': book.step.tolist(),
        'grid': torch.from_numpy(book.grid.view(np.int16).copy()),
        'mesh_sha256': book.mesh_sha256,
        'samples': book.samples,
        'seed': book.seed,
    }


def _books(content: dict[str, Any], objects: tuple[ObjectModel, ...], path: Path) -> tuple[CodeBook, ...]:
    try:
        books = tuple(_book(record) for record in content['codes'])
        fit = [(book.name, book.grid.shape) for book in books] == [(model.name, (LEAVES, 3)) for model in objects]
    except (KeyError, TypeError, ValueError, AttributeError):
        fit = False
    if not fit:
        raise ConfigError(f'{path}: its surface codes are not those of its objects; the file is damaged')
    return books


def _book(record: dict[str, Any]) -> CodeBook:
    return CodeBook(
        record['name'],
        record['obj_id'],
        record['diameter_m'],
        np.array(record['low_m']),
        np.array(record['step_m']),
        record['grid'].numpy().view(np.uint16),
        record['mesh_sha256'],
        record['samples'],
        record['seed'],
    )
