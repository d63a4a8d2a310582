"""Meshes from folders into render-ready form: few faces, own colours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kd6d_ros.errors import DatasetError, MeshError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kd6d_ros.types import Mesh, ObjectModel

MESH_SUFFIXES = ('.ply', '.obj', '.stl')


def ready_models(models: Sequence[ObjectModel], faces: int) -> list[ObjectModel]:
    """The models with simplified meshes."""
    from kd6d_ros.data.scenes.baking import bake

    if not models:
        raise DatasetError('no object to render')
    return [replace(model, mesh=bake(model.mesh, faces)) for model in models if model.mesh is not None]


def load_distractors(folders: Sequence[Path], faces: int) -> list[Mesh]:
    """Every mesh below the folders, simplified, centred, in metres.

    The unit is guessed, as distractors need no exact size: metres where that gives a sensible mesh, else mm.

    Raises:
        DatasetError: no such folder or no mesh in it. MeshError: a mesh cannot be used.
    """
    meshes = []
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f'{folder}: distractors folder does not exist')
        found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in MESH_SUFFIXES)
        if not found:
            raise DatasetError(f'{folder}: no mesh ({", ".join(MESH_SUFFIXES)}) in this distractors folder')
        meshes += [_distractor(path, faces) for path in found]
    return meshes


def _distractor(path: Path, faces: int) -> Mesh:
    from kd6d_ros.data.mesh_files import load_mesh
    from kd6d_ros.data.scenes.baking import bake

    try:
        mesh = load_mesh(path, 1.0)
    except MeshError:
        mesh = load_mesh(path, 0.001)
    middle = 0.5 * (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0))
    return bake(replace(mesh, vertices=mesh.vertices - middle), faces)
