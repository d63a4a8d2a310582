"""Meshes from PLY, OBJ and STL files with vertex colours and textures (trimesh).

A mesh file is untrusted: sizes are bounded, materials and textures are looked up in the mesh's own folder
only, and a texture that the file names but that is missing is an error rather than a grey object.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.texture import TextureVisuals

from kd6d_ros.data import image_files
from kd6d_ros.data.decimation import decimate, sample_texture, seamless_normals
from kd6d_ros.errors import MeshError
from kd6d_ros.geometry.meshes import validate_mesh
from kd6d_ros.types import Mesh

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, ImageArray

__all__ = ['MESH_SUFFIXES', 'decimate', 'load_mesh', 'mesh_ply', 'sample_texture']

MESH_SUFFIXES = ('.ply', '.obj', '.stl')
MAX_MESH_BYTES = 1024**3
MAX_TEXTURE_PIXELS = 8192 * 8192

# trimesh reports what it cannot parse as log lines with tracebacks; here these become errors.
logging.getLogger('trimesh').addHandler(logging.NullHandler())
logging.getLogger('trimesh').propagate = False


class _FolderResolver(trimesh.resolvers.Resolver):  # type: ignore[misc]
    """Hands trimesh the files a mesh names, from the mesh's folder only; remembers what went wrong.

    trimesh swallows the exceptions of a resolver, hence the memory.
    """

    def __init__(self, mesh_path: Path) -> None:
        self.mesh_path = mesh_path
        self.folder = mesh_path.parent.resolve()
        self.problem: Optional[MeshError] = None

    def get(self, key: str) -> bytes:
        try:
            return self._read(key.strip().strip('"').replace('\\', '/'))
        except MeshError as error:
            self.problem = self.problem or error
            raise

    def _read(self, name: str) -> bytes:
        path = (self.folder / name).resolve()
        if self.folder not in path.parents:
            raise MeshError(f'{self.mesh_path}: names {name!r}, outside its own folder; put the file beside the mesh')
        if not path.is_file():
            raise MeshError(f'{self.mesh_path}: names {name!r}, which is not there; put it beside the mesh')
        if path.stat().st_size > image_files.MAX_FILE_BYTES:
            raise MeshError(f'{path}: over the limit of {image_files.MAX_FILE_BYTES // 2**20} MiB')
        data = path.read_bytes()
        if path.suffix.lower() == '.mtl':
            return _as_utf8(data)
        _check_texture(path, data)
        return data

    def write(self, name: str, data: Any) -> None:
        raise NotImplementedError('this resolver only reads')

    def namespaced(self, namespace: str) -> _FolderResolver:
        raise NotImplementedError('this resolver has one folder')

    def keys(self) -> List[str]:
        return []


def _as_utf8(data: bytes) -> bytes:
    """Text files of old tools hold names and comments in Latin-1, which trimesh cannot read by itself."""
    try:
        data.decode('utf-8')
    except UnicodeDecodeError:
        return data.decode('latin-1').encode('utf-8')
    return data


def _check_texture(path: Path, data: bytes) -> None:
    """Refuse a picture that is too large (by its header), or that does not decode."""
    size = image_files.size_from_header(data)
    if size is None:
        raise MeshError(f'{path}: not a picture that can be used as a texture (PNG, JPEG or TIFF)')
    if size[0] * size[1] > MAX_TEXTURE_PIXELS:
        raise MeshError(f'{path}: texture of {size[0]} x {size[1]} pixels; the limit is 8192 x 8192')
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except Exception as error:  # Pillow raises many kinds
        raise MeshError(f'{path}: the texture cannot be decoded ({error}); copy or export it again') from None


def load_mesh(path: Path, scale_to_metres: float = 1.0) -> Mesh:
    """Read one mesh.

    Args:
        path: .ply (ASCII or binary; vertex or face colours, or texture coordinates with ``comment
            TextureFile``), .obj (+ .mtl) or .stl.
        scale_to_metres: metres per unit of the file: 0.001 for BOP models, 1 for metres.

    Raises:
        MeshError: missing, too large, not readable, no faces, NaN, a size that hints at wrong units, a
            missing texture or one outside the mesh's folder.
    """
    path = Path(path)
    if not (0 < scale_to_metres < 1e6):
        raise MeshError(f'{path}: scale {scale_to_metres} to metres; expected a positive number such as 0.001')
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise MeshError(f'{path}: not a mesh file that is read here ({", ".join(MESH_SUFFIXES)})')
    resolver = _FolderResolver(path)
    loaded = _parse(path, resolver)
    if resolver.problem is not None:
        raise resolver.problem
    mesh = _from_trimesh(path, loaded, scale_to_metres)
    validate_mesh(mesh, str(path))
    return mesh


def _parse(path: Path, resolver: _FolderResolver) -> trimesh.Trimesh:
    try:
        if path.stat().st_size > MAX_MESH_BYTES:
            raise MeshError(f'{path}: over the limit of {MAX_MESH_BYTES // 2**20} MiB; decimate it first')
        data = path.read_bytes()
    except FileNotFoundError:
        raise MeshError(f'{path}: no such file') from None
    except OSError as error:
        raise MeshError(f'{path}: cannot be read ({error.strerror})') from None
    kind = path.suffix.lower()[1:]
    if kind == 'obj':
        data = _as_utf8(data)
    try:
        return trimesh.load_mesh(io.BytesIO(data), file_type=kind, resolver=resolver, process=False)
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        reason = ' '.join(str(error).split())[:120] or type(error).__name__
        raise MeshError(f'{path}: not a readable {kind.upper()} mesh ({reason})') from None


def _from_trimesh(path: Path, loaded: Any, scale: float) -> Mesh:
    faces = getattr(loaded, 'faces', None)
    if faces is None or len(faces) == 0:
        raise MeshError(f'{path}: has no faces (a point cloud or an empty file); export it as a triangle mesh')
    vertices = np.asarray(loaded.vertices, dtype=np.float64) * scale
    faces = np.asarray(faces, dtype=np.int64)
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        validate_mesh(Mesh(vertices, faces), str(path))
    uv, texture = _texture(path, loaded)
    colours = None if texture is not None else _vertex_colours(loaded, len(vertices))
    normals = None if texture is None else seamless_normals(vertices, faces)
    return Mesh(vertices, faces, colours=colours, normals=normals, uv=uv, texture=texture)


def _texture(path: Path, loaded: Any) -> Tuple[Optional[AnyArray], Optional[ImageArray]]:
    """Texture coordinates and picture, or (None, None) when the file carries no texture."""
    visual = loaded.visual
    if not isinstance(visual, TextureVisuals) or visual.uv is None:
        return None, None
    material = visual.material
    image = getattr(material, 'image', None)
    if image is None:
        image = getattr(material, 'baseColorTexture', None)
    if image is None:
        return None, None
    uv = np.asarray(visual.uv, dtype=np.float64)
    if uv.shape != (len(loaded.vertices), 2) or not np.isfinite(uv).all():
        raise MeshError(f'{path}: texture coordinates are missing for some vertices, or not finite')
    texture = np.ascontiguousarray(np.asarray(image.convert('RGB'), dtype=np.uint8))
    return uv, texture


def _vertex_colours(loaded: Any, count: int) -> Optional[ImageArray]:
    """Colours (V, 3) uint8 of the file, of its faces, or of its plain material; None when it has none."""
    visual = loaded.visual
    if isinstance(visual, TextureVisuals):
        plain = getattr(visual.material, 'main_color', None)
        if plain is None:
            return None
        return np.tile(np.asarray(plain, dtype=np.uint8)[:3], (count, 1))
    if not visual.defined or visual.kind is None:
        return None
    colours = np.asarray(visual.vertex_colors, dtype=np.uint8)
    return np.ascontiguousarray(colours[:, :3]) if colours.shape[0] == count else None


def mesh_ply(mesh: Mesh) -> bytes:
    """Binary PLY in millimetres, as in BOP's models folders, with the colours of the vertices (a texture's at them)."""
    colours = mesh.colours if mesh.texture is None or mesh.uv is None else sample_texture(mesh)
    whole = trimesh.Trimesh(
        np.asarray(mesh.vertices) * 1000.0, mesh.faces, vertex_colors=colours, process=False, validate=False
    )
    data: bytes = whole.export(file_type='ply')
    return data
