"""What the estimator says about the last frame: where it looked, how long it took, what it refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Dict, Mapping, Optional, Tuple

if TYPE_CHECKING:
    from kd6d_ros.inference.evidence import Evidence

STAGES = ('preprocess', 'inference', 'decode', 'pnp', 'outline', 'covariance', 'total')
"""Keys of FrameReport.stages [s]; 'total' also holds checks, gates and tracking."""


@dataclass(frozen=True)
class Rejection:
    """A candidate that was refused: why, the value that failed and the limit it failed against.

    `mode` is the region that gave it (as in RegionReport). An object whose tracked region was refused may
    still have been found and published in the same image.
    """

    object_name: str
    reason: str
    value: float
    limit: float
    mode: str = ''

    def __str__(self) -> str:
        return f'{self.object_name}: {self.reason} {self.value:.4g} (limit {self.limit:.4g})'


@dataclass(frozen=True)
class RegionReport:
    """A place that was looked at: mode 'tracked', 'detections', 'frame' or 'measure' (the zoomed crop after
    a whole-frame find), object name (None: all objects), box x0 y0 x1 y1 [image px]."""

    mode: str
    object_name: Optional[str]
    box: Tuple[float, float, float, float]


@dataclass(frozen=True)
class FrameReport:
    """Report of one ``PoseEstimator.estimate``.

    mode: 'detections', 'idle' (nowhere to look), 'ignored' (repeated stamp), or what was looked at, joined by '+':
    'tracked' (where objects are expected), 'found' (where a search of an earlier image found something), 'frame' (all
    of the image); stages: seconds by STAGES; poses: how many were accepted; note: one line when something about
    the frame deserves a word (time went back...); evidence: that of each returned pose, where it is kept.
    """

    stamp: float = 0.0
    mode: str = 'idle'
    stages: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    rejections: Tuple[Rejection, ...] = ()
    regions: Tuple[RegionReport, ...] = ()
    poses: int = 0
    note: str = ''
    evidence: Tuple[Evidence, ...] = ()

    def counts(self) -> Dict[str, int]:
        """Rejections by reason."""
        out: Dict[str, int] = {}
        for item in self.rejections:
            out[item.reason] = out.get(item.reason, 0) + 1
        return out
