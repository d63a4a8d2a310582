"""What differs between the kinds of bundles behind the network: finding instances in its answer, and solving one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Protocol, Sequence, Tuple

from kd6d_ros.inference import robust
from kd6d_ros.inference.code_reader import CodeReader
from kd6d_ros.inference.keypoint_reader import KeypointReader

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.inference.evidence import AnyPredictions
    from kd6d_ros.inference.pnp import PnpResult
    from kd6d_ros.inference.pnp_surface import Minimise
    from kd6d_ros.types import Camera, FloatArray, LocalPredictions


class Instance(Protocol):
    """What one region shows of one object: score in [0, 1]; size: longer side of its box [network px];
    knows_hidden_parts: the box is that of the whole object, else of what is seen of it."""

    @property
    def class_index(self) -> int: ...

    @property
    def score(self) -> float: ...

    @property
    def size(self) -> float: ...

    @property
    def knows_hidden_parts(self) -> bool: ...

    def box(self) -> FloatArray:
        """Box x0 y0 x1 y1 [network px]."""
        ...


class Reader(Protocol):
    """Reads the answers of a bundle's network."""

    def instances(
        self, cells: LocalPredictions, class_index: int, crop: Crop, most: int, whole: bool
    ) -> Sequence[Instance]:
        """At most `most` instances of a class, best supported first.

        Args:
            crop: the window that the network saw; whole: it is the whole frame, not a crop around one object.
        """
        ...

    def best_score(self, cells: LocalPredictions, class_index: int) -> float:
        """The best score of a cell, to say why there is no instance."""
        ...

    def solve(
        self, cells: LocalPredictions, found: Any, crop: Crop, camera: Camera, threshold: float
    ) -> Tuple[Optional[PnpResult], AnyPredictions]:
        """Pose of an instance that this reader found, and what it was solved from.

        Args:
            threshold: a correspondence agrees within this many pixels of the image.
        """
        ...


def make_reader(bundle: Bundle, decode: DecodeSpec, minimise: Minimise = robust.minimise) -> Reader:
    """The reader for a bundle; decode: that of the bundle with the user's settings; minimise: see ``inner_loops``."""
    kind = CodeReader if bundle.kind == 'dense' else KeypointReader
    return kind(bundle, decode, minimise)
