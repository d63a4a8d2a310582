"""Decimated meshes of a checkpoint's objects, from the models folder that its training data was rendered from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kd6d_ros.data.mesh_files import decimate, sample_texture
from kd6d_ros.data.objects import load_objects
from kd6d_ros.errors import MeshError
from kd6d_ros.geometry.meshes import diameter
from kd6d_ros.types import Mesh, ObjectModel

TOLERANCE = 0.02
"""Relative difference of diameters that two files of one object may have."""


def bundle_meshes(folder: Path, objects: Sequence[ObjectModel], faces: int) -> dict[str, Mesh]:
    """One mesh of about `faces` triangles with vertex colours for each of `objects`, by its name there.

    The object id says which mesh is whose, as a BOP folder may have other names than the checkpoint. In a plain
    folder of meshes the name goes first: its ids are only counted, and shift when a mesh is added.

    Raises:
        MeshError: a mesh is missing, or is not the size of its object. DatasetError, ConfigError: see
            ``load_objects``.
    """
    models = load_objects(folder)
    by_id = {model.obj_id: model for model in models}
    counted = not (folder / 'models_info.json').is_file()
    by_name = {model.name: model for model in models} if counted else {}
    meshes = {}
    for wanted in objects:
        found = by_name.get(wanted.name) or by_id.get(wanted.obj_id)
        who = f'object {wanted.name!r} (id {wanted.obj_id})'
        if found is None or found.mesh is None:
            raise MeshError(
                f'{folder}: has no mesh of {who} of the checkpoint; give the models folder that `kd6d synth` '
                'rendered, or leave --meshes out'
            )
        size = diameter(found.mesh.vertices)
        if abs(size - wanted.diameter) > TOLERANCE * wanted.diameter:
            raise MeshError(
                f'{folder}: the mesh of {who} is {1000 * size:.1f} mm across, the checkpoint was trained on one of '
                f'{1000 * wanted.diameter:.1f} mm; give the models folder that `kd6d synth` rendered'
            )
        meshes[wanted.name] = decimate(_vertex_coloured(found.mesh), faces)
    return meshes


def _vertex_coloured(mesh: Mesh) -> Mesh:
    """A bundle keeps colours of vertices, but no texture."""
    if mesh.texture is None:
        return mesh
    return replace(mesh, colours=sample_texture(mesh), normals=None, uv=None, texture=None)
