"""The real node with an estimator that needs no network: run as a process of its own by the tests.

The bundle parameter chooses the behaviour: 'fake', 'fake:fail' (configure fails), 'fake:crash' (estimate raises),
'fake:nothing' (sees nothing), 'fake:covariance', 'fake:mesh', 'fake:blind' (cannot search), 'fake:hold=FILE' and
'fake:hold_load=FILE' (an image, or configure, takes as long as FILE exists; FILE.inside appears when it has begun).
'scene' is the real PoseEstimator around the package's FakeEngine, for 640x480 coordinate images.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from kd6d_ros.errors import BundleError
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec, LevelSpec, NetworkSpec
from kd6d_ros.inference.engines.fake import FakeEngine
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.records import FrameReport, Rejection
from kd6d_ros.ros.factory import Loaded, check_names
from kd6d_ros.ros.main import main
from kd6d_ros.types import Mesh, ObjectModel, PoseEstimate, RigidTransform

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.04)])
POSE = RigidTransform(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([0.1, -0.05, 0.7]))
FACES = np.array([[0, 1, 2], [1, 2, 3], [4, 5, 6], [5, 6, 7]])


def model(name: str, obj_id: int, mesh: bool) -> ObjectModel:
    shape = Mesh(CORNERS, FACES, np.full((8, 3), 200, np.uint8)) if mesh else None
    return ObjectModel(name, obj_id, 0.13, CORNERS, mesh=shape)


def hold(path: str | None) -> None:
    """As long as the test wants it."""
    if path:
        Path(path + '.inside').touch()
        while Path(path).exists():
            time.sleep(0.005)


class FakeEstimator:
    """Sees every wanted object once, at POSE, in every image."""

    def __init__(self, names, options, settings):
        self.names, self.options, self.settings = names, options, settings
        self.report = FrameReport()
        self.resets = 0
        self.can_find = settings.find and 'blind' not in options

    def reset(self):
        self.resets += 1

    def estimate(self, image, camera, stamp, detections=None):
        hold(self.options.get('hold'))
        if 'crash' in self.options:
            raise ZeroDivisionError('on purpose')
        names = self.names if detections is None else [item.object_name for item in detections]
        if 'nothing' in self.options:
            names = []
        rejected = () if names else (Rejection('mug', 'inliers', 3, 12),)
        self.report = FrameReport(stamp, 'frame', {'inference': 0.001, 'total': 0.002}, rejected, (), len(names))
        covariance = np.diag(np.arange(1.0, 7.0)) if 'covariance' in self.options else None
        score = max(0.9, self.settings.min_score)
        one = PoseEstimate('', '', POSE, score, 40, 80, 0.5, covariance)
        return [replace(one, object_name=name, instance_id=f'{name}_0') for name in names]


def scene(settings):
    camera = make_camera([600, 0, 320, 0, 600, 240, 0, 0, 1], 640, 480)
    network = NetworkSpec(128, 1.5, (640, 480), 256, (LevelSpec(8, 32.0), LevelSpec(16, 64.0), LevelSpec(32, 128.0)))
    bundle = Bundle('scene', (model('mug', 1, False),), network, DecodeSpec())
    engine = FakeEngine(bundle, camera, [('mug', POSE)], noise_px=0.3)
    return Loaded(
        {'mug': bundle.objects[0]},
        PoseEstimator(bundle, engine, settings),
        'scene',
        engine.description,
        lambda chosen: PoseEstimator(bundle, engine, chosen),
    )


def factory(values, settings):
    kind, _, rest = values['bundle'].partition(':')
    options = dict(part.partition('=')[::2] for part in rest.split(',') if part)
    if kind == 'scene':
        return scene(settings)
    if kind != 'fake' or 'fail' in options:
        raise BundleError(f'{values["bundle"]}: no such bundle')
    hold(options.get('hold_load'))
    names = list(settings.objects or options.get('objects', 'mug').split('+'))
    check_names(names)
    models = {name: model(name, index + 1, 'mesh' in options) for index, name in enumerate(names)}
    return Loaded(
        models,
        FakeEstimator(names, options, settings),
        'fake',
        'fake engine',
        lambda chosen: FakeEstimator(names, options, chosen),
    )


if __name__ == '__main__':
    sys.exit(main(factory=factory))
