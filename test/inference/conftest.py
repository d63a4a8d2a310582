"""Shared fixtures: a small bundle, cameras, the fake engine on a coordinate image, a tiny ONNX network."""

from pathlib import Path

import numpy as np
import pytest

from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.bundle import write_bundle
from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec, LevelSpec, NetworkSpec
from kd6d_ros.inference.engines.fake import FakeEngine, coordinate_image
from kd6d_ros.types import Mesh, ObjectModel, RigidTransform, Symmetries


def box_corners(low, high):
    grid = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    return np.asarray(low) + grid * (np.asarray(high) - np.asarray(low))


@pytest.fixture
def network():
    levels = tuple(LevelSpec(s, 4.0 * s) for s in (8, 16, 32))
    return NetworkSpec(128, 1.5, (640, 480), 256, levels, parameters=1000, architecture='fake')


@pytest.fixture
def objects():
    half_turn = RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    mug = box_corners([-0.05, -0.04, -0.06], [0.05, 0.04, 0.06])
    brick = box_corners([-0.06, -0.04, -0.02], [0.06, 0.04, 0.02])
    return (
        ObjectModel('mug', 1, 0.17, mug, display_name='Mug'),
        # The origin lies outside the body: whoever confuses origin and box centre fails.
        ObjectModel('off', 5, 0.16, box_corners([0.10, 0.02, -0.20], [0.18, 0.10, -0.08])),
        ObjectModel('brick', 7, 0.15, brick, Symmetries((half_turn,))),
    )


@pytest.fixture
def bundle(network, objects):
    return Bundle('fake', objects, network, DecodeSpec(0.1, 10, 1.0))


@pytest.fixture
def camera():
    return make_camera(np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]]), 640, 480)


@pytest.fixture
def image(camera):
    return coordinate_image(camera)


@pytest.fixture
def fake(bundle, camera):
    return FakeEngine(bundle, camera)


@pytest.fixture
def tetrahedron():
    vertices = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]], dtype=float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return Mesh(vertices, faces, np.full((4, 3), 200, dtype=np.uint8))


@pytest.fixture
def onnx_file():
    """A network of a few operations with the interface of a bundle's; test_tiny_network.py made it."""
    return Path(__file__).with_name('tiny_network.onnx')


@pytest.fixture
def plain_file(tmp_path):
    """Stands for an engine where nothing runs it."""
    path = tmp_path / 'any.onnx'
    path.write_bytes(b'not looked into')
    return path


@pytest.fixture
def write(tmp_path, objects, network, plain_file):
    """Write a bundle to tmp_path/b; keyword arguments replace parts of it."""

    def _write(**changes):
        parts = {
            'name': 'demo',
            'objects': objects,
            'network': network,
            'decode': DecodeSpec(0.1, 10, 1.0),
            'engines': {'fp32': plain_file},
            'licence': 'Apache-2.0',
            'origin': 'made here',
            'training': {'recipe': 'r.yaml', 'iterations': 10},
            'expected': {'add_recall': 0.5},
        }
        return write_bundle(tmp_path / 'b', **{**parts, **changes})

    return _write
