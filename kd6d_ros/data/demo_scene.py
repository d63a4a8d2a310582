"""The demo's worlds: the rover on a cluttered table in a room, every surface painted here.

`World()` is the world of the demo bag, which demo_film.py films. Of it only the rover is used elsewhere: `kd6d synth`
renders it for training. The rest, from seed and clutter to path, lights and sensor, serves no training, threshold
or calibration. The other worlds of demo_worlds.py share the shapes of room, table and paddle and the manner of
painting; they may choose between networks, as the bag's own is never among them.
World frame: x right, y away from the first view, z up, origin on the table top, metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data import demo_paint as paint
from kd6d_ros.data.demo_mesh import Painter, Patch, box, cylinder, painted_mesh
from kd6d_ros.data.demo_object import build_demo_object
from kd6d_ros.data.renderer.records import Material, RenderItem
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.data.demo_paint import Canvas, Colour
    from kd6d_ros.types import Mesh

Carton = tuple[float, float, float, tuple[float, float, float]]
Can = tuple[float, float, float, float]

TABLE_SIZE = (1.5, 1.0, 0.04)
ROOM_SIZE = (5.2, 4.6, 2.9)
TABLE_HEIGHT = 0.74


@dataclass(frozen=True)
class World:
    """What may differ between worlds; room and table keep their shapes. The defaults are the world of the film.

    seed: of everything painted but the rover. object_yaw [rad]: how the rover stands. cartons: place x, y [m],
    yaw [rad], (length, width, height) [m]. cans: place x, y, radius, height [m].
    """

    seed: int = 20_261_120
    object_yaw: float = math.radians(38.0)
    cartons: tuple[Carton, ...] = (
        # x, y, yaw, (length, width, height)
        (-0.26, 0.16, 0.5, (0.16, 0.06, 0.21)),
        (0.24, 0.22, -0.4, (0.19, 0.13, 0.06)),
        (0.25, 0.21, 0.3, (0.12, 0.09, 0.16)),
        (-0.36, -0.16, 0.9, (0.21, 0.15, 0.035)),
        (0.36, -0.06, 1.2, (0.10, 0.07, 0.09)),
        (-0.02, 0.30, 0.1, (0.24, 0.05, 0.17)),
        (-0.20, -0.02, -0.5, (0.07, 0.05, 0.05)),
        (0.17, -0.19, 0.8, (0.11, 0.06, 0.025)),
        (-0.52, 0.10, 0.2, (0.14, 0.20, 0.25)),
        (0.55, 0.20, -0.2, (0.12, 0.16, 0.12)),
    )
    cans: tuple[Can, ...] = (
        # x, y, radius, height
        (0.15, 0.10, 0.033, 0.12),
        (-0.14, 0.19, 0.040, 0.10),
        (-0.45, 0.30, 0.036, 0.23),
        (0.41, 0.12, 0.030, 0.17),
        (-0.10, -0.21, 0.026, 0.05),
        (0.32, -0.24, 0.038, 0.11),
        (-0.29, -0.34, 0.032, 0.09),
    )


@dataclass(frozen=True, eq=False)
class Thing:
    """A still thing of the world with its place and roughness."""

    mesh: Mesh
    world_from_thing: RigidTransform
    roughness: float = 0.6
    casts_shadow: bool = True

    def item(self, cam_from_world: RigidTransform, obj_id: int = 0) -> RenderItem:
        """The thing as a camera sees it, with `obj_id` in the id buffer."""
        pose = cam_from_world @ self.world_from_thing
        return RenderItem(self.mesh, pose, Material(self.roughness), obj_id, casts_shadow=self.casts_shadow)


def turned(yaw: float, position: Sequence[float]) -> RigidTransform:
    """A rotation by `yaw` [rad] about z, then a move to `position` (3,) [m]."""
    c, s = math.cos(yaw), math.sin(yaw)
    return RigidTransform(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), np.array(position))


def rover(world: World) -> Thing:
    """The demo object, standing on the table at the origin."""
    mesh = build_demo_object()
    height = -float(mesh.vertices[:, 2].min())
    return Thing(mesh, turned(world.object_yaw, (0.0, 0.0, height)), roughness=0.45)


def _wood(world: World) -> Painter:
    def draw(c: Canvas) -> None:
        rng = np.random.default_rng(world.seed)
        height, width = c.pixels.shape[:2]
        y, x = np.mgrid[:height, :width]
        plank = (y * 7 // height).astype(int)
        tone = rng.uniform(0.82, 1.1, 8)[plank]
        shift = rng.uniform(0, 50, 8)[plank]
        grain = np.sin((y + 9 * np.sin(x / 57.0 + shift)) / 6.3 + shift) * 0.05
        grain += np.sin((y * 0.35 + 16 * np.sin(x / 133.0 + shift)) / 4.7) * 0.05
        colour = np.array([176.0, 128.0, 84.0]) * (tone + grain)[..., None]
        colour[(y * 7 % height) < 14] *= 0.6
        c.pixels[:] = np.clip(colour, 0, 255).astype(np.uint8)

    return draw


def _wall(world: World, number: int, ground: Colour) -> Painter:
    """A papered wall with shelves, pictures and a skirting board."""

    def draw(c: Canvas) -> None:
        rng = np.random.default_rng((world.seed, number))
        c.fill(ground)
        c.stripes(9.0, math.pi / 2, tuple(min(255, int(v * 1.06)) for v in ground))  # type: ignore[arg-type]
        palette = (paint.BROWN, paint.NAVY, paint.GREEN, paint.RED, paint.GREY, paint.WHITE, paint.YELLOW)
        for _ in range(9):
            x, y = rng.uniform(0.02, 0.85), rng.uniform(0.08, 0.7)
            w, h = rng.uniform(0.04, 0.14), rng.uniform(0.1, 0.25)
            frame, inside = rng.choice(len(palette), 2, replace=False)
            c.rectangle(x, y, x + w, y + h, palette[frame])
            c.rectangle(x + 0.008, y + 0.02, x + w - 0.008, y + h - 0.02, palette[inside])
            c.disc(x + w / 2, y + h / 2, h * 0.2, palette[(frame + 2) % len(palette)])
        for shelf in range(2):
            y, x = 0.30 + 0.3 * shelf, rng.uniform(0.05, 0.3)
            while x < 0.9:
                width = rng.uniform(0.008, 0.03)
                c.rectangle(x, y - rng.uniform(0.07, 0.13), x + width, y, palette[rng.integers(len(palette))])
                x += width
            c.rectangle(0.05, y, 0.92, y + 0.015, paint.BROWN)
        c.rectangle(0.0, 0.95, 1.0, 1.0, paint.WHITE)

    return draw


def _floor(c: Canvas) -> None:
    c.fill((112, 110, 104))
    c.checker(14, 12, (136, 132, 122))


def _room(world: World) -> Thing:
    """Four walls, floor and ceiling: a box turned inside out."""
    walls = (
        _wall(world, 1, (196, 190, 176)),
        _wall(world, 2, (168, 184, 190)),
        _wall(world, 3, (190, 176, 160)),
        _wall(world, 4, (176, 186, 168)),
    )

    def ceiling(c: Canvas) -> None:
        c.fill((224, 222, 216))

    patches = box((0.0, 0.0, 0.0), ROOM_SIZE, (*walls, ceiling, _floor))
    place = turned(0.2, (0.3, 0.4, ROOM_SIZE[2] / 2 - TABLE_HEIGHT))
    mesh = painted_mesh(patches, 2048, 170.0)
    assert mesh.normals is not None
    inward = replace(mesh, faces=mesh.faces[:, ::-1], normals=-mesh.normals)
    return Thing(inward, place, roughness=0.95, casts_shadow=False)


PRINTS = (
    (paint.RED, paint.WHITE, paint.NAVY),
    (paint.BLUE, paint.YELLOW, paint.WHITE),
    (paint.GREEN, paint.WHITE, paint.ORANGE),
    (paint.PURPLE, paint.LIME, paint.BLACK),
    (paint.CYAN, paint.NAVY, paint.PINK),
    (paint.ORANGE, paint.BLACK, paint.CYAN),
    (paint.WHITE, paint.RED, paint.GREEN),
    (paint.BROWN, paint.YELLOW, paint.RED),
)


def _print(world: World, number: int) -> Painter:
    """A package print in three colours: the same palette as the rover, so that colour alone decides nothing."""

    def draw(c: Canvas) -> None:
        rng = np.random.default_rng((world.seed, 100 + number))
        ground, first, second = PRINTS[number % len(PRINTS)]
        c.fill(ground)
        kind = rng.integers(4)
        if kind == 0:
            c.stripes(rng.uniform(2, 5), rng.uniform(0, math.pi), first)
        elif kind == 1:
            c.checker(int(rng.integers(3, 7)), int(rng.integers(2, 6)), first)
        elif kind == 2:
            for _ in range(6):
                c.disc(rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.2), first)
        else:
            c.polygon([tuple(rng.uniform(0, 1, 2)) for _ in range(4)], first)  # type: ignore[misc]
        x, y = rng.uniform(0.05, 0.5), rng.uniform(0.1, 0.5)
        c.rectangle(x, y, x + 0.4, y + 0.3, second)
        word = ''.join(rng.choice(list(paint.GLYPHS), 2))
        c.text(word, (x + 0.05, y + 0.05, x + 0.35, y + 0.25), ground)

    return draw


def _carton(world: World, number: int, size: Sequence[float]) -> list[Patch]:
    painters = [_print(world, number * 7 + face) for face in range(6)]
    return box((0.0, 0.0, size[2] / 2), size, painters)


def _can(world: World, number: int, radius: float, height: float) -> list[Patch]:
    painters = [_print(world, number * 7 + face) for face in range(3)]
    return cylinder((0.0, 0.0, 0.0), (0.0, 0.0, height), radius, painters)


def still_things(world: World) -> list[Thing]:
    """Room, table and clutter."""

    def table_edge(c: Canvas) -> None:
        c.fill((120, 86, 58))

    painters = [table_edge] * 4 + [_wood(world), table_edge]
    table = painted_mesh(box((0.0, 0.06, -TABLE_SIZE[2] / 2), TABLE_SIZE, painters), 2048, 800.0)
    things = [_room(world), Thing(table, RigidTransform.identity(), 0.5, casts_shadow=False)]
    for index, (x, y, yaw, size) in enumerate(world.cartons):
        mesh = painted_mesh(_carton(world, index, size), 512, 700.0)
        things.append(Thing(mesh, turned(yaw, (x, y, 0.0)), 0.35 + 0.05 * (index % 5)))
    for index, (x, y, radius, height) in enumerate(world.cans):
        mesh = painted_mesh(_can(world, 50 + index, radius, height), 512, 900.0)
        things.append(Thing(mesh, turned(0.7 * index, (x, y, 0.0)), 0.25 + 0.05 * (index % 3)))
    return things


def paddle(world: World) -> Mesh:
    """The thing that passes in front: an upright post with a printed board, origin in the board's centre."""

    def post(c: Canvas) -> None:
        c.fill(paint.GREY)
        c.stripes(6.0, 0.0, paint.BLACK)

    board = box((0.0, 0.0, 0.0), (0.075, 0.012, 0.13), [_print(world, 900 + face) for face in range(6)])
    stick = box((0.0, 0.0, 0.26), (0.022, 0.022, 0.40), [post] * 6)
    return painted_mesh(board + stick, 1024, 1200.0)
