"""Random lights and materials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data.renderer.records import Light, Lights, Material

if TYPE_CHECKING:
    from kd6d_ros.data.scenes.recipe import LookRecipe
    from kd6d_ros.types import AnyArray, FloatArray

    Rng = np.random.Generator

LUMA = np.array([0.2126, 0.7152, 0.0722])


def unit_vector(rng: Rng) -> FloatArray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _tint(rng: Rng, spread: float) -> FloatArray:
    """A light colour of luma near one: warm to cold, a little green to magenta."""
    warmth, green = rng.normal(0.0, spread), rng.normal(0.0, 0.3 * spread)
    return np.exp([warmth, green, -warmth])


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def random_lights(rng: Rng, look: LookRecipe, up: AnyArray, scene_distance: float) -> Lights:
    """A key light with shadows from above (`up` (3,) unit, camera frame), others, and ambient light."""
    direction = unit_vector(rng)
    while direction @ up < 0.25:
        direction = unit_vector(rng)
    ambient = log_uniform(rng, *look.ambient)
    lights = [Light(direction, _tint(rng, look.light_tint) * log_uniform(rng, *look.key_light))]
    for _ in range(int(rng.integers(int(look.extra_lights[0]), int(look.extra_lights[1]) + 1))):
        colour = _tint(rng, 2.0 * look.light_tint) * rng.uniform(0.1, 0.9)
        away = unit_vector(rng)
        if away @ up < 0:
            away = -away
        if rng.random() < 0.5:
            lights.append(Light(away, colour))
        else:
            position = np.array([0.0, 0.0, scene_distance]) + away * rng.uniform(0.4, 1.5)
            lights.append(Light(position, colour, point=True, reference_m=float(rng.uniform(0.4, 1.0))))
    sky = _tint(rng, look.light_tint) * ambient
    return Lights(
        tuple(lights),
        sky=sky,
        ground=sky * rng.uniform(0.25, 0.9) * _tint(rng, look.light_tint),
        up=np.asarray(up, np.float64),
        shadows=bool(rng.random() < look.shadow_probability),
        softness_px=float(rng.uniform(*look.shadow_softness_px)),
        shadow_strength=float(rng.uniform(*look.shadow_strength)),
    )


def colour_jitter(rng: Rng, hue_deg: float, saturation: tuple[float, float], gain: tuple[float, float],
                  channel_gain: float) -> FloatArray:  # fmt: skip
    """A colour matrix (3, 3) on linear RGB: rotate the hue, scale saturation, brightness and channels."""
    angle = np.radians(rng.uniform(-hue_deg, hue_deg))
    axis = np.full(3, 1 / np.sqrt(3.0))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    hue = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    amount = rng.uniform(*saturation)
    grey = np.tile(LUMA, (3, 1))
    channels = np.exp(rng.normal(0.0, channel_gain, 3)) * log_uniform(rng, *gain)
    matrix: FloatArray = np.diag(channels) @ (amount * np.eye(3) + (1.0 - amount) * grey) @ hue
    return matrix


def random_material(rng: Rng, look: LookRecipe, texture: AnyArray | None = None, wild: bool = False) -> Material:
    """A material with the look's ranges; `wild` (distractors) changes colours freely."""
    metallic = float(rng.uniform(0.1, 1.0)) if rng.random() < look.metallic_probability else 0.0
    if wild:
        matrix = colour_jitter(rng, 180.0, (0.3, 1.5), (0.4, 1.8), 0.3)
    else:
        matrix = colour_jitter(rng, look.hue_deg, look.saturation, look.gain, look.channel_gain)
    return Material(
        roughness=float(rng.uniform(*look.roughness)),
        metallic=metallic if wild else 0.4 * metallic,
        specular=float(rng.uniform(*look.specular)),
        colour_matrix=matrix,
        texture=texture,
    )
