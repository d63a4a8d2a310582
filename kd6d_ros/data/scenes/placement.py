"""Where things stand: table scenes and free-floating clutter, without gross interpenetration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.data.scenes.recipe import SceneRecipe
    from kd6d_ros.types import AnyArray, Camera, FloatArray

    Rng = np.random.Generator

TRIES = 30


def random_rotation(rng: Rng) -> FloatArray:
    """Uniform over SO(3): a normalised Gaussian quaternion."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_about_z(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Solid:
    """What placement needs of a mesh: a few extreme points (n, 3) [m] and a bounding sphere."""

    points: FloatArray
    centre: FloatArray
    radius: float

    @staticmethod
    def of(vertices: AnyArray) -> Solid:
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        centre = 0.5 * (low + high)
        step = max(1, len(vertices) // 300)
        radius = float(np.linalg.norm(vertices - centre, axis=1).max())
        return Solid(np.asarray(vertices[::step], np.float64), centre, radius)

    def scaled(self, scale: tuple[float, float, float]) -> Solid:
        return Solid.of(self.points * scale)


@dataclass(frozen=True)
class Table:
    """cam_from_table: z is the normal, the origin lies on the optical axis. yaw [rad]: turn of its x axis from the
    camera's, about the normal."""

    cam_from_table: RigidTransform
    yaw: float = 0.0


def random_table(rng: Rng, recipe: SceneRecipe, distance: float) -> Table:
    """A plane seen under a random elevation; the camera is level in some scenes and rolled in others."""
    low, high = np.radians(recipe.elevation_deg)
    elevation = np.arcsin(rng.uniform(np.sin(low), np.sin(high)))
    if rng.random() < recipe.level_roll_probability:
        roll = rng.normal(0.0, np.radians(12.0))
    else:
        roll = rng.uniform(-np.pi, np.pi)
    normal = np.array([0.0, -np.cos(elevation), -np.sin(elevation)])
    axes = np.stack([np.array([1.0, 0.0, 0.0]), np.cross(normal, [1.0, 0.0, 0.0]), normal], axis=1)
    yaw = float(rng.uniform(0, 2 * np.pi))
    turn = rotation_about_z(roll) @ axes @ rotation_about_z(yaw)
    return Table(RigidTransform(turn, np.array([0.0, 0.0, distance])), yaw)


class Arrangement:
    """Places solids one after another, in the frame and apart from each other."""

    def __init__(self, rng: Rng, recipe: SceneRecipe, camera: Camera, distance: float, table: Table | None):
        self._rng = rng
        self._recipe = recipe
        self._camera = camera
        self._distance = distance
        self._table = table
        self._spheres: list[tuple[FloatArray, float]] = []
        self._cluster: tuple[FloatArray, float] | None = None
        if rng.random() < recipe.cluster_probability:
            self._cluster = (rng.uniform(0.3, 0.7, 2), float(rng.uniform(*recipe.cluster_spread)))

    def place(self, solid: Solid, upright_ok: bool = True) -> RigidTransform | None:
        """cam_from_obj of a free place, or None after TRIES attempts."""
        for _ in range(TRIES):
            pose = self._on_table(solid, upright_ok) if self._table else self._floating(solid)
            if pose is not None and self._claim(solid, pose):
                return pose
        return None

    def place_before(self, solid: Solid, target: Solid, target_pose: RigidTransform) -> RigidTransform | None:
        """A pose of `solid` between the camera and a target, hiding a part of it."""
        centre = target_pose.apply(target.centre[None])[0]
        for _ in range(TRIES // 3):
            nearer = 1.0 - (target.radius + solid.radius) / centre[2] * self._rng.uniform(0.8, 1.6)
            if centre[2] * nearer < 0.6 * self._recipe.distance_m[0]:
                return None
            offset = np.append(self._rng.normal(size=2), 0.0)
            offset *= self._rng.uniform(0.3, 1.1) * (0.6 * target.radius + solid.radius) / np.linalg.norm(offset)
            rotation = random_rotation(self._rng)
            middle = (centre + offset) * nearer
            pose = RigidTransform(rotation, middle - rotation @ solid.centre)
            if self._claim(solid, pose):
                return pose
        return None

    def lay(self, height: float) -> RigidTransform | None:
        """A place flat on the table, its origin `height` [m] above it; nothing is kept clear of it."""
        for _ in range(TRIES):
            foot = self._hit()
            if foot is not None and self._table is not None:
                plane = self._table.cam_from_table.rotation
                turned = plane @ rotation_about_z(self._rng.uniform(0, 2 * np.pi))
                return RigidTransform(turned, foot + plane[:, 2] * height)
        return None

    def _claim(self, solid: Solid, pose: RigidTransform) -> bool:
        centre = pose.apply(solid.centre[None])[0]
        for other, radius in self._spheres:
            if np.linalg.norm(other - centre) < self._recipe.overlap * (radius + solid.radius):
                return False
        self._spheres.append((centre, solid.radius))
        return True

    def _ray(self) -> FloatArray:
        """A ray with z = 1 through a random pixel of the frame widened by the margin."""
        margin = self._recipe.frame_margin
        camera = self._camera
        if self._cluster is not None and self._rng.random() < 0.85:
            place = np.clip(self._rng.normal(*self._cluster), -margin, 1 + margin)
        else:
            place = self._rng.uniform(-margin, 1 + margin, 2)
        u, v = place * (camera.width - 1, camera.height - 1)
        return np.linalg.solve(camera.matrix, np.array([u, v, 1.0]))

    def _floating(self, solid: Solid) -> RigidTransform | None:
        low, high = self._recipe.distance_m
        depth = float(np.clip(self._distance * self._rng.uniform(0.7, 1.45), low, high))
        rotation = random_rotation(self._rng)
        return RigidTransform(rotation, self._ray() * depth - rotation @ solid.centre)

    def _on_table(self, solid: Solid, upright_ok: bool) -> RigidTransform | None:
        assert self._table is not None
        plane = self._table.cam_from_table
        normal = plane.rotation[:, 2]
        hit = self._hit()
        if hit is None:
            return None
        if upright_ok and self._rng.random() < self._recipe.upright_probability:
            rotation = rotation_about_z(self._yaw())
        else:
            rotation = random_rotation(self._rng)
        lowest = float((solid.points @ rotation[2]).min())
        lift = float(self._rng.exponential(0.01)) if self._rng.random() < 0.4 else 0.0
        turned = plane.rotation @ rotation
        middle = turned @ solid.centre
        foot = hit - (middle - normal * float(middle @ normal))
        return RigidTransform(turned, foot + normal * (lift - lowest))

    def _yaw(self) -> float:
        """Angle [rad] about the table's normal; a limited range counts from the camera's x axis."""
        assert self._table is not None
        low, high = np.radians(self._recipe.yaw_deg)
        if high - low >= 2 * np.pi - 1e-9:
            return float(self._rng.uniform(0, 2 * np.pi))
        return float(self._rng.uniform(low, high)) - self._table.yaw

    def _hit(self) -> FloatArray | None:
        """Where a random ray meets the table (3,) [m], if within the distance range."""
        assert self._table is not None
        plane = self._table.cam_from_table
        normal = plane.rotation[:, 2]
        ray = self._ray()
        slope = float(ray @ normal)
        if slope > -1e-3:
            return None
        hit: FloatArray = ray * float(plane.translation @ normal) / slope
        low, high = self._recipe.distance_m
        return hit if low <= hit[2] <= high else None
