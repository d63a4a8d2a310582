"""How long the robot side takes per image besides the network, measured with the fake engine."""

from __future__ import annotations

from typing import Dict, List

import cv2
import numpy as np

from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec, LevelSpec, NetworkSpec
from kd6d_ros.inference.engines.fake import FakeEngine, coordinate_image
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import ObjectModel, RigidTransform

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


def measure_overhead(frames: int = 200, width: int = 640, height: int = 480) -> Dict[str, Dict[str, float]]:
    """Milliseconds per image with one tracked object: {'preprocess', 'decode', 'pnp', 'other', 'sum'} ->
    {'p50', 'p95'}; 'sum' is everything from image and camera to pose but the engine.

    The object moves and turns; the predictions carry noise and one cell in five is an outlier. The first
    ten images warm up and do not count.
    """
    matrix = np.array([[0.9 * width, 0, width / 2], [0, 0.9 * width, height / 2], [0, 0, 1]])
    camera = make_camera(matrix, width, height)
    levels = tuple(LevelSpec(stride, 4.0 * stride) for stride in (16, 32, 64))
    model = ObjectModel('box', 1, 0.17, CORNERS * [0.05, 0.04, 0.055])
    network = NetworkSpec(128, 1.5, (width // 64 * 64, height // 64 * 64), 256, levels)
    bundle = Bundle('overhead', (model,), network, DecodeSpec())
    engine = FakeEngine(bundle, camera, noise_px=1.0, outliers=0.2)
    estimator = PoseEstimator(bundle, engine, EstimatorSettings())
    image = coordinate_image(camera)
    times: Dict[str, List[float]] = {key: [] for key in ('preprocess', 'decode', 'pnp', 'other', 'sum')}
    for number in range(frames + 10):
        angle = 0.02 * number
        turn = cv2.Rodrigues(np.array([0.4 + angle, 0.8, 0.2 * np.sin(angle)]))[0]
        place = np.array([0.1 * np.sin(angle), 0.05 * np.cos(angle), 0.7])
        engine.scene = [('box', RigidTransform(turn, place))]
        estimator.estimate(image, camera, number / 30)
        stages = dict(estimator.report.stages)
        if number < 10 or estimator.report.mode != 'tracked':
            continue
        besides = stages['total'] - stages['inference']
        known = {key: stages[key] for key in ('preprocess', 'decode', 'pnp')}
        for key, value in {**known, 'other': besides - sum(known.values()), 'sum': besides}.items():
            times[key].append(1000.0 * value)
    return {
        key: {'p50': float(np.median(values)), 'p95': float(np.quantile(values, 0.95))} for key, values in times.items()
    }
