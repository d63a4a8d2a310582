"""The table that the camera sees: worlds of kd6d_ros.data.demo_world_views, the rover anywhere on the table.

A world (room, textures, light, camera, shapes of the clutter) is drawn from (STREAM, seed, world), a trial from
(STREAM, seed, world, trial): where the rover and the clutter stand. Images come from the package's renderer, so the
network meets what it knows; MuJoCo has the same table, rover and clutter. World frame: z up, the table top at z = 0,
metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data import demo_scene
from kd6d_ros.data.demo_scene import Thing, turned
from kd6d_ros.data.demo_world_views import draw_conditions, draw_world, scene_lights, sense
from kd6d_ros.data.renderer.renderer import Renderer

if TYPE_CHECKING:
    from kd6d_ros.types import ImageArray, RigidTransform

STREAM = 640_481
"""Leads every seed here: no random numbers are shared with the views of kd6d_ros.data.demo_worlds (640_480)."""
TABLE = (0.0, 0.06, *demo_scene.TABLE_SIZE)
"""Centre x, y and size x, y, thickness [m]."""
EDGE = 0.10
"""Least distance of the rover's centre from the table's edge [m]: its half diagonal is 0.085."""
ROOM = 0.16
"""Space [m] between the rover's centre and any clutter, for the hand."""
CLUTTER = 6
"""Most pieces of clutter in a trial."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A thing that may stand on the table: its looks, and its MuJoCo geom about the centre of its foot."""

    thing: Thing
    geom: str
    radius: float


@dataclass(frozen=True, eq=False)
class Trial:
    """Where things stand: `clutter` by the number of the piece."""

    number: int
    world_from_obj: RigidTransform
    clutter: dict[int, RigidTransform]


class GraspWorld:
    """One world, set up for rendering."""

    def __init__(self, seed: int, number: int) -> None:
        """
        Raises:
            MissingDependencyError: no moderngl or no EGL device.
        """
        self._seed, self.number = seed, number
        rng = np.random.default_rng((STREAM, seed, number))
        world = draw_world(rng)
        self._conditions = draw_conditions(rng)
        self.camera = self._conditions.camera
        self.rover = demo_scene.rover(world)
        room, table, *clutter = demo_scene.still_things(world)
        self._room = [room, table]
        self.pieces = [_piece(thing) for thing in clutter]
        self._renderer = Renderer(self.camera.width, self.camera.height)

    def release(self) -> None:
        self._renderer.release()

    def trial(self, number: int) -> Trial:
        """The rover anywhere on the table, upright, turned anyhow; clutter anywhere else."""
        rng = np.random.default_rng((STREAM, self._seed, self.number, number))
        reach = np.array([TABLE[2], TABLE[3]]) / 2 - EDGE
        place = np.array(TABLE[:2]) + rng.uniform(-reach, reach)
        height = -float(self.rover.mesh.vertices[:, 2].min())
        pose = turned(float(rng.uniform(0.0, 2 * math.pi)), (*place, height))
        return Trial(number, pose, self._scatter(rng, place))

    def _scatter(self, rng: np.random.Generator, rover: np.ndarray) -> dict[int, RigidTransform]:
        """Clutter that touches neither each other nor the hand's way."""
        taken = [(rover, ROOM)]
        out = {}
        for index in rng.permutation(len(self.pieces))[:CLUTTER]:
            radius = self.pieces[index].radius
            reach = np.array([TABLE[2], TABLE[3]]) / 2 - radius
            place = np.array(TABLE[:2]) + rng.uniform(-reach, reach)
            yaw = float(rng.uniform(0.0, 2 * math.pi))
            if all(np.linalg.norm(place - other) > radius + room for other, room in taken):
                taken.append((place, radius))
                out[int(index)] = turned(yaw, (*place, 0.0))
        return out

    def image(
        self, trial: Trial, world_from_obj: RigidTransform, cam_from_world: RigidTransform, look: int
    ) -> ImageArray:
        """What the camera sees, (H, W, 3) uint8 RGB; `look` numbers the images of a trial."""
        rng = np.random.default_rng((STREAM, self._seed, self.number, trial.number, look))
        clutter = [replace(self.pieces[index].thing, world_from_thing=pose) for index, pose in trial.clutter.items()]
        things = [replace(self.rover, world_from_thing=world_from_obj), *self._room, *clutter]
        items = [thing.item(cam_from_world) for thing in things]
        lights = scene_lights(self._conditions, rng, cam_from_world)
        return sense(self._conditions, rng, self._renderer.render(self.camera, items, lights).rgb)


def _piece(thing: Thing) -> Piece:
    """A carton has eight corners, a can is round."""
    points = np.unique(np.round(thing.mesh.vertices, 6), axis=0)
    low, high = points.min(axis=0), points.max(axis=0)
    half, middle = (high - low) / 2, (high[2] + low[2]) / 2
    if len(points) == 8:
        geom = f'<geom type="box" pos="0 0 {middle:.6g}" size="{half[0]:.6g} {half[1]:.6g} {half[2]:.6g}"/>'
        return Piece(thing, geom, float(np.hypot(*half[:2])))
    geom = f'<geom type="cylinder" pos="0 0 {middle:.6g}" size="{half[:2].max():.6g} {half[2]:.6g}"/>'
    return Piece(thing, geom, float(half[:2].max()))
