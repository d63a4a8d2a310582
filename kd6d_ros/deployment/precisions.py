"""All ONNX files of one network: FP32, FP16 and two of INT8 from one calibration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx

from kd6d_ros.deployment import quantise as q
from kd6d_ros.deployment.equalise import equalise
from kd6d_ros.deployment.equality import check_equal
from kd6d_ros.deployment.half import to_half
from kd6d_ros.deployment.onnx_export import export_graph, trace_graph
from kd6d_ros.deployment.prepare import prepare
from kd6d_ros.deployment.sensitivity import left_in_float, measure_parts
from kd6d_ros.deployment.storage import shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.networks.make_network import AnyNetwork
    from kd6d_ros.types import ImageArray

PRECISIONS = ('fp32', 'fp16', 'int8', 'int8-cpu')
"""What this version can write."""
INT8 = tuple(q.TYPES)
EQUALISED_ON, SENSITIVITY_ON = 64, 8
"""Calibration inputs for the ranges of channels, and for the error of each part."""


@dataclass
class Files:
    """path by precision; facts: what the report says about the quantisation."""

    paths: dict[str, Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def write_precisions(
    network: AnyNetwork,
    bundle: Bundle,
    precisions: Sequence[str],
    inputs: Sequence[ImageArray],
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> Files:
    """Write FP32, which the others are compared with, and the `precisions` into `folder`.

    Args:
        network: with weights rounded as the file stores them.
        inputs: to calibrate on, (H, W, 3) uint8 RGB of crop or frame size; needed for INT8 only.

    Raises:
        EngineError: FP32 or FP16 does not compute what PyTorch does.
    """
    size, cells = bundle.network.crop_size, bundle.network.max_cells
    files = Files()
    files.paths['fp32'] = _save(export_graph(network, size, cells), folder, 'fp32')
    check_equal(network, files.paths['fp32'], bundle)
    if set(precisions) == {'fp32'}:
        return files
    prepared = prepare(trace_graph(network, size, cells))
    if 'fp16' in precisions:
        write_half(prepared, folder, files)
        check_equal(network, files.paths['fp16'], bundle, 'fp16')
    write_int8(prepared, bundle, precisions, inputs, folder, files, progress)
    return files


def write_half(prepared: onnx.ModelProto, folder: Path, files: Files) -> None:
    """Write FP16 into `folder`; `files` gets its path.

    Raises:
        EngineError: a weight is beyond float16.
    """
    files.paths['fp16'] = _save(to_half(prepared), folder, 'fp16')


def write_int8(
    prepared: onnx.ModelProto,
    bundle: Bundle,
    precisions: Sequence[str],
    inputs: Sequence[ImageArray],
    folder: Path,
    files: Files,
    progress: Callable[[str, int, int], None],
) -> None:
    """Write those of `precisions` that are INT8, from one calibration; `files` gets their paths and its facts.

    Args:
        prepared: from ``prepare.prepare``; changed in place.
        inputs: see ``write_precisions``.
    """
    wanted = [name for name in INT8 if name in precisions]
    if not wanted:
        return
    classes, size = len(bundle.objects), bundle.network.crop_size
    equalised = equalise(prepared, inputs[:EQUALISED_ON], classes)
    ranges = q.calibrate(prepared, inputs, classes)
    crops = [image for image in inputs if image.shape[:2] == (size, size)] or list(inputs)
    parts = measure_parts(
        prepared, ranges, wanted[-1], crops[:SENSITIVITY_ON], classes,
        lambda done, total: progress('sensitivity, part', done, total),
    )  # fmt: skip
    kept = left_in_float(parts)
    names = [name for part in kept for name in part.nodes]
    for precision in wanted:
        model = q.quantise(prepared, ranges, precision, names)
        shrink(model, weights_in_int8=precision == 'int8-cpu')
        files.paths[precision] = _save(model, folder, precision)
    files.facts = {
        'method': q.METHOD,
        'inputs': len(inputs),
        'equalised': equalised,
        'parts': len(parts),
        'left_in_float': [{'nodes': list(part.nodes), 'error': round(part.error, 2)} for part in kept],
    }


def _save(model: onnx.ModelProto, folder: Path, precision: str) -> Path:
    path = folder / f'model_{precision}.onnx'
    onnx.save(model, path)
    return path
