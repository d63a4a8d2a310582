"""From a checkpoint to a bundle: export, compare with PyTorch, write."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd6d_ros.deployment.bundle_meshes import bundle_meshes
from kd6d_ros.deployment.export_data import check_request, open_data
from kd6d_ros.deployment.onnx_export import rounded_weights
from kd6d_ros.deployment.precisions import write_precisions
from kd6d_ros.deployment.report import Progress, judge
from kd6d_ros.errors import ConfigError
from kd6d_ros.inference.bundle import write_bundle
from kd6d_ros.inference.bundle_records import Bundle, NetworkSpec
from kd6d_ros.networks.macs import count_macs
from kd6d_ros.training.bundle_record import bundle_of_checkpoint
from kd6d_ros.training.checkpoint import DenseCheckpoint, any_checkpoint
from kd6d_ros.training.recipe import to_mapping
from kd6d_ros.training.weights_file import read_weights_file

if TYPE_CHECKING:
    from kd6d_ros.distillation.settings import DistillationSettings
    from kd6d_ros.networks.make_network import AnyNetwork
    from kd6d_ros.training.checkpoint import AnyCheckpoint


@dataclass(frozen=True)
class ExportRequest:
    """What to write where. licence and origin: of the data behind the weights, shown by `kd6d info`;
    meshes: models folder whose meshes are stored in the bundle, with about `mesh_faces` triangles each.
    crop_padding: side of a crop over its box on the robot; None for that of training. min_score: least score of a
    published pose that the bundle recommends; None for no recommendation. calibration: BOP folder or bag that INT8 is
    calibrated on, with so many inputs; evaluate: BOP folder that accuracy is measured on, None for the held-out part of
    a rendered calibration set, with so many objects. allow_drop: precisions that may lose any accuracy; those are
    written without a measurement where there is nothing to measure on."""

    checkpoint: Path
    out: Path
    precisions: Sequence[str] = ('fp32',)
    name: str = ''
    licence: str = 'Apache-2.0'
    origin: str = 'own renders'
    meshes: Path | None = None
    mesh_faces: int = 1500
    crop_padding: float | None = None
    min_score: float | None = None
    calibration: Path | None = None
    calibration_images: int = 128
    evaluate: Path | None = None
    evaluate_instances: int = 500
    allow_drop: Sequence[str] = ()


def export_bundle(request: ExportRequest, progress: Progress = lambda what, done, total: None) -> Bundle:
    """Write the bundle with its accuracy report and return it; nothing is written when something is wrong.

    Raises:
        ConfigError: unreadable checkpoint, a precision that this version cannot write, a number out of range, nothing
            to calibrate or measure on, or a precision that loses too much.
        DatasetError, BagError: nothing usable in the folder or bag to calibrate or measure on.
        MeshError: a mesh is missing or of another size, see ``bundle_meshes``.
        EngineError: the exported graph does not compute what PyTorch does.
    """
    check_request(request)
    if request.crop_padding is not None and not 1.0 <= request.crop_padding <= 4.0:
        raise ConfigError(f'--crop-padding {request.crop_padding:g}: expected 1 to 4')
    if request.min_score is not None and not 0.0 <= request.min_score <= 1.0:
        raise ConfigError(f'--min-score {request.min_score:g}: expected 0 to 1')
    checkpoint = any_checkpoint(read_weights_file(request.checkpoint), request.checkpoint)
    meshes = bundle_meshes(request.meshes, checkpoint.objects, request.mesh_faces) if request.meshes else {}
    network = rounded_weights(checkpoint.network)
    record = _record(request, checkpoint, network)
    data = open_data(request, record, checkpoint.recipe.data.validation_fraction)
    with tempfile.TemporaryDirectory() as folder:
        files = write_precisions(network, record, request.precisions, data.inputs(), Path(folder), progress)
        results, report = judge(record, files, data, request.allow_drop, progress)
        return write_bundle(
            request.out,
            name=record.name,
            objects=checkpoint.objects,
            network=record.network,
            decode=record.decode,
            engines={name: files.paths[name] for name in request.precisions},
            licence=request.licence,
            origin=request.origin,
            training=_training_facts(checkpoint),
            expected=_expected(checkpoint),
            measured={name: results[name] for name in request.precisions},
            report=report,
            meshes=meshes,
            books=checkpoint.books if isinstance(checkpoint, DenseCheckpoint) else (),
        )


def _record(request: ExportRequest, checkpoint: AnyCheckpoint, network: AnyNetwork) -> Bundle:
    """The bundle without files."""
    record = bundle_of_checkpoint(checkpoint)
    padding = record.network.crop_padding if request.crop_padding is None else request.crop_padding
    spec = _with_macs(replace(record.network, crop_padding=padding), network)
    decode = replace(record.decode, min_score=request.min_score)
    return replace(record, name=request.name or request.out.name, network=spec, decode=decode)


def _with_macs(spec: NetworkSpec, network: AnyNetwork) -> NetworkSpec:
    crop, frame = spec.crop_size, spec.frame_size
    crop_macs = count_macs(network, crop, crop).total
    return replace(spec, crop_macs=crop_macs, frame_macs=count_macs(network, *frame).total if frame else None)


def _training_facts(checkpoint: AnyCheckpoint) -> dict[str, Any]:
    recipe = to_mapping(checkpoint.recipe)
    for group, key in (('data', 'train'), ('data', 'models'), ('data', 'cache'), ('data', 'codes')):
        recipe[group].pop(key)  # paths of the machine it was trained on tell nobody anything
    recipe.pop('out')
    recipe['initial_weights'] = Path(recipe['initial_weights']).name
    facts = {key: value for key, value in checkpoint.facts.items() if key != 'validation'}
    recipe['distillation']['teacher'] = Path(recipe['distillation']['teacher']).name
    return {'method': _method(checkpoint.recipe.distillation), **facts, 'recipe': recipe}


def _method(settings: DistillationSettings) -> str:
    terms = {
        'ADLP': settings.adlp.weight,
        'naive': settings.naive.weight,
        'features': settings.feature.weight,
        'surface points': settings.surface.weight,
    }
    used = [name for name, weight in terms.items() if weight > 0]
    return f'student distilled with {" and ".join(used)}' if used else 'plain student'


def _expected(checkpoint: AnyCheckpoint) -> dict[str, float]:
    validation = checkpoint.facts.get('validation') or {}
    if not validation:
        return {}
    return {
        'held_out_renders_recall_0.1d': round(float(validation['recall']), 4),
        'held_out_renders_accepted': round(float(validation['accepted']), 4),
        'held_out_renders_objects': float(validation['looked_at']),
    }
