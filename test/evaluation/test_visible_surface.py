"""VSD on images small enough to count by hand."""

import numpy as np
import pytest

from kd6d_ros.errors import DatasetError, ShapeError
from kd6d_ros.evaluation.visible_surface import VSD_TAUS, VisibleSurface, vsd
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.types import RigidTransform

# A focal length of a thousand images: distances from the centre are depths.
CAMERA = make_camera([[20_000, 0, 9.5], [0, 20_000, 9.5], [0, 0, 1]], 20, 20)
DIAMETER = 0.1
FAR = np.full((20, 20), 2.0)


def plane(columns, depth=1.0):
    image = np.zeros((20, 20))
    image[:, columns] = depth
    return image


def scene(*parts):
    """Measured depth: the nearest of the parts, else a wall at two metres."""
    return np.min([np.where(part > 0, part, 2.0) for part in parts], axis=0)


def test_taus_are_bops():
    assert VSD_TAUS == (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


def test_the_exact_pose_costs_nothing():
    truth = plane(slice(4, 12))
    np.testing.assert_array_equal(vsd(truth, truth, scene(truth), CAMERA, DIAMETER), np.zeros(10))


def test_pixels_of_one_pose_only_cost_at_every_tau():
    # Truth in columns 4 to 11, estimate in 6 to 13: six in both, ten in either.
    truth, estimate = plane(slice(4, 12)), plane(slice(6, 14))
    np.testing.assert_allclose(vsd(estimate, truth, scene(truth), CAMERA, DIAMETER), np.full(10, 0.4))


def test_a_shift_in_depth_costs_below_its_tau():
    # 12 mm of 100 mm: within the tolerance of visibility, beyond the taus 0.05 and 0.1.
    truth = plane(slice(4, 12))
    errors = vsd(plane(slice(4, 12), 1.012), truth, scene(truth), CAMERA, DIAMETER)
    np.testing.assert_array_equal(errors, [1, 1] + [0] * 8)


def test_a_distance_at_tau_costs():
    truth = plane(slice(4, 12), 1.0)
    errors = vsd(plane(slice(4, 12), 1.125), truth, FAR * 0, CAMERA, 0.5, taus=(0.25, 0.2500001))
    np.testing.assert_array_equal(errors, [1, 0])


def test_what_is_hidden_does_not_count():
    # Something at 0.5 m hides columns 8 to 11, where the estimate is wrong by half a metre behind it.
    truth, cover = plane(slice(4, 12)), plane(slice(8, 12), 0.5)
    estimate = plane(slice(4, 8)) + plane(slice(8, 12), 1.5)
    np.testing.assert_array_equal(vsd(estimate, truth, scene(truth, cover), CAMERA, DIAMETER), np.zeros(10))


def test_a_pixel_without_depth_hides_nothing():
    truth, estimate = plane(slice(4, 12)), plane(slice(6, 14))
    measured = scene(truth)
    measured[:, 12:14] = 0.0
    np.testing.assert_allclose(vsd(estimate, truth, measured, CAMERA, DIAMETER), np.full(10, 0.4))


def test_an_estimate_behind_the_true_surface_is_seen_there():
    # 0.3 m behind it is hidden by the object itself, and yet compared where the truth is visible.
    truth, estimate = plane(slice(4, 12)), plane(slice(4, 12), 1.3)
    np.testing.assert_array_equal(vsd(estimate, truth, scene(truth), CAMERA, DIAMETER), np.ones(10))


def test_nothing_visible_is_the_worst():
    truth = plane(slice(4, 12))
    np.testing.assert_array_equal(vsd(truth, truth, np.full((20, 20), 0.3), CAMERA, DIAMETER), np.ones(10))
    np.testing.assert_array_equal(vsd(truth * 0, truth * 0, FAR, CAMERA, DIAMETER), np.ones(10))


def test_distances_are_along_the_ray():
    """At 45 degrees a step of 50 mm in depth is 71 mm of distance: beyond 0.6 of 0.1 m, where the depth is not."""
    wide = make_camera([[10, 0, 0], [0, 10, 9.5], [0, 0, 1]], 20, 20)
    truth, estimate = plane(slice(10, 11)), plane(slice(10, 11), 1.05)
    (error,) = vsd(estimate, truth, FAR * 0, wide, DIAMETER, taus=(0.6,))
    assert error == 1.0
    (error,) = vsd(plane(slice(0, 1), 1.05), plane(slice(0, 1)), FAR * 0, wide, DIAMETER, taus=(0.75,))
    assert error == 0.0


def test_images_of_other_sizes_are_refused():
    with pytest.raises(ShapeError, match='depth images of'):
        vsd(np.zeros((4, 4)), np.zeros((20, 20)), FAR, CAMERA, DIAMETER)


def test_truths_are_rendered_once_per_image():
    rendered, read = [], []

    def render(obj_id, at, camera):
        rendered.append((obj_id, at.translation[2]))
        return plane(slice(4, 12), at.translation[2])

    def depth(scene_id, image_id):
        read.append((scene_id, image_id))
        return None if image_id == 9 else FAR

    surface = VisibleSurface(render, depth)
    truth, pose = RigidTransform(np.eye(3), [0, 0, 1.0]), RigidTransform(np.eye(3), [0, 0, 1.01])
    for _ in range(2):
        errors = surface.errors((1, 2), CAMERA, 5, DIAMETER, pose, truth)
        assert errors[0] == 1
        assert errors[-1] == 0
    assert rendered == [(5, 1.0), (5, 1.01), (5, 1.01)]
    assert read == [(1, 2)]
    with pytest.raises(DatasetError, match='scene 1 image 9 has no depth image'):
        surface.errors((1, 9), CAMERA, 5, DIAMETER, pose, truth)
