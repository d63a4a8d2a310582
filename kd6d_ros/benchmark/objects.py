"""The vertices that ADD is taken over: from the bundle, from BOP models, or of the demo object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional

from kd6d_ros.errors import BundleError
from kd6d_ros.inference.object_meshes import object_mesh

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.bundle import Bundle


def vertices_of(bundle: Bundle, names: Iterable[str], models_dir: Optional[Path] = None) -> Dict[str, Any]:
    """Object name -> vertices (V, 3) [m] of the named objects of a bundle.

    `models_dir` is a BOP models folder (obj_000001.ply in mm, by obj_id) and wins over meshes in the bundle.
    The demo object needs neither: it is made anew.

    Raises:
        BundleError: an object without a mesh. ConfigError: no such folder. MeshError: a PLY file that cannot be used.
    """
    vertices: Dict[str, Any] = {}
    for name in names:
        mesh = object_mesh(bundle, name, models_dir)
        if mesh is None:
            from kd6d_ros.data.demo_object import OBJECT_NAME, build_demo_object

            if name != OBJECT_NAME:
                raise BundleError(
                    f'{bundle.folder}: carries no mesh of {name!r}, which ADD needs; give --models BOP_MODELS_DIR'
                )
            mesh = build_demo_object()
        vertices[name] = mesh.vertices
    return vertices
