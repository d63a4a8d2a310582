"""Surface points of one instance: which cells, where in the image, which metres."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.geometry.cameras import project
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.engines.fake import FakeEngine, coordinate_image
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.inference.surface import SurfaceCloud, surface_cloud
from kd6d_ros.types import Detection, LocalPredictions, ObjectModel, RigidTransform

EVERYWHERE = np.array([-1e4, -1e4, 1e4, 1e4])
CROP = Crop.square((200.0, 100.0), 256.0, 128)  # left edge at 72.5, top edge at -27.5 in the image, scale 0.5


def predictions(surface):
    none = np.zeros(0, dtype=np.int64)
    empty = np.zeros((0, 2), np.float32), np.zeros((0, 8, 2), np.float32)
    return LocalPredictions(none, np.zeros(0, np.float32), none, *empty, surface)


def blank(classes=3, rows=16, columns=16):
    surface = np.zeros((classes, 4, rows, columns), np.float32)
    surface[:, 3] = -4.0
    return surface


def test_a_network_without_the_branch_gives_none(objects):
    assert surface_cloud(predictions(None), 0, objects[0], CROP, EVERYWHERE) is None


def test_no_mask_gives_an_empty_cloud(objects):
    cloud = surface_cloud(predictions(blank()), 0, objects[0], CROP, EVERYWHERE)
    assert isinstance(cloud, SurfaceCloud)
    assert (cloud.points.shape, cloud.pixels.shape, cloud.weights.shape) == ((0, 3), (0, 2), (0,))


def test_one_cell_by_hand(objects):
    """Row 5, column 2 at stride 8: centre 20 and 44 from the window's edges, at scale 0.5 that is 40 and 88 image
    pixels; the edges lie at 72 and -28."""
    assert (CROP.x0, CROP.y0) == (72.5, -27.5)
    surface = blank()
    surface[1, :, 5, 2] = 0.25, -0.5, 0.125, 1.0
    surface[0, 3, 9, 9] = 3.0  # another class
    cloud = surface_cloud(predictions(surface), 1, objects[1], CROP, EVERYWHERE)
    np.testing.assert_allclose(cloud.pixels, [[112.0, 60.0]])
    # diameter 0.16 m; the box of 'off' is centred on (0.14, 0.06, -0.14)
    np.testing.assert_allclose(cloud.points, [[0.04 + 0.14, -0.08 + 0.06, 0.02 - 0.14]])
    np.testing.assert_allclose(cloud.weights, [1 / (1 + np.exp(-1.0))])


def test_the_mask_decides_at_one_half(objects):
    surface = blank()
    surface[0, 3, 3, :4] = -1e-3, 0.0, 1e-3, 80.0
    cloud = surface_cloud(predictions(surface), 0, objects[0], CROP, EVERYWHERE)
    np.testing.assert_allclose(CROP.to_network(cloud.pixels), [[11.5, 27.5], [19.5, 27.5], [27.5, 27.5]])
    np.testing.assert_allclose(cloud.weights, [0.5, 0.50025, 1.0])


def test_only_cells_in_the_box_count_with_half_a_cell_of_margin(objects):
    surface = blank()
    surface[0, 3] = 1.0
    box = np.array([19.5, 35.5, 39.0, 44.0])  # centres 19.5, 27.5, 35.5 and 43.0 at the margin; rows 35.5 and 43.5
    cloud = surface_cloud(predictions(surface), 0, objects[0], CROP, box)
    centres = CROP.to_network(cloud.pixels)
    np.testing.assert_allclose(np.unique(centres[:, 0]), [19.5, 27.5, 35.5])
    np.testing.assert_allclose(np.unique(centres[:, 1]), [35.5, 43.5])
    assert len(centres) == 6
    wider = surface_cloud(predictions(surface), 0, objects[0], CROP, box + np.array([0.0, 0.0, 0.5, 0.0]))
    assert CROP.to_network(wider.pixels)[:, 0].max() == pytest.approx(43.5)
    assert len(surface_cloud(predictions(surface), 0, objects[0], CROP, box + 1000).points) == 0


@given(
    x0=st.floats(-500, 500), y0=st.floats(-500, 500), scale=st.floats(0.05, 8), row=st.integers(0, 14),
    column=st.integers(0, 19), stride=st.sampled_from([4, 8, 16]),
)  # fmt: skip
def test_pixels_follow_the_crop_for_any_window_and_stride(x0, y0, scale, row, column, stride):
    corners = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.1, 0.1)])
    crop = Crop(x0, y0, scale, 20 * stride, 15 * stride)
    surface = blank(1, 15, 20)
    surface[0, 3, row, column] = 2.0
    cloud = surface_cloud(predictions(surface), 0, ObjectModel('a', 1, 0.35, corners), crop, EVERYWHERE)
    edge = np.array([column, row]) * stride / scale  # image pixels from the window's edges to the cell's
    middle = edge + stride / scale / 2 + [x0 - 0.5, y0 - 0.5]
    np.testing.assert_allclose(cloud.pixels, [middle], atol=1e-6)


class SeeingEngine:
    """Corners of one pose from the fake engine, and the surface of another, cast into the cells of `crop`."""

    name, precision, description = 'seeing', 'none', 'fake engine with a surface'
    side_by_side = 1

    def __init__(self, fake, bundle, camera, truth, crop):
        self.fake, self.bundle, self.camera, self.truth, self.crop = fake, bundle, camera, truth, crop

    def run(self, image, classes):
        (cells,) = self.fake.run(image, classes)
        side = self.crop.width // 8
        ys, xs = np.mgrid[0:side, 0:side]
        pixels = self.crop.to_image((np.stack([xs, ys], -1).reshape(-1, 2) + 0.5) * 8 - 0.5)
        model = self.bundle.object('mug')
        points, hit = cast(self.camera, pixels, self.truth, model.keypoints)
        points += np.random.default_rng(3).normal(0, 0.01 * model.diameter, points.shape)
        surface = blank(len(self.bundle.objects), side, side)
        surface[0, :3] = np.where(hit, points.T / model.diameter, 0.0).reshape(3, side, side)
        surface[0, 3] = np.where(hit, 3.0, -3.0).reshape(side, side)
        return [replace(cells, surface=surface)]


def cast(camera, pixels, pose, corners):
    """Nearest point (N, 3) of a box in the object's frame along the ray of each pixel, and where there is one."""
    rays = np.concatenate([(pixels - camera.matrix[:2, 2]) / np.diag(camera.matrix)[:2], np.ones((len(pixels), 1))], 1)
    direction, start = rays @ pose.rotation, -pose.rotation.T @ pose.translation
    low, high = (corners.min(0) - start) / direction, (corners.max(0) - start) / direction
    near, far = np.minimum(low, high).max(1), np.maximum(low, high).min(1)
    return start + near[:, None] * direction, near <= far


def test_the_estimator_measures_with_the_surface(bundle, camera):
    """Corners that agree on a pose 5 degrees and 3 % of the distance off; the surface says where the object is."""
    image, network, model = coordinate_image(camera), bundle.network, bundle.object('mug')
    errors = {'corners': [], 'surface': []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        turn = cv2.Rodrigues(rng.uniform(-1, 1, 3))[0]
        truth = RigidTransform(turn, np.array([rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05), 0.6]))
        wrong = RigidTransform(turn @ cv2.Rodrigues(np.array([0.06, -0.06, 0.0]))[0], truth.translation * 1.03)
        pixels = project(camera, truth.apply(model.keypoints))
        box = np.concatenate([pixels.min(0), pixels.max(0)])
        crop = Crop.around_box(box, network.crop_padding, network.crop_size)
        fake = FakeEngine(bundle, camera, [('mug', wrong)])
        for name, engine in (('corners', fake), ('surface', SeeingEngine(fake, bundle, camera, truth, crop))):
            robot = PoseEstimator(bundle, engine, EstimatorSettings(track=False, find=False, refine_crops=0))
            (pose,) = robot.estimate(image, camera, 0.0, [Detection('mug', 1.0, box)])
            gap = pose.cam_from_obj.apply(model.keypoints) - truth.apply(model.keypoints)
            errors[name].append(np.linalg.norm(gap, axis=1).mean() / model.diameter)
    assert np.median(errors['corners']) > 0.08
    assert np.median(errors['surface']) < 0.6 * np.median(errors['corners'])
    assert max(errors['surface']) < min(errors['corners'])
