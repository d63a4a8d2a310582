"""Which parts of a network eight bits hurt most: those are left in float.

Each convolution is quantised alone, and what that does to the scores, corner offsets and surface points is measured. A
few stand out in every network: depthwise kernels whose weights cancel each other, and the last hidden layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from kd6d_ros.deployment.graph_parts import final_convolutions, readers_of
from kd6d_ros.deployment.prepare import ACTIVATIONS
from kd6d_ros.deployment.quantise import quantisable, quantise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from kd6d_ros.types import AnyArray, ImageArray

CLEARLY_WORSE = 2.0
"""Times the median error of all parts: from here on a part stays in float."""
MOST_IN_FLOAT = 6
"""Parts that stay in float at most, the worst ones."""


class Part(NamedTuple):
    """A convolution with its activation, and what quantising it alone does: relative error (RMS) of scores, corner
    offsets or surface points, whichever suffers most, in medians over all parts."""

    nodes: tuple[str, ...]
    error: float


def measure_parts(
    prepared: onnx.ModelProto,
    ranges: Any,
    precision: str,
    images: Sequence[ImageArray],
    classes: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Part]:
    """All parts, the most sensitive first.

    Args:
        ranges: from ``calibrate`` of the same network. images: (H, W, 3) uint8 RGB.
    """
    names = quantisable(prepared.graph)
    wanted = _outputs(prepared, images, classes)
    parts = _parts(prepared.graph, names)
    errors = []
    for done, nodes in enumerate(parts, start=1):
        alone = quantise(prepared, ranges, precision, [name for name in names if name not in nodes])
        got = _outputs(alone, images, classes)
        errors.append([_relative(a, b) for a, b in zip(wanted, got, strict=True)])
        if progress is not None:
            progress(done, len(parts))
    table = np.array(errors)
    worst = (table / np.maximum(np.median(table, axis=0), 1e-12)).max(axis=1)
    return sorted((Part(nodes, float(e)) for nodes, e in zip(parts, worst, strict=True)), key=lambda part: -part.error)


def left_in_float(parts: Sequence[Part]) -> list[Part]:
    """The parts of ``measure_parts`` that stay in float."""
    return [part for part in parts if part.error > CLEARLY_WORSE][:MOST_IN_FLOAT]


def _parts(graph: onnx.GraphProto, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Each convolution with the activation that alone reads it; those that share their weights are one part."""
    readers, known = readers_of(graph), set(names)
    by_weight: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type == 'Conv' and node.name in known:
            behind = readers.get(node.output[0], [])
            after = [behind[0].name] if len(behind) == 1 and behind[0].op_type in ACTIVATIONS else []
            by_weight.setdefault(node.input[1], []).extend([node.name, *after])
    return [tuple(nodes) for nodes in by_weight.values()]


def _outputs(model: onnx.ModelProto, images: Sequence[ImageArray], classes: int) -> list[list[AnyArray]]:
    """Per final convolution what it gives for each image."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    made_by = {node.name: node.output[0] for node in model.graph.node}
    names = [made_by[name] for name in final_convolutions(model.graph)]
    wider.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(wider.SerializeToString(), options, providers=['CPUExecutionProvider'])
    every = np.ones((1, classes), dtype=bool)
    runs = [session.run(names, {'image': image[None], 'classes': every}) for image in images]
    return [list(values) for values in zip(*runs, strict=True)]


def _relative(wanted: Sequence[AnyArray], got: Sequence[AnyArray]) -> float:
    """Channel by channel, because a mask's logits are much larger than a point's coordinates."""
    gaps = sum(np.square(a - b).sum(axis=(0, 2, 3)) for a, b in zip(wanted, got, strict=True))
    sizes = sum(np.square(a).sum(axis=(0, 2, 3)) for a in wanted)
    return float(np.sqrt(gaps / np.maximum(sizes, 1e-12)).mean())
