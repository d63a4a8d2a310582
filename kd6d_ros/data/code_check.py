"""Whether codes hold what a pose needs: render code maps, decode them, solve, compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd6d_ros.data.code_maps import CodeLookup
from kd6d_ros.data.renderer.records import Lights, RenderItem
from kd6d_ros.data.renderer.renderer import Renderer
from kd6d_ros.data.scenes.placement import random_rotation
from kd6d_ros.errors import MeshError
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.transforms import rotation_angle
from kd6d_ros.inference.code_cloud import code_cloud
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.pnp_codes import solve_codes
from kd6d_ros.inference.surface_codes import bits_of
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.types import AnyArray, Camera, FloatArray, ObjectModel

FOCAL = 600.0
"""Of the image [px]; the map has a fraction of it, see ``map_camera``."""

DISTANCE = (0.5, 1.2)
"""[m]"""

PADDING = 1.25
"""Side of the window over the diameter as it is seen."""

CERTAIN = 30.0
"""Logit of a bit that is known."""


class PoseGap(NamedTuple):
    """Difference of a pose that was solved from a code map: shift [m] and turn [rad]; NaN where none was found."""

    shift: float
    turn: float


def check_codes(
    model: ObjectModel, book: CodeBook, poses: int, rng: np.random.Generator, size: int = 64
) -> list[PoseGap]:
    """Random poses against those solved from their code maps of size x size cells, with every bit known.

    Raises:
        MeshError: the object has no mesh.
        MissingDependencyError: no moderngl or no EGL device.
    """
    if model.mesh is None:
        raise MeshError(f'{model.name}: code maps need its mesh')
    lookup, renderer, gaps = CodeLookup((book,)), Renderer(size, size), []
    for _ in range(poses):
        pose = _random_pose(model, rng)
        camera = map_camera(model, pose, size)
        depth = renderer.render(camera, [RenderItem(model.mesh, pose)], Lights(())).depth
        mask, code = code_map(depth, camera, pose, lookup)
        found = solve_codes(code_cloud(mask, code, book, Crop(0.0, 0.0, 1.0, size, size)), camera, 1.0)
        gaps.append(PoseGap(np.nan, np.nan) if found is None else _gap(found.cam_from_obj, pose))
    renderer.release()
    return gaps


def code_map(
    depth: AnyArray, camera: Camera, pose: RigidTransform, lookup: CodeLookup
) -> tuple[FloatArray, FloatArray]:
    """Mask (H, W) and code (16, H, W) logits, all certain, of the one object in depth (H, W) [m]."""
    rows, columns = np.nonzero(depth > 0)
    rays = np.stack([columns, rows, np.ones(len(rows))], 1) @ np.linalg.inv(camera.matrix).T
    points = pose.inverse().apply(rays * depth[rows, columns, None])
    codes = lookup.codes(np.zeros(len(rows), np.int64), points)
    code = np.zeros((16, *depth.shape))
    code[:, rows, columns] = CERTAIN * (2.0 * bits_of(codes).T - 1.0)
    return np.where(depth > 0, CERTAIN, -CERTAIN), code


def map_camera(model: ObjectModel, pose: RigidTransform, size: int) -> Camera:
    """The camera whose pixels are the cells of a window around the object."""
    centre = pose.apply(_middle(model)[None])[0]
    seen = FOCAL * model.diameter / centre[2]
    focal = FOCAL * size / (PADDING * seen)
    middle = (size - 1) / 2 - focal * centre[:2] / centre[2]
    matrix = np.array([[focal, 0.0, middle[0]], [0.0, focal, middle[1]], [0.0, 0.0, 1.0]])
    return make_camera(matrix, size, size)


def _random_pose(model: ObjectModel, rng: np.random.Generator) -> RigidTransform:
    """The box's centre anywhere in view, the object turned at random."""
    rotation, depth = random_rotation(rng), rng.uniform(*DISTANCE)
    centre = np.array([*rng.uniform(-0.3, 0.3, 2) * depth, depth])
    return RigidTransform(rotation, centre - rotation @ _middle(model))


def _middle(model: ObjectModel) -> FloatArray:
    """Centre (3,) of the object's box [m]."""
    out: FloatArray = (model.keypoints.min(0) + model.keypoints.max(0)) / 2
    return out


def _gap(pose: RigidTransform, truth: RigidTransform) -> PoseGap:
    shift = float(np.linalg.norm(pose.translation - truth.translation))
    return PoseGap(shift, rotation_angle(pose.rotation, truth.rotation))
