"""Further precisions for a bundle, from the FP32 network that it holds: no checkpoint is needed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from kd6d_ros.deployment.accuracy import REFERENCE
from kd6d_ros.deployment.export_data import check_request, open_data
from kd6d_ros.deployment.precisions import Files, write_half, write_int8
from kd6d_ros.deployment.prepare import prepare
from kd6d_ros.deployment.report import Progress, judge
from kd6d_ros.errors import ConfigError, EngineError
from kd6d_ros.inference.bundle import load_bundle, with_engines
from kd6d_ros.inference.engines.network_io import network_bytes, one_line
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.inference.bundle_records import Bundle


@dataclass(frozen=True)
class PrecisionsRequest:
    """What to add to which bundle. out: may be the bundle's own folder; name: '' keeps that of the bundle; the rest as
    in ``ExportRequest``."""

    bundle: Path
    out: Path
    precisions: Sequence[str]
    name: str = ''
    calibration: Path | None = None
    calibration_images: int = 128
    evaluate: Path | None = None
    evaluate_instances: int = 500
    allow_drop: Sequence[str] = ()


def add_precisions(request: PrecisionsRequest, progress: Progress = lambda what, done, total: None) -> Bundle:
    """Write the bundle with `precisions` beside those it has, and a new report of all of them; nothing is written when
    something is wrong. Its FP32 file stays byte for byte; FP16 and INT8 are measured against it on renders.

    Raises:
        BundleError: no bundle, or one without FP32.
        ConfigError: nothing to add, a precision that this version cannot write, a dense network, nothing to calibrate
            or measure on, or a precision that loses too much.
        DatasetError, BagError: nothing usable in the folder or bag to calibrate or measure on.
        EngineError: the bundle's FP32 file is no network that can be quantised.
    """
    check_request(request)
    bundle = load_bundle(request.bundle)
    source = bundle.engine_path(REFERENCE)
    wanted = [name for name in request.precisions if name != REFERENCE]
    if not wanted:
        raise ConfigError(f'--bundle {request.bundle}: --precisions must name what to add: fp16, int8 or int8-cpu')
    if bundle.kind != 'keypoints':
        raise ConfigError(f'--bundle {request.bundle}: holds a {bundle.kind} network: export it from its checkpoint')
    data = open_data(request, bundle, _held_out_fraction(request, bundle))
    OnnxRuntimeEngine(bundle, source, REFERENCE)  # says what is wrong with a file that is none of ours
    with tempfile.TemporaryDirectory() as folder:
        try:
            prepared = prepare(onnx.load_from_string(network_bytes(source)))
        except Exception as error:  # whatever ONNX Runtime's tools find in a file
            raise EngineError(f'{source}: cannot be made ready for fewer bits: {one_line(error)}') from error
        files = Files({name: bundle.engine_path(name) for name in bundle.engines})
        if 'fp16' in wanted:
            write_half(prepared, Path(folder), files)
        write_int8(prepared, bundle, wanted, data.inputs(), Path(folder), files, progress)
        measured, report = judge(bundle, files, data, request.allow_drop, progress)
        engines = {name: files.paths[name] for name in wanted}
        return with_engines(bundle, request.out, engines=engines, measured=measured, report=report, name=request.name)


def _held_out_fraction(request: PrecisionsRequest, bundle: Bundle) -> float:
    """Which share of its set the bundle's training held out.

    Raises:
        ConfigError: the bundle does not say, and no other set is given to measure on.
    """
    values: object = bundle.training
    for key in ('recipe', 'data', 'validation_fraction'):
        values = values.get(key) if isinstance(values, dict) else None
    if isinstance(values, float) and 0.0 < values < 1.0:
        return values
    if request.evaluate is None:
        raise ConfigError(
            f'--bundle {request.bundle}: does not say which images its training held out: give renders with --evaluate'
        )
    return 0.0
