"""The renderer against exact ray-box intersection, the sRGB formula and simple facts about light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd6d_ros.data.renderer import context as context_module
from kd6d_ros.data.renderer.normals import is_closed, vertex_normals
from kd6d_ros.data.renderer.records import Light, Lights, Material, RenderItem
from kd6d_ros.data.scenes.placement import random_rotation
from kd6d_ros.data.scenes.shapes import box as unit_box
from kd6d_ros.data.scenes.shapes import plane, shape_pool
from kd6d_ros.errors import CameraError, ConfigError, MissingDependencyError
from kd6d_ros.types import Camera, Mesh, RigidTransform

pytestmark = pytest.mark.render
DARK = Lights((), sky=np.full(3, 0.5), ground=np.full(3, 0.5))
MATT = Material(roughness=1.0, specular=0.0)


def ray_box_depth(camera, pose, half):
    """Depth (H, W) of the box |p| <= half seen through pixel centres at integers; inf where missed."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    k = camera.matrix
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u, float)], -1)
    origin = -pose.rotation.T @ pose.translation
    direction = rays @ pose.rotation
    a, b = (-half - origin) / direction, (half - origin) / direction
    near, far = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    return np.where((near < far) & (near > 0), near, np.inf), far - near


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_depth_ids_and_masks_match_exact_ray_box_intersection(renderer, camera, box, seed):
    rng = np.random.default_rng(seed)
    where = np.array([rng.uniform(-0.12, 0.12), rng.uniform(-0.1, 0.1), rng.uniform(0.3, 0.9)])
    pose = RigidTransform(random_rotation(rng), where)
    frame = renderer.render(camera, [RenderItem(box, pose, MATT, 7)], DARK)
    expected, chord = ray_box_depth(camera, pose, np.array([0.05, 0.08, 0.03]))
    hit = np.isfinite(expected)
    seen = frame.ids == 7
    # pixels may differ only where a ray grazes an edge of the box
    disputed = seen != hit
    assert disputed.sum() <= 12  # rasterisers differ on edges; the next line says that only edges may
    assert (chord[disputed] < 2e-3).all()
    both = seen & hit & (chord > 2e-3)
    assert np.abs(frame.depth[both] - expected[both]).max() < 2e-4
    assert (frame.depth[~seen] == 0).all()
    np.testing.assert_array_equal(renderer.full_mask(camera, RenderItem(box, pose, MATT, 7)), seen)


def test_projected_corners_bound_the_mask_within_a_pixel(renderer, camera, box):
    rng = np.random.default_rng(3)
    for _ in range(10):
        pose = RigidTransform(random_rotation(rng), np.array([0.0, 0.0, 0.55]))
        points = pose.apply(box.vertices)
        pixels = (points / points[:, 2:] @ camera.matrix.T)[:, :2]
        rows, columns = np.nonzero(renderer.full_mask(camera, RenderItem(box, pose)))
        # a mask holds the pixel centres inside the outline: never beyond it, at most a sharp tip short
        assert columns.min() >= pixels[:, 0].min() - 0.01
        assert columns.max() <= pixels[:, 0].max() + 0.01
        assert rows.min() >= pixels[:, 1].min() - 0.01
        assert rows.max() <= pixels[:, 1].max() + 0.01
        short = [columns.min() - pixels[:, 0].min(), pixels[:, 0].max() - columns.max()]
        assert max(short) < 2.5


def test_the_nearer_object_hides_the_farther_but_not_its_full_mask(renderer, camera, box):
    near = RenderItem(box, RigidTransform(np.eye(3), np.array([0.0, 0.0, 0.5])), MATT, 1)
    far = RenderItem(box, RigidTransform(np.eye(3), np.array([0.08, 0.0, 0.8])), MATT, 2)
    for order in ([near, far], [far, near]):
        frame = renderer.render(camera, order, DARK)
        alone = renderer.full_masks(camera, order)
        full = dict(zip([item.obj_id for item in order], alone, strict=True))
        assert (frame.ids[full[1]] == 1).all()
        assert 0 < (frame.ids == 2).sum() < full[2].sum()
        np.testing.assert_array_equal(frame.ids == 2, full[2] & ~full[1])


def test_full_masks_of_more_than_four_items_keep_their_order(renderer, camera, box):
    items = [RenderItem(box, RigidTransform(np.eye(3), np.array([0.05 * (k - 3), 0.0, 0.6]))) for k in range(7)]
    together = renderer.full_masks(camera, items)
    assert len(together) == 7
    for item, mask in zip(items, together, strict=True):
        np.testing.assert_array_equal(mask, renderer.full_mask(camera, item))
    centres = [np.nonzero(mask)[1].mean() for mask in together]
    assert (np.diff(centres) > 5).all()


def test_an_item_without_id_occludes_but_is_nobody(renderer, camera, box):
    wall = RenderItem(box, RigidTransform(np.eye(3), np.array([0.0, 0.0, 0.4])), MATT, 0)
    behind = RenderItem(box, RigidTransform(np.eye(3), np.array([0.0, 0.0, 0.9])), MATT, 3)
    frame = renderer.render(camera, [wall, behind], DARK)
    assert (frame.ids == 3).sum() == 0
    assert frame.depth[65, 71] == pytest.approx(0.37, abs=1e-3)


@pytest.mark.parametrize('level', [0.05, 0.2, 0.5, 0.9])
def test_ambient_light_on_matt_grey_gives_the_srgb_code(renderer, camera, box, level):
    grey = replace(box, colours=np.full((len(box.vertices), 3), 186, np.uint8))
    lights = Lights((), sky=np.full(3, level), ground=np.full(3, level))
    pose = RigidTransform(np.eye(3), np.array([0.0, 0.0, 0.4]))
    frame = renderer.render(camera, [RenderItem(grey, pose, MATT, 1)], lights)
    code = 186 / 255
    linear = ((code + 0.055) / 1.055) ** 2.4 * level
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(frame.rgb[frame.ids == 1].astype(float) - expected).max() < 4.0


def test_a_surface_facing_the_light_is_bright_and_one_facing_away_is_ambient(renderer, camera, box):
    pose = RigidTransform(np.eye(3), np.array([0.0, 0.0, 0.4]))
    item = RenderItem(box, pose, MATT, 1)
    towards = Light(np.array([0.0, 0.0, -1.0]), np.full(3, 0.6))
    away = replace(towards, vector=np.array([0.0, 0.0, 1.0]))
    bright = renderer.render(camera, [item], replace(DARK, lights=(towards,))).rgb[65, 71]
    plain = renderer.render(camera, [item], replace(DARK, lights=(away,))).rgb[65, 71]
    dark = renderer.render(camera, [item], DARK).rgb[65, 71]
    assert bright[0] > dark[0] + 30
    np.testing.assert_array_equal(plain, dark)


def test_a_point_light_fades_with_the_square_of_its_distance(renderer, camera):
    sheet = plane(0.3, 1.0)
    facing = RigidTransform(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 0.5]))
    black = Lights((), sky=np.zeros(3), ground=np.zeros(3), shadows=False)
    values = []
    for distance in (0.25, 0.5):
        light = Light(np.array([0.0, 0.0, 0.5 - distance]), np.full(3, 0.6), point=True, reference_m=0.25)
        frame = renderer.render(camera, [RenderItem(sheet, facing, MATT, 1)], replace(black, lights=(light,)))
        code = frame.rgb[65, 71, 0] / 255
        values.append(((code + 0.055) / 1.055) ** 2.4)
    assert values[0] == pytest.approx(0.6, rel=0.05)
    assert values[0] / values[1] == pytest.approx(4.0, rel=0.1)


def test_a_box_casts_a_shadow_on_the_ground_where_the_light_says(renderer, camera, box):
    ground = RenderItem(
        plane(2.0, 1.0), RigidTransform(np.diag([1.0, -1.0, -1.0]), [0, 0, 0.8]), MATT, 0, casts_shadow=False
    )
    caster = RenderItem(box, RigidTransform(np.eye(3), np.array([0.0, 0.0, 0.6])), MATT, 1)
    slant = np.array([-0.6, 0.0, -0.8])  # light from the left: the shadow falls to the right
    lights = Lights((Light(slant, np.full(3, 0.5)),), sky=np.full(3, 0.1), ground=np.full(3, 0.1))
    frame = renderer.render(camera, [caster, ground], lights)
    without = renderer.render(camera, [caster, ground], replace(lights, shadows=False))
    darker = (without.rgb[..., 0].astype(int) - frame.rgb[..., 0] > 40) & (frame.ids == 0)
    rows, columns = np.nonzero(darker)
    # the box centre (0, 0, 0.6) lands 0.2 * 0.6 / 0.8 = 0.15 m to the right on the ground at 0.8 m
    landing = 71.3 + 150.0 * 0.15 / 0.8
    right = columns > np.nonzero(frame.ids == 1)[1].max()
    assert right.mean() > 0.9
    assert abs(rows.mean() - 64.8) < 2.0
    assert abs(columns.max() - (landing + 150.0 * 0.05 / 0.8)) < 4.0
    assert not darker[:, :60].any()


def test_texture_and_background_stand_upright(renderer, camera):
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[:4, :4] = [255, 0, 0]  # top left red
    texture[4:, 4:] = [0, 0, 255]  # bottom right blue
    # mesh v points up, the camera's y down: turned half around x the sheet is upright and faces the camera
    upright = RigidTransform(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 0.5]))
    item = RenderItem(plane(0.1, 1.0), upright, replace(MATT, texture=texture), 1)
    background = np.zeros((120, 160, 3), np.uint8)
    background[:10, :10] = [0, 255, 0]
    rgb = renderer.render(camera, [item], DARK, background).rgb
    u, v = 71, 65
    assert rgb[v - 15, u - 15, 0] > 150
    assert rgb[v - 15, u - 15, 2] < 30
    assert rgb[v + 15, u + 15, 2] > 150
    assert rgb[v + 15, u + 15, 0] < 30
    np.testing.assert_array_equal(rgb[:10, :10], background[:10, :10])
    assert (rgb[110:, 150:] == 0).all()


def test_scale_stretches_the_mesh(renderer, camera, box):
    pose = RigidTransform(np.eye(3), np.array([0.0, 0.0, 0.6]))
    plain = renderer.full_mask(camera, RenderItem(box, pose))
    wide = renderer.full_mask(camera, RenderItem(box, pose, scale=(2.0, 1.0, 1.0)))
    assert wide.any(axis=0).sum() == pytest.approx(2 * plain.any(axis=0).sum(), abs=2)
    assert wide.any(axis=1).sum() == plain.any(axis=1).sum()


def test_the_same_scene_gives_the_same_bytes_whatever_came_before(renderer, camera, box):
    light = Light(np.array([0.3, -0.6, -0.74]), np.full(3, 1.5))
    item = RenderItem(box, RigidTransform(np.eye(3), np.array([0.01, 0.0, 0.5])), Material(), 1)
    first = renderer.render(camera, [item], replace(DARK, lights=(light,)))
    renderer.full_masks(camera, [item] * 5)
    renderer.render(camera, [item] * 3, DARK, np.full((120, 160, 3), 99, np.uint8))
    again = renderer.render(camera, [item], replace(DARK, lights=(light,)))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth, again.depth)


def test_two_renderers_in_one_process_do_not_disturb_each_other(renderer, camera, box):
    from kd6d_ros.data.renderer.renderer import Renderer

    item = RenderItem(box, RigidTransform(np.eye(3), np.array([0.01, 0.0, 0.5])), Material(), 1)
    before = renderer.render(camera, [item], DARK).rgb
    other = Renderer(64, 48)
    small = Camera(np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]), 64, 48)
    seen = other.render(small, [item], DARK)
    np.testing.assert_array_equal(renderer.render(camera, [item], DARK).rgb, before)
    np.testing.assert_array_equal(other.full_mask(small, item), seen.ids == 1)
    other.release()
    np.testing.assert_array_equal(renderer.render(camera, [item], DARK).rgb, before)


def test_back_faces_are_skipped_only_for_closed_meshes(renderer, camera, box):
    assert is_closed(box.vertices, box.faces)
    lid_off = Mesh(box.vertices, box.faces[:-2])
    assert not is_closed(lid_off.vertices, lid_off.faces)
    inside_out = Mesh(box.vertices, box.faces[:, ::-1])
    assert not is_closed(inside_out.vertices, inside_out.faces)
    # the open side faces the camera: its far inner wall must still be seen
    pose = RigidTransform(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 0.5]))
    frame = renderer.render(camera, [RenderItem(lid_off, pose, MATT, 1)], DARK)
    assert frame.depth[65, 71] == pytest.approx(0.53, abs=1e-3)


def test_procedural_shapes_are_closed_and_look_outwards():
    for mesh in shape_pool(np.random.default_rng(0)):
        assert is_closed(mesh.vertices, mesh.faces)
        outwards = np.einsum('ij,ij->i', mesh.normals, vertex_normals(mesh.vertices, mesh.faces))
        assert np.median(outwards) > 0.5
    assert is_closed(unit_box().vertices, unit_box().faces)


def test_bad_cameras_and_backgrounds_are_refused(renderer, camera):
    bent = Camera(camera.matrix, 160, 120, 'plumb_bob', np.zeros(5))
    with pytest.raises(CameraError, match="undistorted images: camera model 'plumb_bob'"):
        renderer.render(bent, [], DARK)
    with pytest.raises(CameraError, match='camera of 640x480 px in a renderer of 160x120 px'):
        renderer.render(Camera(camera.matrix, 640, 480), [], DARK)
    with pytest.raises(ConfigError, match=r'background of shape \(5, 5, 3\)'):
        renderer.render(camera, [], DARK, np.zeros((5, 5, 3), np.uint8))


def test_an_unreasonable_image_size_is_refused():
    from kd6d_ros.data.renderer.renderer import Renderer

    with pytest.raises(ConfigError, match='image size 100000x480: each side must be'):
        Renderer(100_000, 480)


def test_without_an_egl_device_the_message_says_what_to_install(monkeypatch):
    import moderngl

    def fail(**_):
        raise RuntimeError('eglGetDisplay failed (0x3000)\nsecond line')

    monkeypatch.setattr(moderngl, 'create_context', fail)
    with pytest.raises(MissingDependencyError, match='apt install libegl1') as caught:
        context_module.open_context()
    assert '\n' not in str(caught.value)
