"""The outline of a mesh against what geometry says, and poses fitted to pictures that are painted here."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.outline import OutlineModel, winding_numbers
from kd6d_ros.inference.outline_fit import fit_outline
from kd6d_ros.inference.outline_view import MaskMap
from kd6d_ros.types import Mesh, RigidTransform

K = np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]])


def block(low, high):
    """A box of two triangles per side, normals outward."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(high) - low) + low
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return corners, np.array([[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)])


def mesh(*blocks):
    vertices, faces, count = [], [], 0
    for corners, triangles in blocks:
        vertices.append(corners)
        faces.append(triangles + count)
        count += len(corners)
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


@pytest.fixture
def bracket():
    """A foot, a mast at one end of it, a small arm: no symmetry, and parts before one another."""
    return mesh(
        block([-0.06, -0.03, -0.02], [0.06, 0.03, 0.0]),
        block([0.03, -0.02, 0.0], [0.055, 0.02, 0.08]),
        block([-0.02, -0.012, 0.05], [0.03, 0.012, 0.07]),
    )


def turned(*vector):
    return cv2.Rodrigues(np.array(vector, dtype=float))[0]


def at(rotation, *place):
    return RigidTransform(rotation, np.array(place, dtype=float))


def silhouette(shape, pose, camera):
    """Where the mesh is in the image of a camera, whatever its lens: triangles with bent sides. Drawn four times as
    large, as OpenCV fills every pixel that a side touches: at 1:1 the object would be half a pixel wider all around."""
    large = 4
    out = np.zeros((large * camera.height, large * camera.width), np.uint8)
    share = np.linspace(0, 1, 13)[:-1, None]
    for triangle in shape.vertices[shape.faces]:
        ring = np.concatenate(
            [a * (1 - share) + b * share for a, b in zip(triangle, np.roll(triangle, -1, 0), strict=True)]
        )
        pixels = large * (project(camera, pose.apply(ring)) + 0.5) - 0.5
        cv2.fillPoly(out, [np.round(pixels * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    return cv2.resize(out, (camera.width, camera.height), interpolation=cv2.INTER_AREA) > 127


def painted(shape, pose, camera, seed=0):
    """Noise around two colours for the object, and others, patchy, around it."""
    rng = np.random.default_rng(seed)
    size = (camera.height, camera.width)
    patches = cv2.resize(rng.uniform(0, 255, (12, 16, 3)), size[::-1], interpolation=cv2.INTER_NEAREST)
    patches[..., 0] *= 0.4
    image = patches + rng.normal(0, 12, (*size, 3))
    own = silhouette(shape, pose, camera)
    stripes = ((np.indices(size).sum(axis=0) // 9) % 2)[..., None]
    colour = np.where(stripes, [205.0, 60.0, 50.0], [180.0, 90.0, 60.0]) + rng.normal(0, 12, (*size, 3))
    image[own] = colour[own]
    return np.clip(cv2.GaussianBlur(image, (0, 0), 0.7), 0, 255).astype(np.uint8), own


def apart(a, b):
    turn = np.degrees(np.linalg.norm(cv2.Rodrigues(a.rotation @ b.rotation.T)[0]))
    return turn, abs(a.translation[2] / b.translation[2] - 1), np.linalg.norm(a.translation - b.translation)


TRUTH = at(turned(1.9, 0.5, -0.2), 0.04, -0.03, 0.62)


def wrong(truth=TRUTH):
    """8 degrees, a tenth of the distance, and some pixels off."""
    return RigidTransform(turned(0.08, -0.09, 0.06) @ truth.rotation, truth.translation * 1.1 + [0.002, -0.002, 0.0])


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


def hidden(image, own, camera):
    """A third of the object behind a plate of nearly its own colour, and the network's mask that knows of it."""
    rows, columns = np.nonzero(own)
    cut = int(np.quantile(columns, 0.66))
    image = image.copy()
    image[rows.min() - 30 : rows.max() + 30, cut : columns.max() + 60] = (190, 75, 55)
    seen = own.copy()
    seen[:, cut:] = False
    crop = Crop.square((float(columns.mean()), float(rows.mean())), 170.0, 128)
    share = (
        cv2.resize(
            crop.extract(np.repeat(255 * seen[..., None].astype(np.uint8), 3, axis=2), 0)[..., 0],
            (16, 16),
            interpolation=cv2.INTER_AREA,
        )
        / 255.0
    )
    return image, MaskMap(np.clip(8 * (share - 0.5), -4, 4), crop)


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
