"""Meshes and textures on the device, kept while they are in use (least recently used go first)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from kd6d_ros.data.renderer.normals import is_closed, vertex_normals

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray, ImageArray, Mesh

MAX_MESHES = 512
MAX_TEXTURES = 256


class DeviceCache:
    """Looks buffers up by the identity of the Mesh or array, which the cache keeps alive."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._meshes: OrderedDict[int, _DeviceMesh] = OrderedDict()
        self._textures: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        self._white = self._upload(np.full((1, 1, 3), 255, np.uint8))

    def vertex_array(self, program: Any, mesh: Mesh, white: bool) -> Any:
        """The vertex array that feeds `mesh` to `program`; `white` drops its vertex colours."""
        return self._entry(mesh).vertex_array(program, white)

    def _entry(self, mesh: Mesh) -> _DeviceMesh:
        entry = self._meshes.get(id(mesh))
        if entry is None:
            entry = self._meshes[id(mesh)] = _DeviceMesh(self._context, mesh)
            if len(self._meshes) > MAX_MESHES:
                self._meshes.popitem(last=False)[1].release()
        else:
            self._meshes.move_to_end(id(mesh))
        return entry

    def closed(self, mesh: Mesh) -> bool:
        """Whether back faces of the mesh may be skipped."""
        return self._entry(mesh).closed

    def bounds(self, mesh: Mesh) -> tuple[FloatArray, FloatArray]:
        """Low and high corner (3,) of the mesh's bounding box."""
        return self._entry(mesh).bounds

    def texture(self, image: ImageArray | None, atlas: bool = False) -> Any:
        """The mipmapped texture of `image`, or white. The coarse levels of an `atlas` would mix neighbours
        that are none on the object: it has two."""
        if image is None:
            return self._white
        entry = self._textures.get(id(image))
        if entry is None:
            entry = self._textures[id(image)] = (self._upload(image, atlas), image)
            if len(self._textures) > MAX_TEXTURES:
                self._textures.popitem(last=False)[1][0].release()
        else:
            self._textures.move_to_end(id(image))
        return entry[0]

    def _upload(self, image: ImageArray, atlas: bool = False) -> Any:
        import moderngl

        height, width = image.shape[:2]
        # v points up in meshes and row 0 is the top of an image
        data = np.ascontiguousarray(image[::-1, :, :3]).tobytes()
        texture = self._context.texture((width, height), 3, data, alignment=1)
        texture.build_mipmaps(0, 2 if atlas else 1000)
        texture.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)
        return texture


class _DeviceMesh:
    def __init__(self, context: Any, mesh: Mesh) -> None:
        self.mesh = mesh
        self._context = context
        self.bounds = (np.min(mesh.vertices, axis=0), np.max(mesh.vertices, axis=0))
        self.closed = is_closed(mesh.vertices, mesh.faces)
        count = len(mesh.vertices)
        normals = mesh.normals if mesh.normals is not None else vertex_normals(mesh.vertices, mesh.faces)
        colours = mesh.colours if mesh.colours is not None else np.full((count, 3), 255, np.uint8)
        uv = mesh.uv if mesh.uv is not None else np.zeros((count, 2))
        # passes without shading need positions only: far fewer vertices where faces share none
        positions, joined = np.unique(np.asarray(mesh.vertices, 'f4'), axis=0, return_inverse=True)
        shared = np.asarray(joined).reshape(-1)[mesh.faces]
        self._shape = context.buffer(np.ascontiguousarray(positions, 'f4').tobytes())
        self._shape_index = context.buffer(np.ascontiguousarray(shared, 'i4').tobytes())
        self._position = context.buffer(np.ascontiguousarray(mesh.vertices, 'f4').tobytes())
        self._normal = context.buffer(np.ascontiguousarray(normals, 'f4').tobytes())
        self._colour = context.buffer((np.asarray(colours)[:, :3] / 255.0).astype('f4').tobytes())
        self._white = context.buffer(np.ones((count, 3), 'f4').tobytes())
        self._uv = context.buffer(np.ascontiguousarray(uv, 'f4').tobytes())
        self._index = context.buffer(np.ascontiguousarray(mesh.faces, 'i4').tobytes())
        self._arrays: dict[tuple[int, bool], Any] = {}

    def vertex_array(self, program: Any, white: bool) -> Any:
        key = (id(program), white)
        if key not in self._arrays:
            if 'in_normal' not in program:
                parts = [(self._shape, '3f', 'in_position')]
                self._arrays[key] = self._context.vertex_array(program, parts, self._shape_index)
                return self._arrays[key]
            parts = [
                (self._position, '3f', 'in_position'),
                (self._normal, '3f', 'in_normal'),
                (self._white if white else self._colour, '3f', 'in_colour'),
                (self._uv, '2f', 'in_uv'),
            ]
            used = [part for part in parts if part[2] in program]
            self._arrays[key] = self._context.vertex_array(program, used, self._index)
        return self._arrays[key]

    def release(self) -> None:
        for array in self._arrays.values():
            array.release()
        for name in ('_shape', '_shape_index', '_position', '_normal', '_colour', '_white', '_uv', '_index'):
            getattr(self, name).release()
