"""What the surface branch learns, on a ball whose depth is known in closed form."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord  # noqa: E402
from kd6d_ros.geometry.cameras import make_camera, project  # noqa: E402
from kd6d_ros.geometry.transforms import rotation_from_vector  # noqa: E402
from kd6d_ros.inference.crop import Crop  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.dataset import collate, make_sample  # noqa: E402
from kd6d_ros.training.frames import DEPTH_UNIT, Frame, FramePack, pack_frames  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe, SamplingRecipe  # noqa: E402
from kd6d_ros.training.surface_targets import BACKGROUND, UNKNOWN, surface_targets  # noqa: E402
from kd6d_ros.types import ObjectModel, RigidTransform, Symmetries  # noqa: E402

MATRIX = np.array([[210.0, 0, 79.5], [0, 205, 58.0], [0, 0, 1]])
CAMERA = make_camera(MATRIX, 160, 120)
RADIUS = 0.05
OFFSET = np.array([0.03, -0.02, 0.08])  # of the ball's centre from the object's origin
CUBE = OFFSET + RADIUS * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
TURN = rotation_from_vector(np.array([0.7, -1.1, 0.4]))
CENTRE = np.array([0.02, -0.01, 0.45])  # of the ball in the camera frame
POSE = RigidTransform(TURN, CENTRE - TURN @ OFFSET)
WINDOWS = {
    'one to one': Crop(0.0, 0.0, 1.0, 160, 120),
    'zoomed in': Crop.square((90.0, 55.0), 60.0, 128),
    'zoomed out': Crop.square((80.0, 60.0), 256.0, 128),
    'wide': Crop(41.3, 20.7, 1.7, 128, 96),
}


def ball_depth(centre):
    """Depth (H, W) [m] of a ball around `centre`, 0 beside it."""
    xs, ys = np.meshgrid(np.arange(160), np.arange(120))
    rays = np.stack([xs, ys, np.ones_like(xs)], -1) @ np.linalg.inv(MATRIX).T
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - RADIUS**2
    root = b**2 - a * c
    return np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, 0.0)


def make_frame(depth=None, **changes):
    """A frame with the ball as its second annotation, of class 3; the first is not learned."""
    ball = ball_depth(CENTRE)
    labels = np.where(ball > 0, 2, 0).astype(np.uint8)
    labels[:, :20] = 1
    corners = np.stack([CUBE + np.array([0, 0, 2.0]), POSE.apply(CUBE)])
    return replace(
        Frame(
            np.zeros((120, 160, 3), np.uint8), labels, MATRIX, np.array([-1, 3]), np.ones(2), np.zeros((2, 4)),
            np.stack([project(CAMERA, c) for c in corners]), corners, np.array([1.0, 2 * RADIUS]),
            np.stack([np.eye(3), TURN]), np.stack([[0, 0, 2.0], POSE.translation]),
            np.rint((ball if depth is None else depth) / DEPTH_UNIT).astype(np.uint16),
        ),
        **changes,
    )  # fmt: skip


def cell_pixels(crop):
    """Image pixels (h, w, 2) of the centres of the stride-8 cells, by the definition of a cell."""
    rows, columns = crop.height // 8, crop.width // 8
    centres = [[((j + 0.5) * 8 - 0.5, (i + 0.5) * 8 - 0.5) for j in range(columns)] for i in range(rows)]
    return crop.to_image(np.array(centres))


def reproject(points, frame, index):
    """Pixels of target points (N, 3) [diameters] of annotation `index`, through its pose and box."""
    centre = frame.corners_m[index].mean(0)
    return project(CAMERA, points * frame.diameter[index] @ frame.rotation[index].T + centre)


@pytest.mark.parametrize('window', WINDOWS)
def test_points_lie_on_the_ball_and_under_their_cells(window):
    frame, crop = make_frame(), WINDOWS[window]
    targets = surface_targets(frame, crop)
    pixels = cell_pixels(crop).reshape(-1, 2)
    assert (len(targets.classes), targets.points.shape) == (len(pixels), (len(pixels), 3))
    on = targets.classes == 3
    assert on.sum() > 5
    # The map of cells is cut from the image at the nearest pixel.
    assert np.abs(reproject(targets.points[on], frame, 1) - pixels[on]).max() < 0.51
    np.testing.assert_allclose(np.linalg.norm(targets.points[on], axis=1), 0.5, atol=2e-3)
    assert targets.points.dtype == np.float32
    # Seen from the object, every point looks towards the camera.
    towards = TURN.T @ (-CENTRE / np.linalg.norm(CENTRE))
    assert (targets.points[on] @ towards > 0).all()


@settings(max_examples=40)
@given(
    x0=st.floats(-60, 120), y0=st.floats(-60, 90), scale=st.floats(0.4, 6), columns=st.integers(2, 20),
    rows=st.integers(2, 20), turn=st.tuples(*[st.floats(-3, 3)] * 3),
)  # fmt: skip
def test_points_reproject_onto_their_cells_in_any_window(x0, y0, scale, columns, rows, turn):
    rotation = rotation_from_vector(np.array(turn))
    corners = np.stack([CUBE, (CUBE - OFFSET) @ rotation.T + CENTRE])
    frame = make_frame(corners_m=corners, rotation=np.stack([np.eye(3), rotation]))
    crop = Crop(x0, y0, scale, 8 * columns, 8 * rows)
    targets = surface_targets(frame, crop)
    pixels = cell_pixels(crop).reshape(-1, 2)
    on = targets.classes == 3
    assert (np.abs(reproject(targets.points[on], frame, 1) - pixels[on]) < 0.51).all()
    ball = np.linalg.norm(pixels - project(CAMERA, CENTRE[None])[0], axis=1)
    image = ((pixels >= 0) & (pixels <= [159, 119])).all(1)
    np.testing.assert_array_equal(on[ball < 18], image[ball < 18] & (np.rint(pixels[ball < 18, 0]) >= 20))


def test_beside_the_object_is_background():
    frame, crop = make_frame(), WINDOWS['zoomed out']  # reaches beyond the image on every side
    targets = surface_targets(frame, crop)
    x, y = np.rint(cell_pixels(crop).reshape(-1, 2)).astype(int).T
    outside = (x < 0) | (y < 0) | (x >= 160) | (y >= 120)
    assert 0 < outside.sum() < len(x)
    assert (targets.classes[outside] == BACKGROUND).all()
    labels = np.where(outside, 0, frame.labels[y.clip(0, 119), x.clip(0, 159)])
    assert {0, 1, 2} == set(labels)
    assert (targets.classes[labels == 0] == BACKGROUND).all()
    assert (targets.classes[labels == 1] == BACKGROUND).all()  # an object that is not learned
    assert (targets.classes[labels == 2] == 3).all()
    assert (targets.points[labels != 2] == 0).all()


def test_an_object_cut_by_the_edge_of_the_image_does_not_go_on_beyond_it():
    frame = make_frame(labels=np.full((120, 160), 2, np.uint8), depth=np.full((120, 160), 0.45))
    targets = surface_targets(frame, Crop(-32.0, -32.0, 1.0, 224, 184))
    grid = targets.classes.reshape(23, 28)
    inside = np.zeros((23, 28), bool)
    inside[4:19, 4:24] = True
    assert (grid[~inside] == BACKGROUND).all()
    assert (grid[inside] != BACKGROUND).all()


@pytest.mark.parametrize('change', [{'depth': None}, {'depth': np.zeros((120, 160), np.uint16)}])
def test_without_depth_the_object_is_unknown_and_the_rest_is_not(change):
    frame = replace(make_frame(), **change)
    targets = surface_targets(frame, WINDOWS['one to one'])
    known = surface_targets(make_frame(), WINDOWS['one to one']).classes
    np.testing.assert_array_equal(targets.classes, np.where(known == 3, UNKNOWN, known))
    assert (targets.points == 0).all()


def test_a_hole_in_the_depth_is_unknown():
    depth = ball_depth(CENTRE)
    depth[50:60] = 0
    targets = surface_targets(make_frame(depth), WINDOWS['one to one'])
    full = surface_targets(make_frame(), WINDOWS['one to one'])
    y = np.rint(cell_pixels(WINDOWS['one to one']).reshape(-1, 2)[:, 1])
    hole = (full.classes == 3) & (y >= 50) & (y < 60)
    assert hole.any()
    np.testing.assert_array_equal(targets.classes, np.where(hole, UNKNOWN, full.classes))
    np.testing.assert_array_equal(targets.points[~hole], full.points[~hole])
    assert (targets.points[hole] == 0).all()


@pytest.mark.parametrize('distance', [0.2, 0.7, 6.0])
def test_the_depth_of_something_else_is_unknown(distance):
    """A wall more than a diameter before or behind the ball under the ball's mask."""
    targets = surface_targets(make_frame(np.full((120, 160), distance)), WINDOWS['one to one'])
    truth = surface_targets(make_frame(), WINDOWS['one to one']).classes
    np.testing.assert_array_equal(targets.classes, np.where(truth == 3, UNKNOWN, truth))
    assert (targets.points == 0).all()


HALF_TURN = RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.array([2 * OFFSET[0], 2 * OFFSET[1], 0.0]))
"""About the z axis through the ball's centre: the cube stays where it is, the pose does not."""


def write_ball(root, poses, depth=True):
    """One scene with an image of the ball at each pose."""
    writer = BopSceneWriter(root / 'train' / '000000')
    for image_id, pose in enumerate(poses):
        ball = ball_depth(pose.apply(OFFSET[None])[0]).astype(np.float32)
        mask = np.where(ball > 0, 255, 0).astype(np.uint8)
        picture = np.repeat(mask[..., None] // 2, 3, axis=2)
        instances = (InstanceRecord(1, pose, mask, mask),)
        writer.write(ImageRecord(image_id, CAMERA, picture, ball if depth else None, instances))
    writer.finalise()
    return root


def test_a_symmetric_object_is_labelled_in_its_canonical_pose(tmp_path):
    root = write_ball(tmp_path / 'set', [POSE, POSE @ HALF_TURN])
    folder = pack_frames(root, 'train', tmp_path / 'cache', 1)
    plain = ObjectModel('ball', 1, 2 * RADIUS, CUBE)
    symmetric = ObjectModel('ball', 1, 2 * RADIUS, CUBE, Symmetries((HALF_TURN,)))
    crop = WINDOWS['zoomed in']
    pixels, targets = cell_pixels(crop).reshape(-1, 2), {}
    for name, model in (('plain', plain), ('symmetric', symmetric)):
        for number in range(2):
            frame = FramePack(folder, (model,)).frame(number)
            found = targets[name, number] = surface_targets(frame, crop)
            on = found.classes == 0
            assert on.sum() > 50
            assert np.abs(reproject(found.points[on], frame, 0) - pixels[on]).max() < 0.51
            own = RigidTransform(frame.rotation[0], frame.translation[0])
            np.testing.assert_allclose(own.apply(CUBE), frame.corners_m[0], atol=1e-9)
    np.testing.assert_allclose(targets['symmetric', 0].points, targets['symmetric', 1].points, atol=1e-4)
    assert np.abs(targets['plain', 0].points - targets['plain', 1].points).max() > 0.5


def recipe_for(root, surface):
    spec = NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, classes=1, surface=surface)
    return Recipe(
        network=spec, input=InputRecipe(96, 1.5, (160, 128)), data=DataRecipe(str(root)),
        sampling=SamplingRecipe(window_fraction=0.0),
    )  # fmt: skip


@pytest.mark.parametrize('depth', [True, False])
def test_samples_and_batches_carry_the_cells_of_the_network(tmp_path, depth):
    root = write_ball(tmp_path / 'set', [POSE, POSE], depth)
    model = ObjectModel('ball', 1, 2 * RADIUS, CUBE)
    frame = FramePack(pack_frames(root, 'train', tmp_path / 'cache', 1), (model,)).frame(0)
    samples = [make_sample(frame, recipe_for(root, 16), np.random.default_rng(seed)) for seed in range(3)]
    batch = collate(samples)
    output = KeypointNetwork(recipe_for(root, 16).network)(batch.image.float())
    assert batch.surface_class.shape == (3, output.surface[0, 0, 0].numel())
    assert batch.surface_point.shape == (3, output.surface[0, 0, 0].numel(), 3)
    for sample, row, image in zip(samples, batch.surface_class, batch.image, strict=True):
        np.testing.assert_array_equal(sample.surface.classes, row)
        # The ball is grey on black: its cells must be where the network's cells show it, row by row.
        at_cells = image[:, 3::8, 3::8].float().mean(0).flatten()
        found = row == (0 if depth else UNKNOWN)
        assert at_cells[found].mean() > at_cells[row == BACKGROUND].mean() + 60
        assert found.sum() > 5
        assert set(row.tolist()) <= ({0, BACKGROUND, UNKNOWN} if depth else {BACKGROUND, UNKNOWN})


def test_a_network_without_the_branch_gets_no_targets(tmp_path):
    root = write_ball(tmp_path / 'set', [POSE])
    model = ObjectModel('ball', 1, 2 * RADIUS, CUBE)
    frame = FramePack(pack_frames(root, 'train', tmp_path / 'cache', 1), (model,)).frame(0)
    batch = collate([make_sample(frame, recipe_for(root, 0), np.random.default_rng(0))] * 2)
    assert batch.surface_class.shape == (2, 0)
    assert batch.surface_point.shape == (2, 0, 3)
