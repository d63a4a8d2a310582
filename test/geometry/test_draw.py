"""Overlays: lines where the projection says, nothing behind the camera, lenses bend them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kd6d_ros.errors import ShapeError
from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.geometry.draw import box_edges, draw_lines, draw_pose
from kd6d_ros.types import ObjectModel, RigidTransform

K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
CAMERA = make_camera(K, 320, 240)
CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.04, 0.04) for z in (-0.03, 0.03)])
MODEL = ObjectModel('box', 1, 0.14, CORNERS)
COLOUR = (255, 200, 0)


def blank():
    return np.zeros((240, 320, 3), np.uint8)


def at(x, y, z):
    return RigidTransform(np.eye(3), [x, y, z])


@pytest.mark.parametrize('order', [np.arange(8), np.arange(8)[::-1], np.array([3, 0, 6, 5, 1, 7, 2, 4])])
def test_box_has_twelve_edges_in_any_corner_order(order):
    edges = box_edges(CORNERS[order])
    assert edges.shape == (12, 2, 3)
    lengths = np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1)
    np.testing.assert_allclose(np.sort(lengths), [0.06] * 4 + [0.08] * 4 + [0.1] * 4)


def test_box_touches_every_projected_corner():
    image = blank()
    pose = RigidTransform(cv2.Rodrigues(np.array([0.4, 0.5, 0.1]))[0], [0.02, 0.01, 0.4])
    draw_pose(image, CAMERA, MODEL, pose, COLOUR, axes=False)
    for u, v in np.rint(project(CAMERA, pose.apply(CORNERS))).astype(int):
        assert image[v, u, 0] > 100
    drawn = np.argwhere(image.any(axis=2))[:, ::-1]
    corners = project(CAMERA, pose.apply(CORNERS))
    assert (drawn.min(axis=0) >= corners.min(axis=0) - 2.5).all()
    assert (drawn.max(axis=0) <= corners.max(axis=0) + 2.5).all()


def test_axes_have_their_colours():
    image = blank()
    draw_pose(image, CAMERA, MODEL, at(0, 0, 0.5), COLOUR, thickness=3)
    along = 160 + int(300 * 0.25 * 0.14 / 0.5)
    red, green = image[120, along], image[along - 40, 160]
    assert red[0] > 200 > red[1]
    assert green[1] > 200 > green[0]


def test_label_stays_in_the_image():
    image = blank()
    draw_pose(image, CAMERA, MODEL, at(-0.25, -0.2, 0.45), COLOUR, label='box 0.93')
    assert image[:20, :60].any()


def test_nothing_is_drawn_behind_the_camera():
    image = blank()
    draw_pose(image, CAMERA, MODEL, at(0, 0, -0.5), COLOUR, label='box')
    assert not image.any()


def test_camera_inside_the_box_and_far_outside_the_image():
    image = blank()
    draw_pose(image, CAMERA, MODEL, at(0, 0, 0.0), COLOUR, label='box')
    draw_pose(image, CAMERA, MODEL, at(1e6, 0, 1.0), COLOUR, label='box')
    draw_pose(image, CAMERA, MODEL, at(0.03, 0.02, 0.031), COLOUR)
    assert image.any()


def test_lens_bends_lines_as_opencv_does():
    distortion = np.array([-0.3, 0.08, 0.001, -0.002, 0.0])
    camera = make_camera(K, 320, 240, 'plumb_bob', distortion)
    image = blank()
    line = np.array([[[-0.24, -0.18, 0.5], [0.24, -0.18, 0.5]]])
    draw_lines(image, camera, line, [COLOUR], 1)
    middle = cv2.projectPoints(line.mean(axis=1), np.zeros(3), np.zeros(3), K, distortion)[0].reshape(2)
    ends = cv2.projectPoints(line[0], np.zeros(3), np.zeros(3), K, distortion)[0].reshape(2, 2)
    u, v = np.rint(middle).astype(int)
    assert image[v - 1 : v + 2, u].any()
    assert ends[:, 1].mean() - v > 5  # a straight line would miss this pixel
    assert not image[int(ends[:, 1].mean()), u].any()


def test_wrong_images_are_refused():
    with pytest.raises(ShapeError, match=r'overlay: image is \(10, 10, 3\) uint8, expected \(240, 320, 3\)'):
        draw_pose(np.zeros((10, 10, 3), np.uint8), CAMERA, MODEL, at(0, 0, 1), COLOUR)
    frozen = blank()
    frozen.setflags(write=False)
    with pytest.raises(ShapeError, match='read-only'):
        draw_pose(frozen, CAMERA, MODEL, at(0, 0, 1), COLOUR)
