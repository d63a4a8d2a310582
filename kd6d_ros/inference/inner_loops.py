"""What the fit to the outline and the refinement of poses run on: arrays, or loops compiled by Numba.

Compiled ones take a quarter of the time or less and let go of Python's lock. They cost a second at the start of a
process, 20 at the very first one, and 140 MB, so they are loaded only for what gains most, the outline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Tuple

from kd6d_ros.inference import outline_arrays, robust

if TYPE_CHECKING:
    from kd6d_ros.inference.outline import OutlineModel
    from kd6d_ros.inference.outline_view import View
    from kd6d_ros.inference.pnp_surface import Minimise
    from kd6d_ros.inference.robust import Pose
    from kd6d_ros.types import FloatArray


class InnerLoops(NamedTuple):
    """fitted: see ``outline_arrays``; minimise: see ``robust``; parallel: whether several threads gain from them."""

    fitted: Callable[[OutlineModel, View, Pose, FloatArray], Optional[Tuple[Pose, float]]]
    minimise: Minimise
    parallel: bool
    description: str


ARRAYS = InnerLoops(outline_arrays.fitted, robust.minimise, False, 'NumPy')


def best_loops() -> InnerLoops:
    """Compiled ones where Numba is installed and loads, else arrays; the poses are the same but for rounding."""
    from kd6d_ros.inference.loops import numba_loops

    if not numba_loops.AVAILABLE:
        return ARRAYS._replace(description=f'NumPy ({numba_loops.DESCRIPTION})')
    from kd6d_ros.inference.loops import outline, reprojection

    return InnerLoops(outline.fitted, reprojection.minimise, True, numba_loops.DESCRIPTION)
