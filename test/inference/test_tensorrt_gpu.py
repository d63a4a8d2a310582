"""TensorRT on a real GPU: engines of the shipped bundle, against ONNX Runtime on the CPU. Not run on one yet."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from kd6d_ros.cli import main as cli
from kd6d_ros.errors import EngineError
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.inference.engines import select
from kd6d_ros.inference.engines.select import make_engine
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.locate import find_bundle

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = find_bundle('demo')
PRECISIONS = [name for name in load_bundle(BUNDLE).engines if name in ('fp32', 'fp16', 'int8')]

POSE_TOLERANCE = {'fp32': (0.001, 0.01), 'fp16': (0.005, 0.03), 'int8': (0.02, 0.1)}
"""Precision -> largest median difference of a pose from FP32: translation [m], rotation [rad]."""


@pytest.fixture(scope='module', autouse=True)
def backend():
    pytest.importorskip('onnxruntime')
    try:
        return select.new_backend()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory, backend):
    """One cache for all tests, since a build takes minutes."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('engines')
        patch.setenv('KD6D_CACHE', str(folder))
        yield folder


@pytest.fixture(scope='module')
def frames():
    pytest.importorskip('rosbags')
    from kd6d_ros.benchmark.bag_frames import read_frames
    from kd6d_ros.benchmark.bag_source import BagSource
    from kd6d_ros.benchmark.recording import TopicChoice, open_recording

    recording = open_recording(ROOT / 'models' / 'demo_bag', TopicChoice(), load_bundle(BUNDLE).names)
    with BagSource(recording.path) as source:
        return [frame for number, frame in enumerate(read_frames(source, recording.topics)) if number < 60]


def poses(engine, bundle, frames):
    estimator = PoseEstimator(bundle, engine)
    return [estimator.estimate(frame.image, frame.camera, frame.stamp_ns * 1e-9) for frame in frames]


@pytest.mark.parametrize('precision', PRECISIONS)
def test_engines_are_built_kept_and_say_what_they_run_in(precision, capsys, cache):
    assert cli.main(['engine', str(BUNDLE), '--precision', precision, '--workspace-mb', '1024', '--json']) == 0
    first = json.loads(capsys.readouterr().out)
    assert [item['state'] for item in first['engines']] == ['built', 'built']
    assert cli.main(['engine', str(BUNDLE), '--precision', precision, '--json']) == 0
    assert [item['state'] for item in json.loads(capsys.readouterr().out)['engines']] == ['was there', 'was there']
    sidecars = [json.loads(path.read_text()) for path in cache.glob(f'*-{precision}-*.json')]
    assert all(precision in record['facts']['layers'] for record in sidecars), 'layers run in what was asked for'
    engine = make_engine(load_bundle(BUNDLE), 'auto', precision)
    assert engine.name == 'tensorrt'
    assert engine.precision == precision


def test_float32_cells_are_those_of_onnx_runtime():
    bundle = load_bundle(BUNDLE)
    ours, theirs = make_engine(bundle, 'tensorrt', 'fp32'), make_engine(bundle, 'onnxruntime', 'fp32')
    rng, classes = np.random.default_rng(5), np.ones((2, len(bundle.objects)), bool)
    width, height = bundle.network.frame_size
    for rows, columns in ((bundle.network.crop_size, bundle.network.crop_size), (height, width)):
        image = rng.integers(0, 256, (2, rows, columns, 3)).astype(np.uint8)
        for one, other in zip(ours.run(image, classes), theirs.run(image, classes), strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-3)
            assert one.surface == pytest.approx(other.surface, abs=1e-2)


def test_several_crops_at_once_give_what_single_ones_give():
    bundle = load_bundle(BUNDLE)
    side = bundle.network.crop_size
    image = np.random.default_rng(6).integers(0, 256, (6, side, side, 3)).astype(np.uint8)
    classes = np.ones((6, len(bundle.objects)), bool)
    alone = make_engine(bundle, 'tensorrt', 'fp32').run(image, classes)
    assert cli.main(['engine', str(BUNDLE), '--precision', 'fp32', '--batch', '4']) == 0
    engine = make_engine(bundle, 'tensorrt', 'fp32')
    assert engine.description.endswith(', up to 4 crops at once')
    for one, other in zip(engine.run(image, classes), alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert one.surface == pytest.approx(other.surface, abs=1e-2)


@pytest.mark.parametrize('precision', PRECISIONS)
def test_poses_agree_with_float32(precision, frames):
    bundle = load_bundle(BUNDLE)
    ours = poses(make_engine(bundle, 'tensorrt', precision), bundle, frames)
    theirs = poses(make_engine(bundle, 'onnxruntime', 'fp32'), bundle, frames)
    both = [(one[0], other[0]) for one, other in zip(ours, theirs, strict=True) if one and other]
    assert len(both) >= 0.95 * sum(bool(other) for other in theirs)
    shifts = [np.linalg.norm(a.cam_from_obj.translation - b.cam_from_obj.translation) for a, b in both]
    turns = [_angle(a.cam_from_obj.rotation, b.cam_from_obj.rotation) for a, b in both]
    most_shift, most_turn = POSE_TOLERANCE[precision]
    assert np.median(shifts) < most_shift
    assert np.median(turns) < most_turn


def _angle(first, second):
    """Angle between two rotations [rad]."""
    return float(np.arccos(np.clip((np.trace(first.T @ second) - 1) / 2, -1, 1)))


def test_another_thread_may_run_it_and_memory_is_given_back():
    bundle = load_bundle(BUNDLE)
    engine = make_engine(bundle, 'tensorrt', 'fp32')
    size = bundle.network.crop_size
    image, classes = np.zeros((1, size, size, 3), np.uint8), np.ones((1, len(bundle.objects)), bool)
    expected = engine.run(image, classes)[0].score
    found = []
    thread = threading.Thread(target=lambda: found.append(engine.run(image, classes)[0].score))
    thread.start()
    thread.join()
    assert found[0] == pytest.approx(expected, abs=1e-6)
    engine.close()
