"""Instances and poses from the corners of a bundle of the kind keypoints, see ``instance_reader.Reader``."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Tuple

from kd6d_ros.inference.decode import decode_instances
from kd6d_ros.inference.evidence import Predictions
from kd6d_ros.inference.outline_view import MaskMap
from kd6d_ros.inference.pnp_surface import solve_with_surface
from kd6d_ros.inference.surface import surface_cloud

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.inference.decode import CellCloud
    from kd6d_ros.inference.pnp import PnpResult
    from kd6d_ros.inference.pnp_surface import Minimise
    from kd6d_ros.types import Camera, LocalPredictions


class KeypointReader:
    """Groups cells into instances; corners and surface points give the pose."""

    def __init__(self, bundle: Bundle, decode: DecodeSpec, minimise: Minimise) -> None:
        self._bundle, self._decode, self._minimise = bundle, decode, minimise

    def instances(
        self, cells: LocalPredictions, class_index: int, crop: Crop, most: int, whole: bool
    ) -> List[CellCloud]:
        """See ``Reader.instances``."""
        return decode_instances(cells, class_index, self._bundle.network, self._decode, most)

    def best_score(self, cells: LocalPredictions, class_index: int) -> float:
        """See ``Reader.best_score``."""
        return float(cells.score.max()) if len(cells.score) else 0.0

    def solve(
        self, cells: LocalPredictions, found: CellCloud, crop: Crop, camera: Camera, threshold: float
    ) -> Tuple[Optional[PnpResult], Predictions]:
        """See ``Reader.solve``."""
        model = self._bundle.objects[found.class_index]
        pixels = crop.to_image(found.keypoints)
        surface = surface_cloud(cells, found.class_index, model, crop, found.box())
        result = solve_with_surface(model.keypoints, pixels, found.scores, surface, camera, threshold, self._minimise)
        # Of one surface cell [image px^2]; 0 without a surface branch.
        area = 0.0 if cells.surface is None else float((crop.width / cells.surface.shape[3] / crop.scale) ** 2)
        mask = None if cells.surface is None else MaskMap(cells.surface[found.class_index][3], crop)
        return result, Predictions(model.keypoints, pixels, found.scores, surface, threshold, area, mask)
