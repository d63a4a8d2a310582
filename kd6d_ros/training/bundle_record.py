"""The bundle record of a network in training, without files: what the robot will know about it and its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd6d_ros.inference.bundle_records import LAYOUTS, Bundle, DecodeSpec, LevelSpec, NetworkSpec
from kd6d_ros.networks.surface import SURFACE_STRIDE
from kd6d_ros.training.checkpoint import DenseCheckpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.training.checkpoint import AnyCheckpoint
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.types import ObjectModel

LEAST_MASK = 0.5
"""A cell is on an object that it shows likelier than not."""

MOST_CELLS = 1000
"""Of one object for PnP: more cost time and hardly move the pose."""


def bundle_of(
    recipe: Recipe, objects: tuple[ObjectModel, ...], books: Sequence[CodeBook] = (), parameters: int = 0
) -> Bundle:
    """The record that a network of `recipe` has; books: surface codes of its objects, for a dense one. A dense network
    that was trained on crops only does not search whole frames."""
    inputs = recipe.input
    size = (inputs.frame_size[0], inputs.frame_size[1]) if inputs.frame_size else None
    if recipe.network.kind != 'dense':
        decode = DecodeSpec(0.1, recipe.assignment.cells_per_object, recipe.assignment.sharpness)
        return Bundle(recipe.name, objects, _keypoint_network(recipe, size, parameters), decode)
    searched = size if recipe.sampling.window_fraction > 0 else None
    network, decode = _dense_network(recipe, searched, parameters), DecodeSpec(LEAST_MASK, MOST_CELLS)
    return Bundle(recipe.name, objects, network, decode, kind='dense', books=tuple(books))


def bundle_of_checkpoint(checkpoint: AnyCheckpoint) -> Bundle:
    """That of a checkpoint."""
    books = checkpoint.books if isinstance(checkpoint, DenseCheckpoint) else ()
    return bundle_of(checkpoint.recipe, checkpoint.objects, books, int(checkpoint.facts.get('parameters', 0)))


def _keypoint_network(recipe: Recipe, frame_size: tuple[int, int] | None, parameters: int) -> NetworkSpec:
    spec, inputs = recipe.network, recipe.input
    levels = tuple(LevelSpec(s, a) for s, a in zip(spec.strides, spec.anchor_sizes, strict=True))
    architecture = (
        f'{spec.backbone} strides {list(spec.strides)} channels {spec.channels} x{spec.head_convs} {spec.norm}'
        + (f' surface {spec.surface}' if spec.surface else '')
    )
    return NetworkSpec(
        inputs.crop_size, inputs.crop_padding, frame_size, inputs.max_cells, levels,
        parameters=parameters, architecture=architecture,
        surface_stride=SURFACE_STRIDE if spec.surface else None,
    )  # fmt: skip


def _dense_network(recipe: Recipe, frame_size: tuple[int, int] | None, parameters: int) -> NetworkSpec:
    spec, inputs = recipe.network, recipe.input
    return NetworkSpec(
        inputs.crop_size, inputs.crop_padding, frame_size,
        max_cells=0, levels=(), layout=LAYOUTS['dense'], parameters=parameters,
        architecture=f'{spec.backbone} decoder {spec.decoder} channels {spec.channels}', code_stride=spec.code_stride,
    )  # fmt: skip
