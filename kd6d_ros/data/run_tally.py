"""What runs over single images have in common: nothing is known from one to the next, time and refusals are counted."""

from __future__ import annotations

from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.inference.estimator import PoseEstimator
    from kd6d_ros.types import Camera, Detection, ImageArray, PoseEstimate


class RunTally:
    """Estimates images that stand alone and counts: seconds of pose estimation alone, refusals by reason."""

    def __init__(self) -> None:
        self.seconds: List[float] = []
        self._rejections: Counter[str] = Counter()

    def estimate(
        self,
        estimator: PoseEstimator,
        image: ImageArray,
        camera: Camera,
        detections: Optional[Sequence[Detection]] = None,
    ) -> List[PoseEstimate]:
        """As ``PoseEstimator.estimate``, of an estimator that forgets what it has seen before."""
        estimator.reset()
        start = perf_counter()
        poses = estimator.estimate(image, camera, 0.0, detections)
        self.seconds.append(perf_counter() - start)
        self._rejections.update(estimator.report.counts())
        return poses

    def record(self) -> Dict[str, Any]:
        """Milliseconds per image, where there was one, and refusals, as plain values."""
        out: Dict[str, Any] = {}
        if self.seconds:
            p50, p95 = np.percentile(np.array(self.seconds) * 1000.0, [50, 95])
            out['ms_per_image_p50'], out['ms_per_image_p95'] = round(float(p50), 2), round(float(p95), 2)
        out['rejections'] = dict(sorted(self._rejections.items()))
        return out
