"""The bundle record of a checkpoint, without files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd6d_ros.inference.bundle_records import LAYOUTS, Bundle, DecodeSpec, NetworkSpec
from kd6d_ros.training.checkpoint import DenseCheckpoint
from kd6d_ros.training.validation import bundle_of

if TYPE_CHECKING:
    from kd6d_ros.training.checkpoint import AnyCheckpoint

LEAST_MASK = 0.5
"""A cell is on an object that it shows likelier than not."""

MOST_CELLS = 1000
"""Of one object for PnP: more cost time and hardly move the pose."""


def bundle_of_checkpoint(checkpoint: AnyCheckpoint) -> Bundle:
    """What the robot will know about the network and its objects. A dense network that was trained on crops only does
    not search whole frames."""
    parameters = int(checkpoint.facts.get('parameters', 0))
    if not isinstance(checkpoint, DenseCheckpoint):
        return bundle_of(checkpoint.recipe, checkpoint.objects, parameters)
    recipe = checkpoint.recipe
    spec, inputs = recipe.network, recipe.input
    searches = inputs.frame_size and recipe.sampling.window_fraction > 0
    network = NetworkSpec(
        inputs.crop_size, inputs.crop_padding,
        (inputs.frame_size[0], inputs.frame_size[1]) if searches else None,
        max_cells=0, levels=(), layout=LAYOUTS['dense'], parameters=parameters,
        architecture=f'{spec.backbone} decoder {spec.decoder} channels {spec.channels}', code_stride=spec.code_stride,
    )  # fmt: skip
    return Bundle(
        recipe.name, checkpoint.objects, network, DecodeSpec(LEAST_MASK, MOST_CELLS), kind='dense',
        books=checkpoint.books,
    )  # fmt: skip
