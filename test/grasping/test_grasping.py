"""The simulated gripper: its parts, a few picks with true poses, and one through the real node."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mujoco', reason="mujoco is not installed: pip install '.[sim]'")

from grasp_looks import Seen, close_views, in_world, search_views, together
from grasp_physics import FINGER, WIDEST, Simulation, parts, scene_xml
from grasp_plan import choose_grasp, load_grasps

from kd6d_ros.data.demo_object import OBJECT_NAME, build_demo_object
from kd6d_ros.data.demo_scene import TABLE_SIZE, turned
from kd6d_ros.errors import ConfigError
from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.geometry.transforms import random_rotation, rotation_from_vector, transform_distance
from kd6d_ros.types import RigidTransform

ROOT = Path(__file__).resolve().parents[2]
TABLE = (0.0, 0.06, *TABLE_SIZE)
CAMERA = make_camera([560.0, 0, 320, 0, 560, 240, 0, 0, 1], 640, 480)
STANDING = 0.0555
"""Height of the rover's origin when it stands [m]."""


@pytest.fixture(scope='module')
def mesh():
    return build_demo_object()


@pytest.fixture(scope='module')
def simulation(mesh):
    return Simulation(scene_xml(mesh, TABLE))


def test_the_pieces_of_the_object_are_those_of_its_mesh(mesh, simulation):
    pieces = parts(mesh)
    assert [len(points) for points in pieces].count(8) == 3
    assert len(pieces) == 9
    model, body = simulation.model, simulation.model.body('object')
    geoms = range(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
    assert len(geoms) == 9
    assert model.body_mass[body.id] == pytest.approx(0.25)
    for points, geom in zip(pieces, geoms, strict=True):
        # In the body's own frame; a cylinder's z is its axis.
        turn = np.zeros(9)
        import mujoco

        mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
        size = model.geom_size[geom]
        half = size if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX else np.array([size[0], size[0], size[1]])
        assert np.allclose(np.abs(turn.reshape(3, 3)) @ half, np.ptp(points, axis=0) / 2, atol=2e-4)
        assert np.allclose(model.geom_pos[geom], (points.min(axis=0) + points.max(axis=0)) / 2, atol=1e-6)


def test_the_hand_opens_by_20_mm_more_than_the_object_is_wide(mesh):
    """Measured on the mesh, where the fingers come down beside it."""
    name, grasps = load_grasps()
    assert name == OBJECT_NAME
    assert len(grasps) == 4
    for grasp in grasps:
        tip, closing = grasp.obj_from_hand.translation, grasp.obj_from_hand.rotation[:, 1]
        axis, other = (1, 0) if abs(closing[1]) == 1 else (0, 1)
        low, high = [], []
        for points in parts(mesh):
            beside = abs(points[:, other] - tip[other]).min() < FINGER[0] / 2 or (
                points[:, other].min() < tip[other] < points[:, other].max()
            )
            if beside and points[:, 2].max() > tip[2]:
                low.append(points[:, axis].min())
                high.append(points[:, axis].max())
        width = max(high) - min(low)
        assert grasp.opening - width == pytest.approx(0.020, abs=1e-6)
        assert (max(high) + min(low)) / 2 == pytest.approx(tip[axis], abs=1e-6)
        assert grasp.opening <= WIDEST


def test_a_grasp_comes_from_above_and_stays_off_the_table():
    _, grasps = load_grasps()
    standing = turned(0.3, (0.1, 0.2, STANDING))
    planned = choose_grasp(grasps, standing)
    assert planned.name == 'cabin'
    assert planned.world_from_hand.rotation[:, 2] == pytest.approx([0.0, 0.0, -1.0])
    # Of the two turns of the hand the nearer one, whichever way the rover stands.
    for yaw in np.linspace(0.0, 2 * math.pi, 9):
        rotation = choose_grasp(grasps, turned(yaw, (0.0, 0.0, STANDING))).world_from_hand.rotation
        assert abs(math.atan2(rotation[1, 0], rotation[0, 0])) <= math.pi / 2 + 1e-9
    sideways = RigidTransform(rotation_from_vector(np.array([math.pi / 2, 0.0, 0.0])), np.array([0.0, 0.0, STANDING]))
    assert choose_grasp(grasps, sideways) is None
    assert choose_grasp(grasps, turned(0.0, (0.0, 0.0, -0.02))) is None


def test_a_wrong_grasp_file_is_named(tmp_path):
    path = tmp_path / 'grasps.yaml'
    path.write_text('object_frame: toy_rover\nclearance: 0.02\ngrasps:\n  - {name: cabin, tip: [0, 0, 0]}\n')
    with pytest.raises(ConfigError, match=r'grasps\.yaml: not a list of grasps'):
        load_grasps(path)


@pytest.mark.parametrize('yaw', [0.4, 2.2, 5.0])
def test_with_the_true_pose_the_object_is_lifted(simulation, yaw):
    _, grasps = load_grasps()
    simulation.place(turned(yaw, (0.5 * math.cos(yaw), 0.06 + 0.3 * math.sin(yaw), STANDING)))
    result = simulation.pick(choose_grasp(grasps, simulation.world_from_obj))
    assert result.outcome == 'lifted'
    assert result.rise > 0.1
    assert result.slip < 0.005


@pytest.mark.parametrize(('shift', 'outcome'), [((0.0, 0.020, 0.0), 'hit something'), ((0.0, 0.30, 0.0), 'missed')])
def test_with_a_wrong_pose_it_is_not(simulation, shift, outcome):
    _, grasps = load_grasps()
    simulation.place(turned(0.0, (0.0, 0.0, STANDING)))
    where = simulation.world_from_obj
    wrong = RigidTransform(where.rotation, where.translation + np.array(shift))
    assert simulation.pick(choose_grasp(grasps, wrong)).outcome == outcome


def test_nothing_holds_the_object_but_friction(mesh):
    """The same pick with smooth fingers drops it."""
    from unittest import mock

    with mock.patch('grasp_physics.FRICTION', 0.01):
        slippery = Simulation(scene_xml(mesh, TABLE))
    _, grasps = load_grasps()
    slippery.place(turned(0.0, (0.0, 0.0, STANDING)))
    assert not slippery.pick(choose_grasp(grasps, slippery.world_from_obj)).lifted


def test_the_search_sees_the_whole_table():
    x, y, length, width = TABLE[:4]
    for place in np.mgrid[-0.5:0.5:11j, -0.5:0.5:11j].reshape(2, -1).T:
        point = np.array([[x + place[0] * (length - 0.2), y + place[1] * (width - 0.2), STANDING]])
        pixels = [project(CAMERA, view.apply(point))[0] for view in search_views(TABLE)]
        # With the rover's own size around it.
        assert any((pixel > 50).all() and (pixel < np.array([590, 430])).all() for pixel in pixels), point


def test_close_looks_come_from_different_sides():
    place = np.array([0.3, -0.1, STANDING])
    eyes = [view.inverse().translation for view in close_views(place)]
    assert np.allclose([np.linalg.norm(eye - place) for eye in eyes], 0.5)
    assert min(np.linalg.norm(a - b) for i, a in enumerate(eyes) for b in eyes[:i]) > 0.2


def test_poses_from_several_sides_are_weighed_by_their_certainty():
    """Each look is uncertain along its own line of sight; together they are not, and a wrong one is left out."""
    rng = np.random.default_rng(3)
    truth = RigidTransform(random_rotation(rng), np.array([0.2, 0.1, STANDING]))
    covariance = np.diag([0.001, 0.001, 0.012, 0.02, 0.02, 0.02]) ** 2
    seen = []
    for view in close_views(truth.translation)[:3]:
        error = rng.multivariate_normal(np.zeros(6), covariance)
        cam_from_obj = view @ truth
        moved = RigidTransform(
            rotation_from_vector(error[3:]) @ cam_from_obj.rotation, cam_from_obj.translation + error[:3]
        )
        seen.append(in_world(moved, covariance, view))
    fused = together(seen)
    single = [transform_distance(item.world_from_obj, truth)[0] for item in seen]
    assert transform_distance(fused.world_from_obj, truth)[0] < 0.5 * max(single)
    assert fused.uncertainty_m < 0.3 * seen[0].uncertainty_m
    wrong = Seen(turned(0.0, (0.2, 0.2, STANDING)), seen[0].covariance)
    apart = transform_distance(together([wrong, *seen]).world_from_obj, fused.world_from_obj)
    assert apart == pytest.approx((0.0, 0.0), abs=1e-9)
    assert together([wrong, seen[0]]) is None
    assert together(seen[:1]) is None


@pytest.mark.ros
@pytest.mark.render
def test_with_what_the_node_publishes_the_object_is_lifted(tmp_path):
    """One trial of `make grasp`: search, looks, pick; and the control next to it is not better informed."""
    for package in ('rclpy', 'vision_msgs.msg', 'moderngl', 'onnxruntime'):
        pytest.importorskip(package, reason=f'{package} is not installed')
    if not (ROOT / 'models' / 'demo' / 'bundle.yaml').is_file():
        pytest.skip('models/demo is not in this checkout')
    from grasp_node import NodeClient
    from run_grasping import ARMS, Experiment, show, table

    with NodeClient(ROOT / 'models' / 'demo', tmp_path) as client:
        rows = Experiment(60, ARMS, client).run(1, print)
    truth, node, control = rows
    assert (truth.outcome, node.outcome) == ('lifted', 'lifted')
    assert (node.searched >= 1, node.looks >= 3, node.error_mm < 10.0) == (True, True, True)
    assert (control.error_mm, control.error_deg) == (pytest.approx(20.0), pytest.approx(15.0))
    text = show(table(rows, ARMS)).splitlines()
    assert len(text) == 4
    assert text[2].split()[:4] == ['node', '1', '1', '100.0']
