"""The demo's film: where camera and paddle are at each moment, the lights, and the camera's sensor.

Ten seconds at 30 Hz, 640x480. The camera circles the table, looks away for a second and comes back; a paddle
passes in front of the rover twice. Ground truth is the pose in the middle of the exposure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data import demo_scene
from kd6d_ros.data.renderer.records import Light, Lights
from kd6d_ros.data.renderer.renderer import Renderer
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.transforms import look_at
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kd6d_ros.data.renderer.records import RenderItem
    from kd6d_ros.types import AnyArray, Camera, FloatArray, ImageArray, Mesh

FRAMES = 300
RATE_HZ = 30.0
WIDTH, HEIGHT = 640, 480
FOCAL_PX = 612.0
CENTRE_PX = (322.4, 241.7)
EXPOSURE_S = 0.006
EXPOSURE_STEPS = 3
SENSOR_SEED = 77_013
LENS_BLUR_PX = 0.8
NOISE = 0.8
"""Standard deviation of the noise at full brightness, of 255."""
WIDE_MARGIN = 320
"""Pixels around the image in which the object's whole silhouette is still counted."""

# time [s], azimuth [deg], elevation [deg], distance [m], aim: right [m], up [m]
KEYS = np.array(
    [
        [0.0, -104.0, 34.0, 0.86, 0.02, 0.02],
        [1.4, -84.0, 40.0, 0.72, -0.04, 0.03],
        [2.8, -60.0, 47.0, 0.58, 0.05, -0.01],
        [4.2, -36.0, 42.0, 0.70, 0.00, 0.04],
        [5.2, -22.0, 36.0, 0.82, 0.10, 0.03],
        [5.75, -16.0, 33.0, 0.90, 0.85, 0.08],
        [6.25, -11.0, 32.0, 0.92, 0.95, 0.10],
        [6.8, -6.0, 33.0, 0.94, 0.08, 0.05],
        [8.0, 8.0, 38.0, 1.12, -0.10, 0.00],
        [9.0, 22.0, 46.0, 0.96, 0.04, 0.02],
        [10.0, 36.0, 52.0, 0.78, 0.00, 0.00],
    ]
)

# time [s], paddle's offset to the right of the line of sight [m], and above it [m]
PADDLE = np.array(
    [
        [0.0, -0.45, 0.05],
        [1.5, -0.40, 0.05],
        [2.0, -0.048, 0.02],
        [3.0, -0.036, 0.01],
        [3.5, -0.042, 0.02],
        [4.2, -0.40, 0.05],
        [4.6, -0.42, 0.06],
        [6.2, 0.42, 0.06],
        [7.1, 0.42, 0.05],
        [7.5, 0.050, 0.02],
        [8.7, 0.045, 0.01],
        [8.95, -0.052, 0.02],
        [9.3, -0.060, 0.03],
        [9.7, -0.40, 0.06],
        [10.0, -0.45, 0.06],
    ]
)
PADDLE_DEPTH = 0.34
"""Where the paddle is on the way from the rover (0) to the camera (1)."""


@dataclass(frozen=True, eq=False)
class DemoFrame:
    """One image (480, 640, 3) uint8 RGB with the truth about the rover in it."""

    index: int
    image: ImageArray
    camera: Camera
    cam_from_obj: RigidTransform
    visible_fraction: float
    occluded_fraction: float
    """Share of the silhouette inside the image that other things hide; visible_fraction also counts what
    lies outside the image as unseen."""


def demo_camera(margin: int = 0) -> Camera:
    """The film's camera; `margin` widens the image on all sides without moving the view."""
    matrix = np.array(
        [
            [FOCAL_PX, 0.0, CENTRE_PX[0] + margin],
            [0.0, FOCAL_PX, CENTRE_PX[1] + margin],
            [0.0, 0.0, 1.0],
        ]
    )
    return make_camera(matrix, WIDTH + 2 * margin, HEIGHT + 2 * margin)


def smooth(keys: AnyArray, time: float) -> FloatArray:
    """Monotone cubic through keys (n, 1 + k): column 0 the time [s]. Never overshoots a key's value."""
    t, values = keys[:, 0], keys[:, 1:]
    slope = np.diff(values, axis=0) / np.diff(t)[:, None]
    product, total = slope[1:] * slope[:-1], slope[1:] + slope[:-1]
    inner = np.where(product > 0, 2 * product / np.where(product > 0, total, 1.0), 0.0)
    tangent = np.concatenate([slope[:1], inner, slope[-1:]])
    i = int(np.clip(np.searchsorted(t, time, side='right') - 1, 0, len(t) - 2))
    h = t[i + 1] - t[i]
    u = min(max((time - t[i]) / h, 0.0), 1.0)
    a, b = (1 + 2 * u) * (1 - u) ** 2, u * (1 - u) ** 2
    c, d = u * u * (3 - 2 * u), u * u * (u - 1)
    result: FloatArray = a * values[i] + b * h * tangent[i] + c * values[i + 1] + d * h * tangent[i + 1]
    return result


def cam_from_world(time: float) -> RigidTransform:
    """Where the camera is and looks at `time` [s]."""
    azimuth, elevation, distance, right, up = smooth(KEYS, time)
    azimuth, elevation = math.radians(azimuth), math.radians(elevation)
    focus = np.array([0.0, 0.0, 0.05])
    away = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    eye = focus + distance * away
    side = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    sway = 0.01 * math.sin(2.1 * time)
    return look_at(eye, focus + right * side + (up + sway) * np.array([0.0, 0.0, 1.0]))


def world_from_paddle(time: float) -> RigidTransform:
    """Where the paddle hangs at `time` [s]; its board faces the camera."""
    right, up = smooth(PADDLE, time)
    azimuth, elevation, distance = smooth(KEYS, time)[:3]
    azimuth, elevation = math.radians(azimuth), math.radians(elevation)
    away = np.array([math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth)])
    reach = PADDLE_DEPTH * distance
    height = 0.05 + reach * math.sin(elevation) + up
    side = np.array([-math.sin(azimuth), math.cos(azimuth)])
    x, y = reach * away + right * side
    return demo_scene.turned(azimuth + math.pi / 2 + 0.25 * math.sin(3.0 * time), (x, y, height))


def _lights(view: RigidTransform) -> Lights:
    def direction(x: float, y: float, z: float) -> FloatArray:
        vector: FloatArray = view.rotation @ np.array([x, y, z])
        return vector / np.linalg.norm(vector)

    lamp = view.apply(np.array([[-0.9, -0.7, 1.3]]))[0]
    return Lights(
        lights=(
            Light(direction(0.55, -0.35, 1.0), np.array([1.05, 1.0, 0.92])),
            Light(lamp, np.array([0.45, 0.42, 0.36]), point=True, reference_m=1.6),
        ),
        sky=np.array([0.40, 0.42, 0.46]),
        ground=np.array([0.24, 0.21, 0.18]),
        up=direction(0.0, 0.0, 1.0),
        softness_px=1.0,
        shadow_strength=0.85,
    )


def sense(linear_mean: FloatArray, rng: np.random.Generator, time: float) -> ImageArray:
    """The sensor: lens blur, vignetting, slowly wandering exposure and white balance, noise.

    linear_mean (H, W, 3): the exposure's mean image, 0 to 255 sRGB. Returns uint8.
    """
    import cv2

    image = cv2.GaussianBlur(linear_mean, (0, 0), LENS_BLUR_PX)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius = ((x - CENTRE_PX[0]) ** 2 + (y - CENTRE_PX[1]) ** 2) / (WIDTH / 2) ** 2
    gain = 1.0 + 0.06 * math.sin(0.9 * time + 0.4)
    balance = np.array([1.03, 1.0, 0.95]) + 0.015 * math.sin(0.6 * time)
    image = image * (gain * (1.0 - 0.09 * radius))[..., None] * balance
    image = image + rng.normal(0.0, NOISE, image.shape) * (0.5 + image / 255.0)
    sensed: ImageArray = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return sensed


def film(frames: Sequence[int] = range(FRAMES)) -> Iterator[DemoFrame]:
    """Render the frames with these numbers, in this order.

    Raises:
        MissingDependencyError: no moderngl or no EGL device.
    """
    renderer, wide = Renderer(WIDTH, HEIGHT), None
    camera, wide_camera = demo_camera(), demo_camera(WIDE_MARGIN)
    world = demo_scene.World()
    rover, things, board = demo_scene.rover(world), demo_scene.still_things(world), demo_scene.paddle(world)
    try:
        wide = Renderer(wide_camera.width, wide_camera.height)
        for index in frames:
            middle = index / RATE_HZ
            total = np.zeros((HEIGHT, WIDTH, 3))
            for step in range(EXPOSURE_STEPS):
                moment = middle + EXPOSURE_S * ((step + 0.5) / EXPOSURE_STEPS - 0.5)
                view = cam_from_world(moment)
                items = _items(view, moment, rover, things, board)
                frame = renderer.render(camera, items, _lights(view))
                total += frame.rgb
                if 2 * step + 1 == EXPOSURE_STEPS:
                    middle_item, ids = items[0], frame.ids
            whole = wide.full_mask(wide_camera, middle_item)
            inside = whole[WIDE_MARGIN : WIDE_MARGIN + HEIGHT, WIDE_MARGIN : WIDE_MARGIN + WIDTH].sum()
            seen = int((ids == 1).sum())
            rng = np.random.default_rng((SENSOR_SEED, index))
            yield DemoFrame(
                index=index,
                image=sense(total / EXPOSURE_STEPS, rng, middle),
                camera=camera,
                cam_from_obj=middle_item.cam_from_obj,
                visible_fraction=min(1.0, seen / whole.sum()) if seen else 0.0,
                occluded_fraction=max(0.0, 1.0 - seen / inside) if inside else 0.0,
            )
    finally:
        renderer.release()
        if wide is not None:
            wide.release()


def _items(
    view: RigidTransform,
    time: float,
    rover: demo_scene.Thing,
    things: list[demo_scene.Thing],
    board: Mesh,
) -> list[RenderItem]:
    paddle = demo_scene.Thing(board, world_from_paddle(time), roughness=0.5)
    return [rover.item(view, obj_id=1), *(thing.item(view) for thing in (*things, paddle))]
