"""What VSD needs of a dataset: its depth images, and depth rendered from its meshes with our renderer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Sequence

from kd6d_ros.data.renderer.records import Lights, Material, RenderItem
from kd6d_ros.data.renderer.renderer import Renderer
from kd6d_ros.errors import DatasetError, MeshError
from kd6d_ros.evaluation.visible_surface import VisibleSurface
from kd6d_ros.geometry.ply import read_ply

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Dict, Tuple

    from kd6d_ros.data.bop import BopDataset, Target
    from kd6d_ros.types import Camera, Float32Array, Mesh, RigidTransform

MILLIMETRE = 0.001


class DepthViews:
    """Renders the depth of one object alone; meshes are obj_000001.ply [mm] of a BOP models folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._meshes: Dict[int, Mesh] = {}
        self._renderers: Dict[Tuple[int, int], Renderer] = {}

    def renderer(self, width: int, height: int) -> Renderer:
        """The renderer of a size, made at the first call.

        Raises:
            ConfigError, MissingDependencyError: see ``Renderer``.
        """
        if (width, height) not in self._renderers:
            self._renderers[width, height] = Renderer(width, height)
        return self._renderers[width, height]

    def mesh(self, obj_id: int) -> Mesh:
        """
        Raises:
            MeshError: no such file, or no faces in it.
        """
        if obj_id not in self._meshes:
            path = self._folder / f'obj_{obj_id:06d}.ply'
            mesh = read_ply(path, MILLIMETRE)
            if not len(mesh.faces):
                raise MeshError(f'{path}: has no faces, so no depth can be rendered of it')
            self._meshes[obj_id] = mesh
        return self._meshes[obj_id]

    def depth(self, obj_id: int, cam_from_obj: RigidTransform, camera: Camera) -> Float32Array:
        """Depth (H, W) [m] of the object in this pose, 0 elsewhere."""
        item = RenderItem(self.mesh(obj_id), cam_from_obj, Material(ignore_vertex_colours=True), 1)
        return self.renderer(camera.width, camera.height).render(camera, [item], Lights(())).depth


def visible_surface(
    dataset: BopDataset, split: str, wanted: Sequence[Target], models: Path, delta: float
) -> VisibleSurface:
    """VSD over the images of the targets; `delta` [m].

    Raises:
        DatasetError: a target's image has no depth. MissingDependencyError: nothing renders here.
        MeshError: a mesh without faces.
    """
    images = sorted({(target.scene_id, target.image_id) for target in wanted})
    for scene_id, of_scene in itertools.groupby(images, key=lambda image: image[0]):
        scene = dataset.scene(split, scene_id)
        for _, image_id in of_scene:
            if scene.depth_path(image_id) is None:
                raise DatasetError(
                    f'scene {scene_id} image {image_id} has no depth image; '
                    f'expected {scene.folder / "depth" / f"{image_id:06d}.png"}'
                )
        dataset.forget(split, scene_id)
    views = DepthViews(models)
    for obj_id in sorted({target.obj_id for target in wanted}):
        views.mesh(obj_id)
    first = wanted[0]
    camera = dataset.scene(split, first.scene_id).camera(first.image_id)
    views.renderer(camera.width, camera.height)
    return VisibleSurface(views.depth, lambda scene_id, image_id: dataset.scene(split, scene_id).depth(image_id), delta)
