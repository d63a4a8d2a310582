"""Instances and poses from the code maps of a bundle of the kind dense, see ``instance_reader.Reader``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional, Tuple

import cv2
import numpy as np

from kd6d_ros.inference.code_cloud import cell_centres, cloud_of_cells
from kd6d_ros.inference.evidence import CodePredictions
from kd6d_ros.inference.outline_view import MaskMap
from kd6d_ros.inference.pnp_codes import solve_codes
from kd6d_ros.inference.pnp_surface import LEAST_POINTS

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.inference.pnp import PnpResult
    from kd6d_ros.inference.pnp_surface import Minimise
    from kd6d_ros.inference.surface import SurfaceCloud
    from kd6d_ros.types import AnyArray, Camera, CodeMaps, FloatArray, LocalPredictions

NEIGHBOURS = np.ones((3, 3), np.uint8)
"""Cells of one instance may have a gap of two cells between them."""


LEAST_PROBABILITY = 1e-3
"""Log-odds of masks are taken of no less, and of no more than 1 minus this."""


@dataclass(frozen=True, eq=False)
class CodeInstance:
    """The cells of one instance: score, the mean of their masks' probabilities; cloud: surface points of those that
    reach PnP; cell_area: image px^2 that each of these stands for; bounds: box (4,) of all cells [network px]."""

    class_index: int
    score: float
    cloud: SurfaceCloud
    cell_area: float
    bounds: FloatArray

    knows_hidden_parts = False

    @property
    def size(self) -> float:
        """Longer side of the box [network px]."""
        return float(max(self.bounds[2] - self.bounds[0], self.bounds[3] - self.bounds[1]))

    def box(self) -> FloatArray:
        """Box x0 y0 x1 y1 [network px]."""
        return self.bounds


class CodeReader:
    """Takes the cells on an object apart into instances; the surface points under them give the pose."""

    def __init__(self, bundle: Bundle, decode: DecodeSpec, minimise: Minimise) -> None:
        self._books, self._decode, self._minimise = bundle.books, decode, minimise

    def instances(
        self, cells: LocalPredictions, class_index: int, crop: Crop, most: int, whole: bool
    ) -> List[CodeInstance]:
        """See ``Reader.instances``. In a crop around the only instance, cells that do not touch are still its own:
        something may stand before it."""
        maps = cells.codes
        assert maps is not None, 'the engine of a dense bundle gives code maps'
        on = (maps.class_index == class_index) & (maps.mask > self._decode.score_threshold)
        groups = _connected(on, maps.mask, most) if whole or most > 1 else [np.argwhere(on)[:, ::-1]]
        return [self._instance(maps, class_index, group, crop) for group in groups if len(group) >= LEAST_POINTS]

    def best_score(self, cells: LocalPredictions, class_index: int) -> float:
        """See ``Reader.best_score``."""
        assert cells.codes is not None, 'the engine of a dense bundle gives code maps'
        own = cells.codes.mask[cells.codes.class_index == class_index]
        return float(own.max()) if len(own) else 0.0

    def solve(
        self, cells: LocalPredictions, found: CodeInstance, crop: Crop, camera: Camera, threshold: float
    ) -> Tuple[Optional[PnpResult], CodePredictions]:
        """See ``Reader.solve``."""
        mask = MaskMap(_log_odds(cells, found.class_index), crop)
        predictions = CodePredictions(found.cloud, found.score, threshold, found.cell_area, mask)
        return solve_codes(found.cloud, camera, threshold, self._minimise), predictions

    def _instance(self, maps: CodeMaps, class_index: int, cells: AnyArray, crop: Crop) -> CodeInstance:
        """cells: (N, 2) column and row."""
        stride = crop.width / maps.mask.shape[1]
        centres = cell_centres(cells, stride)
        bounds = np.concatenate([centres.min(axis=0) - stride / 2, centres.max(axis=0) + stride / 2])
        used = _spread(cells, self._decode.cells_per_object)
        columns, rows = used.T
        mask, probability = maps.mask[rows, columns], maps.code[:, rows, columns].T
        cloud = cloud_of_cells(used, stride, mask.astype(np.float64), probability, self._books[class_index], crop)
        area = (stride / crop.scale) ** 2 * len(cells) / len(used)
        return CodeInstance(class_index, float(maps.mask[cells[:, 1], cells[:, 0]].mean()), cloud, area, bounds)


def _log_odds(cells: LocalPredictions, class_index: int) -> AnyArray:
    """(h, w) of the mask of one object; where another one is likelier, this one is not."""
    assert cells.codes is not None, 'the engine of a dense bundle gives code maps'
    own = np.where(cells.codes.class_index == class_index, cells.codes.mask, 0.0)
    sure = np.clip(own, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    out: AnyArray = np.log(sure / (1 - sure))
    return out


def _connected(on: AnyArray, mask: AnyArray, most: int) -> List[AnyArray]:
    """Cells (N, 2), column and row, of the connected parts of `on` (h, w) with the `most` largest sums of `mask`."""
    grown = cv2.dilate(on.astype(np.uint8), NEIGHBOURS)
    count, labels = cv2.connectedComponents(grown)
    labels = np.where(on, labels, 0)
    weight = np.bincount(labels.ravel(), weights=mask.ravel(), minlength=count)
    order = 1 + np.argsort(-weight[1:], kind='stable')[:most]
    return [np.argwhere(labels == label)[:, ::-1] for label in order]


def _spread(cells: AnyArray, most: int) -> AnyArray:
    """At most `most` of the cells, all over the object; the same ones every time."""
    if len(cells) <= most:
        return cells
    chosen = np.random.default_rng(0).permutation(len(cells))[:most]
    return cells[np.sort(chosen)]
