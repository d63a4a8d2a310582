"""The seam between the estimator and whatever runs the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Protocol

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, ImageArray, LocalPredictions


class Engine(Protocol):
    """Runs the network of one bundle."""

    name: str
    """Which back end this is, for example 'onnxruntime'."""
    precision: str
    """What really runs, for example 'fp32'."""
    description: str
    """One line for logs and reports: back end, version, device, threads."""
    side_by_side: int
    """How many threads may call `run` at the same time; 1 also says that many images in one call are the better way."""

    def run(self, image: ImageArray, classes: AnyArray) -> List[LocalPredictions]:
        """Local predictions of each image, best score first.

        Args:
            image: (N, H, W, 3) uint8 RGB; H and W multiples of the finest stride.
            classes: (N, C) bool, which objects may be reported in each image.

        Raises:
            EngineError: the engine failed or its output is not usable.
        """
        ...
