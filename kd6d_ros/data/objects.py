"""The objects of a models folder: a BOP folder (models_info.json) or a plain folder of meshes.

Names come from ``objects.yaml`` in the folder or from a file given beside it (see ``objects_yaml``), else
'obj_000001' for a BOP object and the file's name for a plain mesh.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.data.bop_lists import read_models_info
from kd6d_ros.data.bop_records import ModelInfo
from kd6d_ros.data.mesh_files import MESH_SUFFIXES, load_mesh
from kd6d_ros.data.objects_yaml import (
    FILE_NAME,
    UNITS_PER_METRE,
    ObjectEntry,
    ObjectsFile,
    check_name,
    read_objects_yaml,
)
from kd6d_ros.errors import ConfigError, DatasetError, MeshError
from kd6d_ros.geometry.meshes import bounding_box_corners, diameter
from kd6d_ros.types import Mesh, ObjectModel, Symmetries

BOP_SCALE = 0.001


def load_objects(
    models_dir: Path,
    include: Optional[Sequence[str]] = None,
    config: Optional[Path] = None,
    with_meshes: bool = True,
) -> List[ObjectModel]:
    """Load the objects of a folder, ascending object id.

    Args:
        models_dir: BOP models folder [mm], or a plain folder with one mesh file or one folder per object
            (metres, unless objects.yaml says ``unit: mm``).
        include: names to load; None takes all.
        config: an objects.yaml kept elsewhere; None looks for one in the folder.
        with_meshes: False leaves the meshes of a BOP folder alone (mesh None). A BOP folder without mesh
            files is fine too: models_info.json has what training and poses need.

    Raises:
        DatasetError: no such folder, or nothing in it. ConfigError: objects.yaml is wrong, a name that ROS
            does not allow, an unknown name in `include`. MeshError: a mesh cannot be used.
    """
    models_dir = Path(models_dir)
    if not models_dir.is_dir():
        raise DatasetError(f'{models_dir}: no such folder; expected a folder of object meshes')
    names = _names(models_dir, config)
    if (models_dir / 'models_info.json').is_file():
        return _load_bop(models_dir, names, include, with_meshes)
    return _load_plain(models_dir, names, include)


def _names(models_dir: Path, config: Optional[Path]) -> Optional[ObjectsFile]:
    path = Path(config) if config else models_dir / FILE_NAME
    return read_objects_yaml(path) if config or path.is_file() else None


def _wanted(folder: Path, have: Sequence[str], include: Optional[Sequence[str]]) -> List[str]:
    if include is None:
        return list(have)
    unknown = [name for name in include if name not in have]
    if unknown:
        raise ConfigError(f'{folder}: has no object {unknown[0]!r}; it has {", ".join(have)}')
    return [name for name in have if name in set(include)]


def _load_bop(
    folder: Path, names: Optional[ObjectsFile], include: Optional[Sequence[str]], with_meshes: bool
) -> List[ObjectModel]:
    infos = read_models_info(folder)
    meshes = _bop_meshes(folder)
    # models_info.json may describe more objects than the folder holds (a part of a dataset).
    idents = [ident for ident in sorted(infos) if ident in meshes or not meshes]
    if not idents:
        raise DatasetError(f'{folder}: no mesh of models_info.json is here; expected files such as obj_000001.ply')
    entries = names.objects if names else {}
    named = {(entries[ident].name if ident in entries else f'obj_{ident:06d}'): ident for ident in idents}
    if len(named) < len(idents):
        raise ConfigError(f'{names.path if names else folder}: two objects have the same name')
    models = []
    for name in _wanted(folder, list(named), include):
        ident = named[name]
        entry = entries.get(ident, ObjectEntry(name))
        mesh = load_mesh(meshes[ident], BOP_SCALE) if with_meshes and ident in meshes else None
        models.append(_bop_model(folder, ident, entry, infos[ident], mesh))
    return models


def _bop_meshes(folder: Path) -> Dict[int, Path]:
    found: Dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        digits = path.stem[4:] if path.stem.startswith('obj_') else ''
        if path.suffix.lower() in MESH_SUFFIXES and digits.isascii() and digits.isdigit():
            found.setdefault(int(digits), path)
    return found


def _bop_model(folder: Path, ident: int, entry: ObjectEntry, info: ModelInfo, mesh: Optional[Mesh]) -> ObjectModel:
    if mesh is not None:
        box = np.array([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)])
        if np.abs(box - info.box).max() > 0.05 * info.diameter:
            raise MeshError(
                f'{folder}: the mesh of object {ident} and its entry in models_info.json differ in size or '
                'place; both must be in millimetres and of the same model'
            )
    symmetries = info.symmetries if entry.symmetries is None else entry.symmetries
    keypoints = bounding_box_corners(info.box)
    return ObjectModel(entry.name, ident, info.diameter, keypoints, symmetries, entry.display_name, mesh)


def _load_plain(folder: Path, names: Optional[ObjectsFile], include: Optional[Sequence[str]]) -> List[ObjectModel]:
    rows = _rows_of(folder, names) if names else _rows_from_files(folder)
    scale = 1.0 / UNITS_PER_METRE[(names.unit if names else None) or 'm']
    wanted = set(_wanted(folder, [entry.name for _, entry, _ in rows], include))
    models = []
    for ident, entry, path in rows:
        if entry.name in wanted:
            mesh = load_mesh(path, scale)
            models.append(
                ObjectModel(
                    entry.name,
                    ident,
                    diameter(mesh.vertices),
                    bounding_box_corners(mesh.vertices),
                    entry.symmetries or Symmetries(),
                    entry.display_name,
                    mesh,
                )
            )
    return models


def _rows_of(folder: Path, names: ObjectsFile) -> List[Tuple[int, ObjectEntry, Path]]:
    """Objects that objects.yaml lists, with their meshes."""
    if names.unit is None:
        raise ConfigError(f'{names.path}: the unit of the meshes is missing; add a line "unit: m" or "unit: mm"')
    rows = []
    for ident, entry in sorted(names.objects.items()):
        if entry.mesh is None:
            raise ConfigError(f'{names.path} key objects.{ident}: the key mesh (a file in {folder}) is missing')
        path = folder / entry.mesh
        if folder.resolve() not in path.resolve().parents:
            raise ConfigError(f'{names.path} key objects.{ident}.mesh: {entry.mesh!r} leaves the folder {folder}')
        rows.append((ident, entry, path))
    return rows


def _rows_from_files(folder: Path) -> List[Tuple[int, ObjectEntry, Path]]:
    """Objects named by their files or folders, ids from 1 in the order of names."""
    rows = []
    for ident, (name, path) in enumerate(_plain_meshes(folder), start=1):
        plain = name.replace('-', '_').replace(' ', '_').replace('.', '_')
        rows.append((ident, ObjectEntry(check_name(plain, str(path)), name if plain != name else ''), path))
    names = [entry.name for _, entry, _ in rows]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f'{folder}: two meshes would be called {twice[0]!r}; name them in {FILE_NAME}')
    return rows


def _plain_meshes(folder: Path) -> List[Tuple[str, Path]]:
    """(name, mesh file) of every mesh file and of every sub-folder that holds exactly one."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix.lower() in MESH_SUFFIXES:
            found.append((path.stem, path))
        elif path.is_dir():
            inside = [item for item in sorted(path.iterdir()) if item.suffix.lower() in MESH_SUFFIXES]
            if len(inside) > 1:
                raise ConfigError(f'{path}: holds {len(inside)} meshes; name the right one in {folder / FILE_NAME}')
            found += [(path.name, item) for item in inside]
    if not found:
        raise DatasetError(f'{folder}: no mesh in it; expected {", ".join(MESH_SUFFIXES)} files')
    return found


def load_distractor_meshes(folder: Path, scale_to_metres: Optional[float] = None) -> List[Mesh]:
    """Meshes of a BOP or plain folder as nameless clutter; any file name will do.

    Args:
        scale_to_metres: metres per unit; None takes mm for a BOP folder and metres for another.

    Raises:
        DatasetError: no such folder or no mesh in it. MeshError: a mesh cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f'{folder}: no such folder; expected a folder of meshes')
    scale = scale_to_metres
    if scale is None:
        scale = BOP_SCALE if (folder / 'models_info.json').is_file() else 1.0
    return [load_mesh(path, scale) for _, path in _plain_meshes(folder)]
