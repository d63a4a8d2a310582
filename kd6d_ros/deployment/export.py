"""From a checkpoint to a bundle: export, compare with PyTorch, write."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from kd6d_ros.deployment.bundle_meshes import bundle_meshes
from kd6d_ros.deployment.onnx_export import export_graph, rounded_weights
from kd6d_ros.errors import ConfigError, EngineError
from kd6d_ros.inference.bundle import write_bundle
from kd6d_ros.inference.bundle_records import Bundle, NetworkSpec
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine
from kd6d_ros.inference.surface import LEAST_MASK_LOGIT
from kd6d_ros.networks.deployed_graph import OUTPUTS, DeployedGraph
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.macs import count_macs
from kd6d_ros.training.checkpoint import Checkpoint, load_checkpoint
from kd6d_ros.training.recipe import to_mapping
from kd6d_ros.training.validation import bundle_of

if TYPE_CHECKING:
    from kd6d_ros.distillation.settings import DistillationSettings
    from kd6d_ros.types import AnyArray

PRECISIONS = ('fp32',)
"""What this version can write."""

MAX_KEYPOINT_ERROR_PX = 0.5  # largest over all cells of noise images, background cells of the coarsest level included
MAX_SCORE_ERROR = 5e-3
MAX_SURFACE_ERROR = 0.01
"""Of a surface point [diameters], where the mask is on."""
MAX_MASK_ERROR = 0.05
"""Of a mask's logit."""


@dataclass(frozen=True)
class ExportRequest:
    """What to write where. licence and origin: of the data behind the weights, shown by `kd6d info`;
    meshes: models folder whose meshes are stored in the bundle, with about `mesh_faces` triangles each.
    crop_padding: side of a crop over its box on the robot; None for that of training. min_score: least score of a
    published pose that the bundle recommends; None for no recommendation."""

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


def export_bundle(request: ExportRequest) -> Bundle:
    """Write the bundle and return it.

    Raises:
        ConfigError: unreadable checkpoint, a precision that this version cannot write, a padding or score out of
            range.
        MeshError: a mesh is missing or of another size, see ``bundle_meshes``.
        EngineError: the exported graph does not compute what PyTorch does.
    """
    unknown = [p for p in request.precisions if p not in PRECISIONS]
    if unknown:
        raise ConfigError(f'--precisions {unknown[0]}: this version writes {", ".join(PRECISIONS)}')
    if request.crop_padding is not None and not 1.0 <= request.crop_padding <= 4.0:
        raise ConfigError(f'--crop-padding {request.crop_padding:g}: expected 1 to 4')
    if request.min_score is not None and not 0.0 <= request.min_score <= 1.0:
        raise ConfigError(f'--min-score {request.min_score:g}: expected 0 to 1')
    checkpoint = load_checkpoint(request.checkpoint)
    meshes = bundle_meshes(request.meshes, checkpoint.objects, request.mesh_faces) if request.meshes else {}
    network = rounded_weights(checkpoint.network)
    name = request.name or request.out.name
    record = bundle_of(checkpoint.recipe, checkpoint.objects, int(checkpoint.facts.get('parameters', 0)))
    if request.crop_padding is not None:
        record = replace(record, network=replace(record.network, crop_padding=request.crop_padding))
    record = replace(record, network=_with_macs(record.network, network))
    inputs = checkpoint.recipe.input
    model = export_graph(network, inputs.crop_size, inputs.max_cells)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'model_fp32.onnx'
        onnx.save(model, path)
        check_equal(network, path, record)
        return write_bundle(
            request.out,
            name=name,
            objects=checkpoint.objects,
            network=record.network,
            decode=replace(record.decode, min_score=request.min_score),
            engines={'fp32': path},
            licence=request.licence,
            origin=request.origin,
            training=_training_facts(checkpoint),
            expected=_expected(checkpoint),
            meshes=meshes,
        )


def check_equal(network: KeypointNetwork, path: Path, bundle: Bundle) -> None:
    """Compare the file in ONNX Runtime with PyTorch at crop and frame size on random images.

    Raises:
        EngineError: a score, keypoint, surface point or mask differs by more than the tolerance; names the largest
            difference.
    """
    engine = OnnxRuntimeEngine(bundle, path, 'fp32', threads=2)
    graph = DeployedGraph(network, bundle.network.max_cells).eval()
    torch.set_float32_matmul_precision('highest')  # training in the same process may have lowered it
    rng = np.random.default_rng(0)
    crop = bundle.network.crop_size
    sizes = [(2, crop, crop)]
    if bundle.network.frame_size:
        width, height = bundle.network.frame_size
        sizes.append((1, height, width))
    for batch, height, width in sizes:
        image = rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
        classes = np.ones((batch, len(bundle.objects)), dtype=bool)
        with torch.no_grad():
            wanted = [out.numpy() for out in graph(torch.from_numpy(image), torch.from_numpy(classes))]
        for row, cells in enumerate(engine.run(image, classes)):
            where = f'{batch}x{height}x{width}'
            _compare([array[row] for array in wanted[: len(OUTPUTS)]], cells, where)
            if len(wanted) > len(OUTPUTS):
                _compare_surface(wanted[-1][row], cells.surface, where)


def _compare(wanted: list[AnyArray], cells: Any, where: str) -> None:
    """Cells with equal scores may swap places, so those that differ in index are matched by score only."""
    score_gap = float(np.abs(wanted[1] - cells.score).max())
    same = (wanted[0] == cells.class_index) & (np.abs(wanted[3] - cells.centre).max(-1) < 0.01)
    used = same & (wanted[1] > 0)
    gap = float(np.abs(wanted[4] - cells.keypoints)[used].max()) if used.any() else 0.0
    if score_gap > MAX_SCORE_ERROR or gap > MAX_KEYPOINT_ERROR_PX or same.mean() < 0.5:
        raise EngineError(
            f'exported graph differs from PyTorch at {where}: score by {score_gap:.2g}, keypoints by {gap:.2g} px'
        )


def _compare_surface(wanted: AnyArray, got: AnyArray | None, where: str) -> None:
    """Surface outputs (C, 4, h, w)."""
    if got is None:
        raise EngineError(f'exported graph has no surface at {where}, PyTorch has: bundle without surface_stride')
    gap = np.abs(wanted - got)
    on = wanted[:, 3] >= LEAST_MASK_LOGIT
    points = float(gap[:, :3].max(1)[on].max()) if on.any() else 0.0
    mask = float(gap[:, 3].max())
    if not (points <= MAX_SURFACE_ERROR and mask <= MAX_MASK_ERROR):
        raise EngineError(
            f'exported graph differs from PyTorch at {where}: surface points by {points:.2g} diameters, '
            f'masks by {mask:.2g}'
        )


def _with_macs(spec: NetworkSpec, network: KeypointNetwork) -> NetworkSpec:
    crop, frame = spec.crop_size, spec.frame_size
    crop_macs = count_macs(network, crop, crop).total
    return replace(spec, crop_macs=crop_macs, frame_macs=count_macs(network, *frame).total if frame else None)


def _training_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    recipe = to_mapping(checkpoint.recipe)
    for group, key in (('data', 'train'), ('data', 'models'), ('data', 'cache')):
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


def _expected(checkpoint: Checkpoint) -> dict[str, float]:
    validation = checkpoint.facts.get('validation') or {}
    if not validation:
        return {}
    return {
        'held_out_renders_recall_0.1d': round(float(validation['recall']), 4),
        'held_out_renders_accepted': round(float(validation['accepted']), 4),
        'held_out_renders_objects': float(validation['looked_at']),
    }
