"""The synth recipe: what a scene may contain. Ranges are [low, high]; metres, pixels, probabilities."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml

from kd6d_ros.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

Range = tuple[float, float]


@dataclass(frozen=True)
class SceneRecipe:
    """How scenes are composed."""

    distance_m: Range = (0.35, 1.5)
    targets: Range = (5, 8)
    distractors: Range = (4, 9)
    table_probability: float = 0.55
    upright_probability: float = 0.35
    empty_probability: float = 0.03
    occluder_probability: float = 0.3
    elevation_deg: Range = (8.0, 90.0)
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
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8')) or {}
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read ({error.strerror})') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: not valid YAML ({" ".join(str(error).split())})') from error
    recipe: SynthRecipe = _build(SynthRecipe, content, str(path), '')
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


def _build(cls: Any, content: Any, source: str, prefix: str) -> Any:
    if not isinstance(content, dict):
        raise ConfigError(f'{source}: {prefix.rstrip(".") or "the recipe"} must be a mapping of settings')
    known = {f.name: f for f in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    values = {}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise ConfigError(f"{source}: unknown setting '{prefix}{key}'; did you mean '{prefix}{near[0]}'?")
        values[key] = _value(hints[key], value, source, prefix + key)
    return cls(**values)


def _value(hint: Any, value: Any, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, name + '.')
    if hint in (int, float):
        return _number(hint, value, source, name)
    length = len(hint.__args__)
    if not isinstance(value, (list, tuple)) or len(value) != length:
        raise ConfigError(f'{source}: {name} must be a list of {length} numbers, got {value!r}')
    numbers = tuple(_number(kind, x, source, name) for kind, x in zip(hint.__args__, value, strict=True))
    if length == 2 and hint.__args__[0] is float and numbers[0] > numbers[1]:
        raise ConfigError(f'{source}: {name} = {list(numbers)}: the low end is above the high end')
    return numbers


def _number(kind: Any, value: Any, source: str, name: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f'{source}: {name} must be a number, got {value!r}')
    if kind is int and int(value) != value:
        raise ConfigError(f'{source}: {name} must be a whole number, got {value!r}')
    if name.endswith('probability') and not 0.0 <= value <= 1.0:
        raise ConfigError(f'{source}: {name} = {value}: a probability lies in 0..1')
    return kind(value)
