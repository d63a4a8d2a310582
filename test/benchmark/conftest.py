"""A small camera, a small bag."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from kd6d_ros.benchmark.bag_file import BagFile
from kd6d_ros.benchmark.bag_source import BagSource
from kd6d_ros.benchmark.bag_writer import BagWriter
from kd6d_ros.benchmark.records import TruthObject
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.transforms import rotation_from_vector
from kd6d_ros.types import Camera, RigidTransform

ROOT = Path(__file__).resolve().parents[2]
START_NS = 1_700_000_000_000_000_000


@pytest.fixture
def camera() -> Camera:
    return make_camera(np.array([[80.0, 0, 31.5], [0, 82.0, 23.5], [0, 0, 1]]), 64, 48)


@pytest.fixture
def truth() -> TruthObject:
    rotation = rotation_from_vector(np.array([0.3, -0.5, 1.1]))
    return TruthObject('mug', RigidTransform(rotation, np.array([0.01, -0.02, 0.7])), 0.75)


@pytest.fixture
def make_bag(camera: Camera, truth: TruthObject, tmp_path: Path) -> Callable[..., Path]:
    """Write a bag of a few smooth images; the object is absent from the last one."""

    def write(name: str = 'bag', image_format: str = 'png', frames: int = 5) -> Path:
        path = tmp_path / name
        with BagWriter(path, image_format) as writer:
            for index in range(frames):
                stamp = START_NS + index * 33_333_333
                writer.write_frame(stamp, 'optical', image_of(index), camera, (truth,) if index < frames - 1 else ())
        return path

    return write


@pytest.fixture
def demo() -> Path:
    """The shipped bundle, or a skip."""
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    if not (ROOT / 'models' / 'demo' / 'bundle.yaml').is_file() or not (ROOT / 'models' / 'demo_bag').is_dir():
        pytest.skip('models/demo or models/demo_bag is not in this checkout')
    return ROOT / 'models' / 'demo'


@pytest.fixture
def cut_demo_bag(demo: Path, tmp_path: Path) -> Callable[..., Path]:
    """The first messages of each topic of the demo bag, without the topics named."""

    def cut(frames: int, without: tuple[str, ...] = ()) -> Path:
        path = tmp_path / f'demo_{frames}{"_".join(without).replace("/", "_")}'
        taken: dict[str, int] = {}
        with BagSource(ROOT / 'models' / 'demo_bag') as source, BagFile(path) as bag:
            for raw in source.raw_messages([name for name in source.topics() if name not in without]):
                taken[raw.topic] = taken.get(raw.topic, 0) + 1
                if taken[raw.topic] <= frames:
                    bag.write(raw.topic, raw.msgtype, raw.log_time_ns, source.decode(raw))
        return path

    return cut


def image_of(index: int) -> np.ndarray:
    """A smooth (48, 64, 3) image whose red, green and blue differ."""
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 3 + index, y * 4, np.full_like(x, 40 * index % 256)], axis=2).astype(np.uint8)
