"""A small camera, a small bag."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from kd6d_ros.benchmark.bag_writer import BagWriter
from kd6d_ros.benchmark.records import TruthObject
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.transforms import rotation_from_vector
from kd6d_ros.types import Camera, RigidTransform

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


def image_of(index: int) -> np.ndarray:
    """A smooth (48, 64, 3) image whose red, green and blue differ."""
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 3 + index, y * 4, np.full_like(x, 40 * index % 256)], axis=2).astype(np.uint8)
