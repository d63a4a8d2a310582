"""The outline of a mesh against what geometry says, and poses fitted to pictures that are painted here."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted_bracket import TRUTH, K, at, block, bracket_mesh, hidden, mesh, painted, silhouette, turned, wrong

from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.inference import outline_fit
from kd6d_ros.inference.outline import OutlineModel, winding_numbers
from kd6d_ros.types import Mesh, RigidTransform


def fit_outline(*args, **kwargs):
    """The pose alone."""
    found = outline_fit.fit_outline(*args, **kwargs)
    assert found is None or 0.5 <= found.agreement <= 1
    return None if found is None else found.pose


@pytest.fixture
def bracket():
    return bracket_mesh()


def apart(a, b):
    turn = np.degrees(np.linalg.norm(cv2.Rodrigues(a.rotation @ b.rotation.T)[0]))
    return turn, abs(a.translation[2] / b.translation[2] - 1), np.linalg.norm(a.translation - b.translation)


def test_the_outline_of_a_ball_is_a_circle():
    polar, around = np.meshgrid(np.linspace(0, np.pi, 18), np.linspace(0, 2 * np.pi, 37), indexing='ij')
    points = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], -1).reshape(
        -1, 3
    )
    index = np.arange(18 * 37).reshape(18, 37)
    a, b, c, d = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    model = OutlineModel(Mesh(0.05 * points, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])))
    place = np.array([0.0, 0.0, 0.5])
    seen = model.seen(turned(0.3, 0.2, 0.1), place, K, (640, 480), 150)
    radius = 572.5 * 0.05 / np.sqrt(0.5**2 - 0.05**2)
    from_centre = seen.pixels - K[:2, 2]
    assert len(seen.points) > 130
    np.testing.assert_allclose(np.linalg.norm(from_centre, axis=1), radius, rtol=0.03)
    outward = from_centre / np.linalg.norm(from_centre, axis=1, keepdims=True)
    assert (np.einsum('nd,nd->n', outward, seen.normals) > 0.95).all()
    assert np.count_nonzero(seen.silhouette) == pytest.approx(np.pi * radius**2, rel=0.04)
    angles = np.sort(np.arctan2(*from_centre.T))
    assert np.diff(angles).max() < 0.2


def test_points_of_the_outline_are_where_the_object_ends(bracket):
    model = OutlineModel(bracket)
    rng = np.random.default_rng(3)
    camera = make_camera(K, 640, 480)
    for _ in range(20):
        pose = at(turned(*rng.normal(0, 1.5, 3)), 0.02, 0.03, 0.5)
        seen = model.seen(pose.rotation, pose.translation, K, (640, 480), 200)
        truth = silhouette(bracket, pose, camera)
        assert np.mean(truth != (seen.silhouette > 0)) < 0.001
        np.testing.assert_allclose(project(camera, pose.apply(seen.points)), seen.pixels, atol=1e-6)
        inside, outside = (np.round(seen.pixels + way * 3 * seen.normals).astype(int) for way in (-1, 1))
        assert truth[inside[:, 1], inside[:, 0]].mean() > 0.9
        assert not truth[outside[:, 1], outside[:, 0]].mean() > 0.1


@given(st.lists(st.tuples(st.floats(-8, 40), st.floats(-8, 32)), min_size=3, max_size=9), st.integers(-2, 2))
@settings(max_examples=60, deadline=None)
def test_winding_numbers_are_those_of_the_angles(corners, turns):
    """Around pixel centres off the lines; the angles under which the parts are seen are the definition."""
    start = np.array(corners) + 1e-3 * np.sqrt(np.arange(2 * len(corners))).reshape(-1, 2)
    end = np.roll(start, -1, axis=0)
    found = winding_numbers(start, end, np.full(len(start), turns), (32, 24))
    centres = np.stack(np.meshgrid(np.arange(32.0), np.arange(24.0)), axis=-1)[:, :, None]
    first, second = start - centres, end - centres
    cross = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    angles = np.arctan2(cross, (first * second).sum(-1))
    expected = -turns * angles.sum(-1) / (2 * np.pi)
    length = np.maximum(np.linalg.norm(second - first, axis=-1), 1e-9)
    along = np.clip(-(first * (second - first)).sum(-1) / length**2, 0, 1)
    clear = np.linalg.norm(first + along[..., None] * (second - first), axis=-1).min(-1) > 1e-6
    np.testing.assert_allclose(found[clear], expected[clear], atol=1e-6)


def test_a_hole_of_the_object_is_no_part_of_its_silhouette():
    """A frame of four boxes that run into each other, one of them open, seen from above."""
    sides = [
        ([-0.06, -0.06], [0.06, -0.04]),
        ([-0.06, 0.04], [0.06, 0.06]),
        ([-0.06, -0.06], [-0.04, 0.06]),
        ([0.04, -0.06], [0.06, 0.06]),
    ]
    ring = mesh(*[block([*low, 0.0], [*high, 0.02]) for low, high in sides])
    ring = Mesh(ring.vertices, ring.faces[2:])  # the first box is open
    seen = OutlineModel(ring).seen(np.diag([1.0, -1.0, -1.0]), np.array([0, 0, 0.5]), K, (640, 480), 200)
    centre = np.round(K[:2, 2]).astype(int)
    assert seen.silhouette[centre[1], centre[0]] == 0
    assert seen.silhouette[centre[1], centre[0] + round(572.5 * 0.05 / 0.5)] == 255


def test_edges_before_the_object_itself_are_left_out(bracket):
    """Seen from high above, the arm and the mast have all of their edges before the foot."""
    tele = K * [[10], [10], [1]] - [[0, 0, 9 * K[0, 2]], [0, 0, 9 * K[1, 2]], [0, 0, 0]]
    seen = OutlineModel(bracket).seen(np.diag([1.0, -1.0, -1.0]), np.array([0, 0, 5.0]), tele, (640, 480), 300)
    assert 100 < len(seen.points) < 250
    edge = np.abs(seen.points / [0.06, 0.03, 1.0])[:, :2].max(axis=1)
    assert edge.min() > 0.99


@pytest.mark.parametrize('place', [(0, 0, 0.02), (0, 0, -0.5), (900.0, 0, 0.5)])
def test_no_outline_where_there_is_none(bracket, place):
    assert OutlineModel(bracket).seen(np.eye(3), np.array(place, dtype=float), K, (200, 200), 100) is None


@pytest.mark.parametrize('seed', range(4))
def test_finds_the_distance(bracket, seed):
    camera = make_camera(K, 640, 480)
    image, _ = painted(bracket, TRUTH, camera, seed)
    found = fit_outline(OutlineModel(bracket), image, camera, wrong(), 110.0)
    turn, distance, place = apart(found, TRUTH)
    assert apart(wrong(), TRUTH)[1] == pytest.approx(0.1)
    assert turn < 2.5
    assert distance < 0.005
    assert place < 0.008


@pytest.mark.parametrize(
    ('name', 'lens'),
    [('plumb_bob', (-0.28, 0.07, 0.001, -0.0005, 0.0)), ('equidistant', (0.02, -0.01, 0.003, -0.001))],
)
def test_lenses(bracket, name, lens):
    camera = make_camera(K, 640, 480, name, lens)
    truth = at(TRUTH.rotation, 0.17, 0.12, 0.62)
    image, _ = painted(bracket, truth, camera)
    turn, distance, _ = apart(fit_outline(OutlineModel(bracket), image, camera, wrong(truth), 110.0), truth)
    assert turn < 3
    assert distance < 0.006


def test_the_mask_keeps_what_is_in_front_out(bracket):
    camera = make_camera(K, 640, 480)
    image, mask = hidden(*painted(bracket, TRUTH, camera), camera)
    model = OutlineModel(bracket)
    with_mask = apart(fit_outline(model, image, camera, wrong(), 110.0, mask), TRUTH)
    without = fit_outline(model, image, camera, wrong(), 110.0)
    assert with_mask[1] < 0.03
    assert with_mask[0] < 6
    assert without is None or with_mask[2] < apart(without, TRUTH)[2]


def test_a_picture_that_says_nothing_leaves_the_pose(bracket):
    camera = make_camera(K, 640, 480)
    grey = np.full((480, 640, 3), 128, np.uint8)
    found = fit_outline(OutlineModel(bracket), grey, camera, TRUTH, 110.0)
    if found is not None:
        turn, distance, _ = apart(found, TRUTH)
        assert turn < 0.5
        assert distance < 0.005


def test_the_same_twice(bracket):
    camera = make_camera(K, 640, 480)
    image, _ = painted(bracket, TRUTH, camera)
    first, second = (fit_outline(OutlineModel(bracket), image, camera, wrong(), 110.0) for _ in range(2))
    np.testing.assert_array_equal(first.matrix(), second.matrix())


@pytest.mark.parametrize('place', [(5.0, 0, 0.5), (0, 0, 1e-3), (0, 0, 300.0)])
def test_absurd_poses_are_no_crash(bracket, place):
    camera = make_camera(K, 640, 480)
    image, _ = painted(bracket, TRUTH, camera)
    found = fit_outline(OutlineModel(bracket), image, camera, at(np.eye(3), *place), 572 * 0.12 / place[2])
    assert found is None or np.isfinite(found.matrix()).all()


def test_a_sure_network_is_believed(bracket):
    """With information of a millimetre and half a degree the pose hardly moves, whatever the outline says."""
    camera = make_camera(K, 640, 480)
    image, _ = painted(bracket, TRUTH, camera)
    start = RigidTransform(TRUTH.rotation, TRUTH.translation * 1.05)
    sure = np.diag([1 / np.radians(0.5) ** 2] * 3 + [1 / 0.001**2] * 3) * 10
    free = apart(fit_outline(OutlineModel(bracket), image, camera, start, 110.0), TRUTH)
    held = fit_outline(OutlineModel(bracket), image, camera, start, 110.0, certainty=sure)
    assert free[1] < 0.01
    assert held is None or apart(held, start)[2] < 0.25 * apart(start, TRUTH)[2]
