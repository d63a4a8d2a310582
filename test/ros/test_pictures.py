"""Overlay and markers without a network."""

import cv2
import numpy as np
import pytest

from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.ros.overlay import box_edges, draw_poses
from kd6d_ros.types import Mesh, ObjectModel, PoseEstimate, RigidTransform

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.04)])
CAMERA = make_camera([600, 0, 320, 0, 600, 240, 0, 0, 1], 640, 480)


def pose(instance='mug_0', translation=(0.0, 0, 0.7), name='mug'):
    return PoseEstimate(name, instance, RigidTransform(np.eye(3), np.array(translation)), 0.8, 30, 60, 1.0)


def test_a_box_has_twelve_edges_whatever_the_order_of_its_corners():
    for order in (np.arange(8), np.random.default_rng(1).permutation(8)):
        corners = CORNERS[order]
        edges = box_edges(corners)
        assert len(edges) == 12
        for a, b in edges:
            assert np.count_nonzero(np.abs(corners[a] - corners[b]) > 1e-9) == 1


def test_the_overlay_draws_the_projected_box_and_leaves_the_image_alone():
    image = np.zeros((480, 640, 3), np.uint8)
    got = draw_poses(image, CAMERA, [pose()], {'mug': ObjectModel('mug', 1, 0.13, CORNERS)})
    assert not image.any()
    for x, y in np.rint(project(CAMERA, pose().cam_from_obj.apply(CORNERS))).astype(int):
        assert got[y - 2 : y + 3, x - 2 : x + 3].any()
    assert not got[:100].any()


def test_poses_behind_or_far_outside_do_no_harm():
    models = {'mug': ObjectModel('mug', 1, 0.13, CORNERS)}
    image = np.zeros((480, 640, 3), np.uint8)
    for translation in ((0, 0, -1.0), (0, 0, 0.01), (1e4, 0, 0.1), (-3, -3, 0.5)):
        assert draw_poses(image, CAMERA, [pose(translation=translation)], models).shape == image.shape
    distorted = make_camera([600, 0, 320, 0, 600, 240, 0, 0, 1], 640, 480, 'plumb_bob', [0.3, -0.4, 0, 0, 0])
    assert draw_poses(image, distorted, [pose(translation=(0.5, 0.5, 0.6))], models).shape == image.shape


@pytest.fixture
def markers():
    pytest.importorskip('visualization_msgs.msg', reason='visualization_msgs is not installed')
    pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not built: run test/interfaces/build.py')
    pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not built: run test/interfaces/build.py')
    from kd6d_ros.ros import markers

    return markers


def test_markers_of_instances_that_are_gone_are_deleted(markers):
    from std_msgs.msg import Header
    from visualization_msgs.msg import Marker

    maker = markers.MarkerMaker({'mug': ObjectModel('mug', 1, 0.13, CORNERS)})
    header = Header(frame_id='cam')
    first = maker.make(header, [pose('mug_0'), pose('mug_3')], 0.5).markers
    assert [(item.ns, item.id, item.action, item.type) for item in first] == [
        ('mug', 0, Marker.ADD, Marker.CUBE),
        ('mug', 3, Marker.ADD, Marker.CUBE),
    ]
    assert first[0].pose.position.z == pytest.approx(0.71)
    assert (first[0].scale.x, first[0].scale.z) == (pytest.approx(0.1), pytest.approx(0.06))
    second = maker.make(header, [pose('mug_3')], 0.5).markers
    assert [(item.id, item.action) for item in second] == [(3, Marker.ADD), (0, Marker.DELETE)]
    assert [(item.id, item.action) for item in maker.make(header, [], 0.5).markers] == [(3, Marker.DELETE)]
    assert maker.make(header, [], 0.5).markers == []
    assert maker.clear(header).markers[0].action == Marker.DELETEALL


def test_a_large_mesh_is_thinned_out_and_keeps_its_extent(markers):
    grid = np.linspace(-1, 1, 81)
    u, v = np.meshgrid(grid, grid, indexing='ij')
    vertices = np.stack([u, v, 0.2 * np.sin(3 * u)], -1).reshape(-1, 3)
    index = np.arange(81 * 81).reshape(81, 81)
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)
    faces = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])
    thin = markers.thin_out(vertices, faces, 1500)
    assert 300 < len(thin) <= 1500
    kept = vertices[np.unique(thin)]
    np.testing.assert_allclose(np.ptp(kept, axis=0), np.ptp(vertices, axis=0), rtol=0.12)
    few = np.array([[0, 1, 2]])
    np.testing.assert_array_equal(markers.thin_out(vertices, few, 1500), few)
    mesh = Mesh(vertices, faces, np.full((len(vertices), 3), 128, np.uint8))
    points, colours = markers._triangles(mesh)
    assert len(points) == len(colours) == 3 * len(thin)


def test_an_image_message_survives_the_way_there_and_back():
    pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not built: run test/interfaces/build.py')
    pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not built: run test/interfaces/build.py')
    from std_msgs.msg import Header

    from kd6d_ros.inference.image_decoding import decode_image
    from kd6d_ros.ros.messages import image_message

    image = cv2.applyColorMap(np.arange(48, dtype=np.uint8).reshape(6, 8), cv2.COLORMAP_JET)
    np.testing.assert_array_equal(decode_image(image_message(Header(), image)), image)
