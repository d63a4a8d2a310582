"""The synth recipe: what a scene may contain. Ranges are [low, high]; metres, pixels, probabilities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kd6d_ros.errors import ConfigError
from kd6d_ros.strict_yaml import from_mapping, read_mapping

if TYPE_CHECKING:
    from pathlib import Path

Range = tuple[float, float]


@dataclass(frozen=True)
class SceneRecipe:
    """How scenes are composed. repeat_targets: one object may stand in a scene several times. yaw_deg: how far upright
    things are turned about the table's normal, their x axis from the camera's; a full turn is any direction."""

    distance_m: Range = (0.35, 1.5)
    targets: Range = (5, 8)
    repeat_targets: bool = False
    distractors: Range = (4, 9)
    table_probability: float = 0.55
    upright_probability: float = 0.35
    empty_probability: float = 0.03
    occluder_probability: float = 0.3
    elevation_deg: Range = (8.0, 90.0)
    yaw_deg: Range = (-180.0, 180.0)
    level_roll_probability: float = 0.5
    frame_margin: float = 0.06
    overlap: float = 0.62
    cluster_probability: float = 0.6
    cluster_spread: Range = (0.1, 0.25)
    sheets: Range = (0, 5)
    shape_size_m: Range = (0.03, 0.22)
    shape_probability: float = 0.6
    photo_background_probability: float = 0.75
    mesh_faces: int = 2000
    distractor_faces: int = 1500


@dataclass(frozen=True)
class LookRecipe:
    """Materials and light."""

    hue_deg: float = 6.0
    saturation: Range = (0.7, 1.9)
    gain: Range = (0.6, 1.9)
    channel_gain: float = 0.08
    roughness: Range = (0.2, 0.95)
    specular: Range = (0.2, 1.6)
    metallic_probability: float = 0.12
    key_light: Range = (0.3, 2.6)
    ambient: Range = (0.12, 0.85)
    extra_lights: Range = (0, 2)
    light_tint: float = 0.12
    shadow_probability: float = 0.9
    shadow_softness_px: Range = (0.8, 7.0)
    shadow_strength: Range = (0.5, 1.0)


@dataclass(frozen=True)
class SensorRecipe:
    """The camera after the lens: each effect strikes with its probability, strength drawn from its range."""

    exposure_stops: Range = (-0.9, 0.6)
    white_balance: float = 0.08
    gamma: Range = (0.85, 1.2)
    contrast: Range = (0.8, 1.2)
    saturation: Range = (0.75, 1.2)
    shot_noise: Range = (0.0, 0.012)
    read_noise: Range = (0.0, 0.02)
    noise_probability: float = 0.85
    noise_grain_px: Range = (0.0, 0.8)
    base_blur_px: Range = (0.35, 0.75)
    defocus_probability: float = 0.3
    defocus_px: Range = (0.5, 2.2)
    motion_probability: float = 0.2
    motion_px: Range = (2.0, 9.0)
    sharpen_probability: float = 0.5
    sharpen: Range = (0.2, 1.4)
    vignette_probability: float = 0.3
    vignette: Range = (0.05, 0.4)
    chromatic_probability: float = 0.2
    chromatic_px: Range = (0.2, 1.0)
    jpeg_probability: float = 0.5
    jpeg_quality: Range = (45, 95)


@dataclass(frozen=True)
class SynthRecipe:
    """Everything but the assets: `scene`, `look`, `sensor`, and the file format."""

    scene: SceneRecipe = field(default_factory=SceneRecipe)
    look: LookRecipe = field(default_factory=LookRecipe)
    sensor: SensorRecipe = field(default_factory=SensorRecipe)
    camera_matrix: tuple[float, float, float, float] = (572.4114, 573.57043, 325.2611, 242.04899)
    size: tuple[int, int] = (640, 480)
    jpeg_quality: int = 95


def load_recipe(path: Path | None) -> SynthRecipe:
    """Read a recipe; None gives the defaults.

    Raises:
        ConfigError: unreadable file, unknown key (the nearest one is named), wrong type or range.
    """
    if path is None:
        return SynthRecipe()
    recipe = from_mapping(SynthRecipe, read_mapping(path), str(path))
    _check(recipe, str(path))
    return recipe


LOG_RANGES = (
    'scene.distance_m', 'scene.shape_size_m', 'look.key_light', 'look.ambient', 'look.gain', 'sensor.gamma',
)  # fmt: skip
COUNTS = ('scene.targets', 'scene.distractors', 'scene.sheets', 'look.extra_lights')


def _check(recipe: SynthRecipe, source: str) -> None:
    """Bounds that a type cannot tell."""

    def value(name: str) -> Any:
        section, _, key = name.partition('.')
        return getattr(getattr(recipe, section), key)

    for name in LOG_RANGES:
        if value(name)[0] <= 0:
            raise ConfigError(f'{source}: {name} = {list(value(name))}: must be above 0')
    for name in COUNTS:
        if value(name)[0] < 0:
            raise ConfigError(f'{source}: {name} = {list(value(name))}: must not be negative')
    for name in ('scene.mesh_faces', 'scene.distractor_faces'):
        if value(name) < 4:
            raise ConfigError(f'{source}: {name} = {value(name)}: expected at least 4')
    if not all(16 <= side <= 8192 for side in recipe.size):
        raise ConfigError(f'{source}: size = {list(recipe.size)}: each side must be 16..8192 px')
    if not 1 <= recipe.jpeg_quality <= 100:
        raise ConfigError(f'{source}: jpeg_quality = {recipe.jpeg_quality}: expected 1 to 100')
