"""Portable checkpoints: weights, recipe and objects in one file that loads without pickle.

safetensors-like plainness without another dependency: ``torch.save`` of tensors and plain containers,
read back with ``weights_only=True``, which refuses anything else. Matrices are kept in half precision, as the
exported graph has them: a file of half the size, small enough to be passed on as a start for other objects.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd6d_ros.errors import ConfigError
from kd6d_ros.networks.keypoint_network import KeypointNetwork
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


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write aside, then rename."""
    content = {
        'format': FORMAT,
        'recipe': to_mapping(checkpoint.recipe),
        'objects': [_object_record(o) for o in checkpoint.objects],
        'facts': checkpoint.facts,
        'weights': {k: _compact(v.detach().cpu()) for k, v in checkpoint.network.state_dict().items()},
    }
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
    """Read a file of ``save_checkpoint``.

    Raises:
        ConfigError: not such a file, or weights that do not fit the recipe.
    """
    return as_checkpoint(read_weights_file(path), path)


def is_checkpoint(content: Any) -> bool:
    """Whether what a file holds was written by ``save_checkpoint``."""
    return isinstance(content, dict) and content.get('format') == FORMAT


def as_checkpoint(content: Any, path: Path) -> Checkpoint:
    """The checkpoint in what the file `path` holds.

    Raises:
        ConfigError: as ``load_checkpoint``.
    """
    if not is_checkpoint(content):
        raise ConfigError(f'{path}: not a {FORMAT} file; use the final.pt that `kd6d train` writes')
    recipe = from_mapping(Recipe, content['recipe'], str(path))
    network = KeypointNetwork(recipe.network)
    try:
        network.load_state_dict(content['weights'])
    except RuntimeError as err:
        raise ConfigError(f'{path}: weights do not fit the recipe: {str(err).splitlines()[0]}') from None
    objects = tuple(_object(record) for record in content['objects'])
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
