"""The quick way over many symmetries gives what trying all of them gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.evaluation import pose_errors
from kd6d_ros.evaluation.symmetric_vertices import SymmetricVertices
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.symmetries import rotation_about, symmetry_transforms
from kd6d_ros.geometry.transforms import random_rotation, rotation_from_vector
from kd6d_ros.types import ContinuousSymmetry, RigidTransform, Symmetries

CAMERA = make_camera([[500, 0, 320], [0, 500, 240], [0, 0, 1]], 640, 480)
AXIS = ContinuousSymmetry(np.array([0, 0, 1.0]), np.array([0.01, 0, 0]))
FLIP = RigidTransform(np.diag([1.0, -1, -1]), np.zeros(3))
KINDS = (Symmetries(), Symmetries((FLIP,)), Symmetries((), (AXIS,)), Symmetries((FLIP,), (AXIS,)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.floats(0, 3))
def test_it_equals_the_plain_definition(seed, symmetries, spread):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(rng.integers(1, 120), 3)) * 0.05
    transforms = symmetry_transforms(symmetries)
    truth = RigidTransform(random_rotation(rng), [*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.2, 1.5)])
    nudge = rotation_from_vector(rng.normal(size=3) * spread)
    estimate = truth @ RigidTransform(nudge, rng.normal(size=3) * 0.02 * spread)
    quick = SymmetricVertices(vertices, transforms)
    mssd = pose_errors.mssd(estimate, truth, vertices, transforms)
    mspd = pose_errors.mspd(estimate, truth, CAMERA, vertices, transforms)
    assert quick.mssd(estimate, truth) == pytest.approx(mssd, abs=1e-12)
    assert quick.mspd(estimate, truth, CAMERA) == pytest.approx(mspd, rel=1e-9)


def test_a_turn_by_a_listed_step_costs_nothing():
    rng = np.random.default_rng(3)
    quick = SymmetricVertices(rng.normal(size=(200, 3)) * 0.05, symmetry_transforms(Symmetries((), (AXIS,))))
    truth = RigidTransform(random_rotation(rng), [0, 0, 0.8])
    turned = truth @ rotation_about(AXIS, 2 * np.pi * 100 / 315)
    assert quick.mssd(turned, truth) == pytest.approx(0, abs=1e-9)
    assert quick.mspd(turned, truth, CAMERA) == pytest.approx(0, abs=1e-6)


def test_poses_behind_the_camera_are_infinitely_far_in_pixels():
    quick = SymmetricVertices(np.eye(3) * 0.1, symmetry_transforms(Symmetries((FLIP,))))
    front, behind = RigidTransform(np.eye(3), [0, 0, 1]), RigidTransform(np.eye(3), [0, 0, -1])
    assert quick.mspd(front, behind, CAMERA) == float('inf')
    assert quick.mspd(behind, front, CAMERA) == float('inf')
