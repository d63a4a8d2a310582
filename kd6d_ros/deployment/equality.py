"""Whether an exported graph computes what PyTorch does, output by output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine
from kd6d_ros.inference.surface import LEAST_MASK_LOGIT
from kd6d_ros.networks.deployed_graph import OUTPUTS, deployed

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.networks.make_network import AnyNetwork
    from kd6d_ros.types import AnyArray, CodeMaps


class Tolerance(NamedTuple):
    """Largest differences over all cells of noise images, background cells of the coarsest level included.

    score in 0..1; keypoints_px [network px]; surface: of a point [diameters], where the mask is on; mask: of its logit;
    same_cells: least share of cells that are at the same place of the ranking; probability: of a mask or bit of a
    dense network in 0..1.
    """

    score: float
    keypoints_px: float
    surface: float
    mask: float
    same_cells: float
    probability: float


TOLERANCES = {
    'fp32': Tolerance(5e-3, 0.5, 0.01, 0.05, 0.5, 5e-3),
    'fp16': Tolerance(0.02, 3.0, 0.05, 0.3, 0.1, 0.05),
}
"""INT8 is not compared with noise: it is made for the images that it was calibrated on (``accuracy``)."""


def check_equal(network: AnyNetwork, path: Path, bundle: Bundle, precision: str = 'fp32') -> None:
    """Compare the file in ONNX Runtime with PyTorch at crop and frame size on random images.

    Args:
        precision: a key of TOLERANCES, which says how much may differ.

    Raises:
        EngineError: a score, keypoint, surface point, mask or bit differs by more than the tolerance; names the
            largest difference.
    """
    engine, allowed = OnnxRuntimeEngine(bundle, path, precision, threads=2), TOLERANCES[precision]
    graph = deployed(network, bundle.network.max_cells)
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
            if cells.codes is not None:
                _compare_codes([array[row] for array in wanted], cells.codes, where, allowed)
                continue
            _compare([array[row] for array in wanted[: len(OUTPUTS)]], cells, where, allowed)
            if len(wanted) > len(OUTPUTS):
                _compare_surface(wanted[-1][row], cells.surface, where, allowed)


def _compare(wanted: list[AnyArray], cells: Any, where: str, allowed: Tolerance) -> None:
    """Cells with equal scores may swap places, so those that differ in index are matched by score only."""
    score_gap = float(np.abs(wanted[1] - cells.score).max())
    same = (wanted[0] == cells.class_index) & (np.abs(wanted[3] - cells.centre).max(-1) < 0.01)
    used = same & (wanted[1] > 0)
    gap = float(np.abs(wanted[4] - cells.keypoints)[used].max()) if used.any() else 0.0
    if score_gap > allowed.score or gap > allowed.keypoints_px or same.mean() < allowed.same_cells:
        raise EngineError(
            f'exported graph differs from PyTorch at {where}: score by {score_gap:.2g}, keypoints by {gap:.2g} px'
        )


def _compare_surface(wanted: AnyArray, got: AnyArray | None, where: str, allowed: Tolerance) -> None:
    """Surface outputs (C, 4, h, w)."""
    if got is None:
        raise EngineError(f'exported graph has no surface at {where}, PyTorch has: bundle without surface_stride')
    gap = np.abs(wanted - got)
    on = wanted[:, 3] >= LEAST_MASK_LOGIT
    points = float(gap[:, :3].max(1)[on].max()) if on.any() else 0.0
    mask = float(gap[:, 3].max())
    if not (points <= allowed.surface and mask <= allowed.mask):
        raise EngineError(
            f'exported graph differs from PyTorch at {where}: surface points by {points:.2g} diameters, '
            f'masks by {mask:.2g}'
        )


def _compare_codes(wanted: list[AnyArray], got: CodeMaps, where: str, allowed: Tolerance) -> None:
    """Where two objects are equally likely the other one may be named: such a cell has the same mask but other bits."""
    index, mask, code = wanted
    same = index == got.class_index
    masks = float(np.abs(mask - got.mask).max())
    bits = float(np.abs(code - got.code).max(0)[same].max()) if same.any() else 0.0
    if masks > allowed.probability or bits > allowed.probability or same.mean() < allowed.same_cells:
        raise EngineError(
            f'exported graph differs from PyTorch at {where}: masks by {masks:.2g}, bits by {bits:.2g}, '
            f'the same object in {100 * same.mean():.0f} % of the cells'
        )
