"""Views of the rover in other worlds than the demo bag's: what is drawn by lot, and how one view is rendered.

A world is drawn from (seed, number), a view of it from (seed, number, index): neither depends on how many others there
are. Frames are those of demo_scene.py; poses are cam_from_obj in the optical frame, metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from kd6d_ros.data import demo_scene
from kd6d_ros.data.bop_write import ImageRecord, InstanceRecord
from kd6d_ros.data.demo_scene import Thing, World, turned
from kd6d_ros.data.renderer.records import Light, Lights
from kd6d_ros.data.renderer.renderer import Renderer
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.transforms import look_at
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kd6d_ros.data.demo_scene import Can, Carton
    from kd6d_ros.data.renderer.records import RenderItem
    from kd6d_ros.types import AnyArray, Camera, FloatArray, ImageArray

OBJ_ID = 1
WIDTH, HEIGHT = 640, 480
MARGIN = 320
"""Pixels around the image in which the rover's whole silhouette is counted; at 0.5 m it is 220 pixels long."""

FOCUS = np.array([0.0, 0.0, 0.05])
"""About the rover's centre [m]."""
DISTANCES = (0.5, 1.2)
"""Of the camera from the focus [m]."""
LEAST_VISIBLE = 0.3
PADDLE_SHARE = 0.55
KEPT_CLUTTER = 0.8
STREAM = 640_480
"""Leads every seed of these worlds, so that they share no random numbers with other sets of the same seed."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """Camera, light and sensor of one world: sun (3,) direction towards it in the world frame; sky: brightness of the
    ambient light; tint (3,) factors of RGB; blur [px] and noise [of 255] are standard deviations."""

    camera: Camera
    sun: FloatArray
    sky: float
    tint: FloatArray
    blur: float
    noise: float


def draw_world(rng: np.random.Generator) -> World:
    """A world with its own textures, stance of the rover and clutter."""
    film = World()
    cartons, cans = _turn(rng), _turn(rng)
    return World(
        # Above the film's seed, so that the bag's own world is never among them.
        seed=int(rng.integers(film.seed + 1, 2**31)),
        object_yaw=float(rng.uniform(0.0, 2 * math.pi)),
        cartons=tuple(_carton(rng, cartons, item) for item in film.cartons if rng.random() < KEPT_CLUTTER),
        cans=tuple(_can(rng, cans, item) for item in film.cans if rng.random() < KEPT_CLUTTER),
    )


def _turn(rng: np.random.Generator) -> FloatArray:
    """A rotation (2, 2) about the table's centre."""
    angle = rng.uniform(0.0, 2 * math.pi)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _carton(rng: np.random.Generator, turn: FloatArray, carton: Carton) -> Carton:
    x, y, _, size = carton
    place = turn @ (np.array([x, y]) * rng.uniform((0.85, 0.9), 1.3) + [rng.uniform(-0.03, 0.03), 0.0])
    length, width, height = (float(side) for side in np.array(size) * rng.uniform(0.8, 1.2, 3))
    return float(place[0]), float(place[1]), float(rng.uniform(0.0, 2 * math.pi)), (length, width, height)


def _can(rng: np.random.Generator, turn: FloatArray, can: Can) -> Can:
    x, y = turn @ np.array(can[:2])
    return float(x), float(y), float(can[2] * rng.uniform(0.8, 1.2)), can[3]


def draw_conditions(rng: np.random.Generator) -> Conditions:
    """Camera, light and sensor of a world."""
    focal, cx, cy = rng.uniform((560.0, WIDTH / 2 - 5.0, HEIGHT / 2 - 5.0), (660.0, WIDTH / 2 + 5.0, HEIGHT / 2 + 5.0))
    return Conditions(
        camera=make_camera(np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]]), WIDTH, HEIGHT),
        sun=rng.normal(size=3) * [1.0, 1.0, 0.2] + [0.0, 0.0, 1.2],
        sky=float(rng.uniform(0.3, 0.5)),
        tint=rng.uniform(0.92, 1.08, 3),
        blur=float(rng.uniform(0.5, 1.0)),
        noise=float(rng.uniform(0.5, 3.0)),
    )


def scene_lights(conditions: Conditions, rng: np.random.Generator, cam_from_world: RigidTransform) -> Lights:
    """The lights of a world in the camera's frame; their strength differs from view to view."""
    sun = cam_from_world.rotation @ conditions.sun
    colour = np.array([1.0, 0.98, 0.94]) * rng.uniform(0.8, 1.15)
    return Lights(
        lights=(Light(sun / np.linalg.norm(sun), colour),),
        sky=np.full(3, conditions.sky),
        ground=np.full(3, 0.55 * conditions.sky),
        up=cam_from_world.rotation[:, 2],
        softness_px=1.0,
        shadow_strength=0.8,
    )


def sense(conditions: Conditions, rng: np.random.Generator, rgb: ImageArray) -> ImageArray:
    """The sensor: lens blur, tint, exposure and noise."""
    blurred = cv2.GaussianBlur(rgb.astype(np.float64), (0, 0), conditions.blur)
    image = blurred * conditions.tint * rng.uniform(0.85, 1.15)
    image += rng.normal(0.0, conditions.noise, image.shape)
    sensed: ImageArray = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return sensed


def views(seed: int, number: int, count: int) -> Iterator[ImageRecord]:
    """Render views 0..count-1 of world `number`, the rover at least LEAST_VISIBLE visible in each.

    Raises:
        MissingDependencyError: no moderngl or no EGL device.
    """
    rng = np.random.default_rng((STREAM, seed, number))
    stage = _Stage(draw_world(rng), draw_conditions(rng))
    try:
        for index in range(count):
            yield stage.view(np.random.default_rng((STREAM, seed, number, index)), index)
    finally:
        stage.release()


class _Stage:
    """A world that is set up: its things, its conditions, and the renderers."""

    def __init__(self, world: World, conditions: Conditions) -> None:
        self._conditions, camera = conditions, conditions.camera
        self._rover, self._things = demo_scene.rover(world), demo_scene.still_things(world)
        self._board = demo_scene.paddle(world)
        matrix = camera.matrix + np.array([[0.0, 0.0, MARGIN], [0.0, 0.0, MARGIN], [0.0, 0.0, 0.0]])
        self._wide_camera = make_camera(matrix, WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN)
        self._renderer = Renderer(WIDTH, HEIGHT)
        self._wide = Renderer(self._wide_camera.width, self._wide_camera.height)

    def release(self) -> None:
        self._renderer.release()
        self._wide.release()

    def view(self, rng: np.random.Generator, index: int) -> ImageRecord:
        """The first view that `rng` draws in which enough of the rover is seen."""
        while True:
            cam_from_world, paddle = self._place(rng)
            rover = self._rover.item(cam_from_world, OBJ_ID)
            items = [rover, *(thing.item(cam_from_world) for thing in (*self._things, *paddle))]
            frame = self._renderer.render(
                self._conditions.camera, items, scene_lights(self._conditions, rng, cam_from_world)
            )
            instance = self._instance(rover, frame.ids == OBJ_ID)
            seen = np.count_nonzero(instance.mask_visible)
            if seen and seen >= LEAST_VISIBLE * (instance.pixels_all or 0):
                break
        image = sense(self._conditions, rng, frame.rgb)
        return ImageRecord(index, self._conditions.camera, image, None, (instance,), cam_from_world)

    def _place(self, rng: np.random.Generator) -> tuple[RigidTransform, list[Thing]]:
        """Where the camera is, and the paddle if it is before the rover."""
        azimuth, elevation = rng.uniform(0.0, 2 * math.pi), math.radians(rng.uniform(25.0, 58.0))
        flat = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
        side, up = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0]), np.array([0.0, 0.0, 1.0])
        away = rng.uniform(*DISTANCES) * (math.cos(elevation) * flat + math.sin(elevation) * up)
        aim = FOCUS + rng.uniform(-0.15, 0.15) * side + rng.uniform(-0.08, 0.08) * up
        cam_from_world = look_at(FOCUS + away, aim)
        if rng.random() >= PADDLE_SHARE:
            return cam_from_world, []
        centre = FOCUS + rng.uniform(0.25, 0.5) * away
        centre = centre + rng.choice([-1.0, 1.0]) * rng.uniform(0.02, 0.075) * side + rng.uniform(-0.03, 0.04) * up
        yaw = azimuth + math.pi / 2 + rng.uniform(-0.6, 0.6)
        return cam_from_world, [Thing(self._board, turned(yaw, centre), roughness=0.5)]

    def _instance(self, rover: RenderItem, visible: AnyArray) -> InstanceRecord:
        whole = self._wide.full_mask(self._wide_camera, rover)
        x, y, width, height = cv2.boundingRect(whole.view(np.uint8))
        box = np.array([x, y, x + width - 1.0, y + height - 1.0]) - MARGIN
        inside = np.ascontiguousarray(whole[MARGIN : MARGIN + HEIGHT, MARGIN : MARGIN + WIDTH])
        return InstanceRecord(OBJ_ID, rover.cam_from_obj, inside, visible, box, int(np.count_nonzero(whole)))
