"""Training recipes: YAML to frozen dataclasses; an unknown key is an error that names the nearest right one.

No torch here, so that a wrong recipe is refused before the first costly second.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd6d_ros.distillation.settings import DistillationSettings
from kd6d_ros.errors import ConfigError
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.strict_yaml import from_mapping, parse_setting, read_mapping

__all__ = [
    'AssignmentRecipe',
    'AugmentationRecipe',
    'DataRecipe',
    'InputRecipe',
    'LossRecipe',
    'OptimiserRecipe',
    'Recipe',
    'SamplingRecipe',
    'TrainRecipe',
    'from_mapping',
    'load_recipe',
    'to_mapping',
]


@dataclass(frozen=True)
class DataRecipe:
    """train: BOP dataset folder (as `kd6d synth` writes it). split: its split. models: folder of the meshes
    (default: train/models). objects: names in the order of the network's classes (default: all).
    validation_fraction: share of the scenes kept for validation. cache: folder for the packed frames. codes: folder
    that `kd6d codes` wrote, for a dense network."""

    train: str = ''
    split: str = 'train'
    models: str = ''
    objects: tuple[str, ...] = ()
    validation_fraction: float = 0.03
    cache: str = 'runs/cache'
    codes: str = ''


@dataclass(frozen=True)
class InputRecipe:
    """crop_size [px] of the network; crop_padding: side of the window over the longer side of the box;
    frame_size: width and height for whole frames, empty when the bundle cannot find; max_cells: candidates
    that the exported graph returns."""

    crop_size: int = 128
    crop_padding: float = 1.5
    frame_size: tuple[int, ...] = (640, 480)
    max_cells: int = 256


@dataclass(frozen=True)
class AssignmentRecipe:
    """cells_per_object: positives per object over all levels; sharpness: lambda of the level allocation."""

    cells_per_object: int = 16
    sharpness: float = 1.0


@dataclass(frozen=True)
class SamplingRecipe:
    """window_fraction: share of native-scale windows of whole frames (negatives included), the rest are
    zoomed crops; window_scale: range of the scale of those windows; projected_fraction: share of zoomed
    crops drawn around the projected 3D box, the rest around the visible mask; empty_fraction: share of zoomed crops
    moved to where none of the objects is, for a network that shall tell its places apart; min_visible: least visible
    fraction of an object that a crop is made for; label_visible: least visible fraction of a labelled
    object; crops_per_frame: drawn from one decoded frame; buffer: crops that are shuffled; pool: 0 draws new crops
    without end, n draws n of them once, with pool_seed, and trains on these (a teacher is then asked once)."""

    window_fraction: float = 0.25
    window_scale: tuple[float, float] = (0.8, 1.25)
    projected_fraction: float = 0.5
    empty_fraction: float = 0.0
    min_visible: float = 0.15
    label_visible: float = 0.05
    crops_per_frame: int = 6
    buffer: int = 512
    pool: int = 0
    pool_seed: int = 0


@dataclass(frozen=True)
class AugmentationRecipe:
    """Probabilities and strengths of the photometric changes of a crop (0 switches one off)."""

    colour: float = 0.8
    contrast: float = 0.35
    brightness: float = 0.3
    saturation: float = 0.5
    hue: float = 0.04
    grey: float = 0.05
    blur: float = 0.2
    noise: float = 0.4
    sharpen: float = 0.15
    cutout: float = 0.3


@dataclass(frozen=True)
class LossRecipe:
    """score: weight of the focal term; keypoints_3d: of the corner error in units of the diameter;
    keypoints_2d: of the corner error in units of the object's size in the crop; surface: of the surface branch
    (mask and points [diameters]); beta: SmoothL1 knee of all three. Of a dense network: mask: of the masks, code: of
    the bits."""

    score: float = 0.1
    keypoints_3d: float = 1.0
    keypoints_2d: float = 0.5
    surface: float = 2.0
    beta: float = 0.02
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    mask: float = 1.0
    code: float = 3.0


@dataclass(frozen=True)
class OptimiserRecipe:
    """AdamW with one cycle: linear warm-up over `warmup` of the steps, then cosine to 0.2 % of lr. backbone_lr:
    factor of lr for the backbone (0.2 for one that starts from ImageNet: more forgets it)."""

    lr: float = 1e-3
    backbone_lr: float = 1.0
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip_norm: float = 1.0
    ema: float = 0.999


@dataclass(frozen=True)
class TrainRecipe:
    """steps: optimiser steps; precision, accelerator, devices, strategy as in Lightning's Trainer;
    workers: loader processes per device; validate_every: steps between validations."""

    batch_size: int = 32
    steps: int = 10000
    precision: str = 'bf16-mixed'
    accelerator: str = 'auto'
    devices: int = 1
    strategy: str = 'auto'
    workers: int = 1
    threads: int = 0
    validate_every: int = 1000
    validation_crops: int = 512


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run. out: folder for checkpoints and logs. initial_weights: a checkpoint,
    a bundle folder, 'imagenet' (efficientnet_lite0), or a state dict (.pth, .safetensors) for a timm: backbone."""

    name: str = 'run'
    out: str = ''
    seed: int = 1
    initial_weights: str = ''
    data: DataRecipe = field(default_factory=DataRecipe)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    input: InputRecipe = field(default_factory=InputRecipe)
    assignment: AssignmentRecipe = field(default_factory=AssignmentRecipe)
    sampling: SamplingRecipe = field(default_factory=SamplingRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    train: TrainRecipe = field(default_factory=TrainRecipe)

    @property
    def folder(self) -> Path:
        return Path(self.out or f'runs/{self.name}')


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply ``key.sub=value`` overrides.

    Raises:
        ConfigError: unreadable YAML, unknown key (names the nearest right one), wrong type, value out of range.
    """
    raw = read_mapping(path)
    for text in overrides or []:
        _apply_override(raw, text)
    recipe = from_mapping(Recipe, raw, str(path))
    _check(recipe, str(path))
    return recipe


def to_mapping(recipe: Any) -> dict[str, Any]:
    """Plain dictionary of a recipe, as stored in checkpoints and manifests."""
    return _plain(dataclasses.asdict(recipe))  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _apply_override(raw: dict[str, Any], text: str) -> None:
    key, value = parse_setting(text, f'override {text!r}', 'train.steps=2000')
    *parents, last = key.split('.')
    node = raw
    for name in parents:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ConfigError(f'override {text!r}: {name} is a value, not a group')
        node = child
    node[last] = value


OF_KIND = {
    'keypoints': (
        'network.strides', 'network.head_convs', 'network.norm', 'network.surface', 'input.max_cells',
        'assignment.cells_per_object', 'assignment.sharpness', 'loss.score',
        'loss.keypoints_3d', 'loss.keypoints_2d', 'loss.surface', 'loss.beta', 'loss.focal_alpha', 'loss.focal_gamma',
        'distillation.cells', 'distillation.sharpness', 'distillation.within_mask', 'distillation.surface',
        'distillation.adlp.coordinates', 'distillation.adlp.student_cells',
    ),
    'dense': (
        'network.decoder', 'data.codes', 'loss.mask', 'loss.code', 'distillation.pooling', 'distillation.adlp.every',
        'distillation.adlp.place',
    ),
}  # fmt: skip
"""Settings that say something to networks of one kind only; a recipe of the other leaves them at their defaults."""


def _check_kind(recipe: Recipe, where: str) -> None:
    kind = recipe.network.kind
    for other, names in OF_KIND.items():
        changed = [name for name in names if other != kind and _setting(recipe, name) != _setting(Recipe(), name)]
        if changed:
            raise ConfigError(
                f'{where}: {changed[0]} belongs to network.kind: {other}, but this recipe has network.kind: {kind}; '
                'leave it out'
            )
    if kind == 'dense' and not recipe.data.codes:
        raise ConfigError(
            f'{where}: data.codes is missing: a dense network learns the surface codes that `kd6d codes --out` wrote'
        )
    if recipe.network.decoder == 'aspp' and recipe.train.batch_size < 2:
        raise ConfigError(f'{where}: network.decoder: aspp normalises over a batch; train.batch_size must be 2 or more')


def _setting(recipe: Recipe, name: str) -> Any:
    value: Any = recipe
    for part in name.split('.'):
        value = getattr(value, part)
    return value


def _check(recipe: Recipe, where: str) -> None:
    _check_kind(recipe, where)
    multiple = recipe.network.input_multiple
    sizes = (recipe.input.crop_size, *recipe.input.frame_size)
    if any(size % multiple or size <= 0 for size in sizes):
        raise ConfigError(f'{where}: input sizes {sizes} must be multiples of {multiple}')
    if len(recipe.input.frame_size) not in (0, 2):
        raise ConfigError(f'{where}: input.frame_size needs width and height, or [] for none')
    if not recipe.data.train:
        raise ConfigError(f'{where}: data.train is missing: the folder that `kd6d synth --out` wrote')
    positive = {
        'train.steps': recipe.train.steps,
        'train.batch_size': recipe.train.batch_size,
        'optimiser.lr': recipe.optimiser.lr,
        'optimiser.backbone_lr': recipe.optimiser.backbone_lr,
        'assignment.cells_per_object': recipe.assignment.cells_per_object,
        'sampling.crops_per_frame': recipe.sampling.crops_per_frame,
        'sampling.buffer': recipe.sampling.buffer,
        'input.max_cells': recipe.input.max_cells,
        'input.crop_padding': recipe.input.crop_padding,
        'loss.beta': recipe.loss.beta,
        'train.devices': recipe.train.devices,
        'train.validate_every': recipe.train.validate_every,
    }
    for name, value in positive.items():
        if value <= 0:
            raise ConfigError(f'{where}: {name} must be positive, got {value}')
    whole = {'train.workers': recipe.train.workers, 'seed': recipe.seed, 'sampling.pool': recipe.sampling.pool,
             'sampling.pool_seed': recipe.sampling.pool_seed}  # fmt: skip
    for name, value in whole.items():
        if value < 0:
            raise ConfigError(f'{where}: {name} must not be negative, got {value}')
    if recipe.sampling.window_scale[0] <= 0:
        raise ConfigError(f'{where}: sampling.window_scale = {list(recipe.sampling.window_scale)}: must be above 0')
    recipe.distillation.check(where)
    if recipe.network.kind == 'dense' and recipe.distillation.used:
        side, pooling = recipe.input.crop_size // recipe.network.code_stride, recipe.distillation.pooling
        if side % pooling:
            raise ConfigError(
                f'{where}: distillation.pooling: maps of {side} px do not divide into squares of {pooling}'
            )
    for name, value in dataclasses.asdict(recipe.augmentation).items():
        if not 0 <= value <= 1:
            raise ConfigError(f'{where}: augmentation.{name} must lie in [0, 1], got {value}')
