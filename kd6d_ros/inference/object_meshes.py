"""The mesh of an object of a bundle: from a folder that the user gives, else from the bundle itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterable, Optional, Union

from kd6d_ros.errors import BundleError, ConfigError
from kd6d_ros.geometry.meshes import validate_mesh
from kd6d_ros.geometry.ply import read_ply
from kd6d_ros.inference.bundle_files import load_mesh

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import Mesh

MILLIMETRE = 0.001


def object_mesh(bundle: Bundle, name: str, folder: Optional[Union[str, Path]] = None) -> Optional[Mesh]:
    """The mesh [m] of one object; None when no folder is given and the bundle has none.

    Args:
        folder: BOP models, ``obj_000001.ply`` by obj_id in millimetres; wins over the bundle.

    Raises:
        ConfigError: no such folder. BundleError, MeshError: the mesh cannot be read or used.
    """
    if folder is None or folder == '':
        return load_mesh(bundle, name)
    place = Path(folder).expanduser()
    file = f'obj_{bundle.object(name).obj_id:06d}.ply'
    if not place.is_dir():
        raise ConfigError(f'meshes: {folder} is no folder: set it to one with {file}')
    mesh = read_ply(place / file, MILLIMETRE)
    validate_mesh(mesh, str(place / file))
    return mesh


def object_meshes(
    bundle: Bundle, names: Iterable[str], purpose: str, folder: Optional[Union[str, Path]] = None
) -> Dict[str, Mesh]:
    """As ``object_mesh`` for several objects, of which none may be without.

    Raises:
        BundleError: also for an object without a mesh; the message says that `purpose` needs it.
    """
    out = {}
    for name in names:
        mesh = object_mesh(bundle, name, folder)
        if mesh is None:
            raise BundleError(
                f'bundle {bundle.name!r} carries no mesh of {name!r}, which {purpose} needs: give a folder of meshes '
                '(the parameter meshes, or --models), or export the bundle with --meshes'
            )
        out[name] = mesh
    return out
