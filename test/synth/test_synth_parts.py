"""Recipe, placement, materials, baking and sensor: each against a fact that does not come from its own code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from kd6d_ros.data.renderer.normals import is_closed, vertex_normals
from kd6d_ros.data.scenes.baking import bake
from kd6d_ros.data.scenes.lighting import colour_jitter
from kd6d_ros.data.scenes.placement import Arrangement, Solid, random_rotation, random_table
from kd6d_ros.data.scenes.recipe import SceneRecipe, SensorRecipe, SynthRecipe, load_recipe
from kd6d_ros.data.scenes.textures import MAKERS, photo_crop, procedural_texture
from kd6d_ros.data.sensor import apply_sensor, motion_kernel
from kd6d_ros.errors import ConfigError
from kd6d_ros.types import Camera, Mesh

CONFIG = Path(__file__).parents[2] / 'config'
CLEAN = SensorRecipe(
    exposure_stops=(0, 0), white_balance=0.0, gamma=(1, 1), contrast=(1, 1), saturation=(1, 1),
    noise_probability=0.0, base_blur_px=(0, 0), defocus_probability=0.0, motion_probability=0.0,
    sharpen_probability=0.0, vignette_probability=0.0, chromatic_probability=0.0, jpeg_probability=0.0,
)  # fmt: skip


def rng_of(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


# --- recipe ---


def write(tmp_path, text):
    path = tmp_path / 'recipe.yaml'
    path.write_text(text)
    return path


@pytest.mark.parametrize('name', ['synth_lmo.yaml', 'synth_demo.yaml', 'synth_demo_any.yaml'])
def test_shipped_recipes_load(name):
    recipe = load_recipe(CONFIG / name)
    assert recipe.size == (640, 480)
    assert 0.3 < recipe.scene.distance_m[0] < recipe.scene.distance_m[1] < 2.0


def test_an_empty_recipe_is_the_default(tmp_path):
    assert load_recipe(write(tmp_path, '')) == SynthRecipe() == load_recipe(None)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('scene: {distance: [1, 2]}', "unknown setting 'scene.distance'; did you mean 'scene.distance_m'"),
        ('sensr: {}', "unknown setting 'sensr'; did you mean 'sensor'"),
        ('scene: {distance_m: far}', "scene.distance_m must be a list of 2 numbers, got 'far'"),
        ('scene: {distance_m: [2, 1]}', 'low end is above the high end'),
        ('look: {shadow_probability: 1.5}', 'look.shadow_probability = 1.5: a probability lies in 0..1'),
        ('look: {hue_deg: true}', 'look.hue_deg must be a number, got True'),
        ('look: {hue_deg: .nan}', 'look.hue_deg must be a number, got nan'),
        ('scene: {mesh_faces: 12.5}', 'scene.mesh_faces must be a whole number'),
        ('scene: 3', 'scene must be a mapping'),
        ('scene: [', 'not valid YAML'),
        ('size: [640, 480, 3]', 'size must be a list of 2 whole numbers'),
        ('size: [0, 480]', 'size = [0, 480]: each side must be 16..8192 px'),
        ('jpeg_quality: 0', 'jpeg_quality = 0: expected 1 to 100'),
        ('scene: {distance_m: [0, 1]}', 'scene.distance_m = [0.0, 1.0]: must be above 0'),
        ('look: {ambient: [0, 1]}', 'look.ambient = [0.0, 1.0]: must be above 0'),
        ('scene: {mesh_faces: 2}', 'scene.mesh_faces = 2: expected at least 4'),
        ('scene: {targets: [-1, 3]}', 'scene.targets = [-1.0, 3.0]: must not be negative'),
    ],
)
def test_a_wrong_recipe_is_one_line_with_file_and_setting(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_missing_recipe_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r'nothing\.yaml: cannot be read'):
        load_recipe(tmp_path / 'nothing.yaml')


# --- placement ---


def test_random_rotations_are_proper_and_cover_the_sphere_evenly():
    rng = rng_of()
    rotations = np.stack([random_rotation(rng) for _ in range(4000)])
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3)[None] * np.ones((4000, 1, 1)),
                               atol=1e-12)  # fmt: skip
    assert np.linalg.det(rotations).min() > 0.99
    # each entry of a uniform rotation has mean 0 and variance 1/3, and the trace's angle has cosine mean -1/2...
    assert np.abs(rotations.mean(axis=0)).max() < 0.04
    assert np.abs(rotations.var(axis=0) - 1 / 3).max() < 0.03
    # ...because the trace of a uniform rotation averages zero
    assert abs(np.trace(rotations, axis1=1, axis2=2).mean()) < 0.06


def small_camera():
    return Camera(np.array([[572.4, 0.0, 325.3], [0.0, 573.6, 242.0], [0.0, 0.0, 1.0]]), 640, 480)


@pytest.fixture(scope='module')
def brick():
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    return Solid.of(corners * [0.03, 0.05, 0.02])


@pytest.mark.parametrize('on_table', [True, False])
def test_placed_objects_keep_the_distance_range_and_apart(brick, on_table):
    recipe = SceneRecipe(distance_m=(0.4, 1.2), elevation_deg=(20.0, 90.0))
    camera = small_camera()
    placed, standing = 0, []
    for seed in range(30):
        rng = rng_of(seed)
        table = random_table(rng, recipe, 0.7) if on_table else None
        arrangement = Arrangement(rng, recipe, camera, 0.7, table)
        poses = [pose for pose in (arrangement.place(brick) for _ in range(6)) if pose is not None]
        centres = np.array([pose.translation for pose in poses])
        placed += len(poses)
        slack = brick.radius * 1.5 + 0.08 if on_table else 1e-9
        assert centres[:, 2].min() >= 0.4 - slack
        assert centres[:, 2].max() <= 1.2 + slack
        gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2)[~np.eye(len(centres), dtype=bool)]
        assert gaps.min() >= recipe.overlap * 2 * brick.radius - 1e-12
        if table is not None:
            height = (
                np.concatenate([pose.apply(brick.points) for pose in poses]) - table.cam_from_table.translation
            ) @ table.cam_from_table.rotation[:, 2]
            lowest = height.reshape(len(poses), -1).min(axis=1)
            assert lowest.min() > -1e-9
            standing += list(lowest < 1e-9)
            # the camera looks down onto the table
            assert table.cam_from_table.rotation[2, 2] < 0
    assert placed > 30 * 4
    assert not standing or 0.4 < np.mean(standing) < 0.8  # most stand, some float a little


def test_an_occluder_lies_nearer_and_overlaps_the_line_of_sight(brick):
    recipe = SceneRecipe()
    hits = 0
    for seed in range(40):
        arrangement = Arrangement(rng_of(seed), recipe, small_camera(), 0.9, None)
        target = arrangement.place(brick)
        pose = arrangement.place_before(brick, brick, target)
        if pose is None:
            continue
        assert pose.translation[2] < target.translation[2]
        a = pose.translation[:2] / pose.translation[2]
        b = target.translation[:2] / target.translation[2]
        hits += np.linalg.norm(a - b) < (brick.radius / pose.translation[2] + brick.radius / target.translation[2])
    assert hits >= 25


# --- materials and textures ---


def test_colour_jitter_without_ranges_is_the_identity_and_gain_is_a_factor():
    none = colour_jitter(rng_of(), 0.0, (1, 1), (1, 1), 0.0)
    np.testing.assert_allclose(none, np.eye(3), atol=1e-12)
    double = colour_jitter(rng_of(), 0.0, (1, 1), (2, 2), 0.0)
    np.testing.assert_allclose(double @ [0.2, 0.3, 0.1], [0.4, 0.6, 0.2])
    grey = colour_jitter(rng_of(), 40.0, (0.3, 2.0), (1, 1), 0.0)
    np.testing.assert_allclose(grey @ np.full(3, 0.4), np.full(3, 0.4), atol=1e-12)  # greys stay grey


@pytest.mark.parametrize('index', range(len(MAKERS)))
def test_every_texture_maker_gives_a_usable_picture(index, monkeypatch):
    monkeypatch.setattr('kd6d_ros.data.scenes.textures.MAKERS', (MAKERS[index],))
    texture = procedural_texture(rng_of(index), 128)
    assert texture.shape == (128, 128, 3)
    assert texture.dtype == np.uint8
    assert texture.std() > 0.5


@pytest.mark.parametrize('shape', [(480, 640), (10, 200), (200, 10), (64, 64)])
def test_a_background_crop_has_the_asked_size_whatever_the_photo(shape):
    photo = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    crop = photo_crop(rng_of(), photo, 320, 240)
    assert crop.shape == (240, 320, 3)
    assert crop.flags['C_CONTIGUOUS']


# --- baking ---


def globe(subdivisions=5):
    """A sphere of 10 cm, red in the north, blue in the south, as a dense vertex-coloured mesh."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions, 0.05)
    vertices = np.asarray(ball.vertices)
    colours = np.where(vertices[:, 2:] > 0, [220, 10, 10], [10, 10, 220]).astype(np.uint8)
    return Mesh(vertices, np.asarray(ball.faces), colours)


def test_baking_keeps_shape_and_puts_every_colour_in_its_place():
    pytest.importorskip('fast_simplification')
    baked = bake(globe(), 600, 8)
    assert 300 < len(baked.faces) <= 620
    radius = np.linalg.norm(baked.vertices, axis=1)
    assert radius.min() > 0.048
    assert radius.max() < 0.0525
    np.testing.assert_allclose(np.linalg.norm(baked.normals, axis=1), 1.0, atol=1e-9)
    # a smooth ball: corner normals look outwards within a face's own curvature
    outwards = np.einsum('ij,ij->i', baked.normals, baked.vertices / radius[:, None])
    assert np.quantile(outwards, 0.02) > 0.98
    assert outwards.min() > 0.8  # slivers
    assert baked.uv.min() >= 0
    assert baked.uv.max() <= 1
    # look each face's centre up in the texture, as the device does
    height, width = baked.texture.shape[:2]
    centre_uv = baked.uv.reshape(-1, 3, 2).mean(axis=1)
    column, row = (centre_uv[:, 0] * width).astype(int), ((1 - centre_uv[:, 1]) * height).astype(int)
    z = baked.vertices.reshape(-1, 3, 3)[..., 2].mean(axis=1)
    red = baked.texture[row, column, 0] > 128
    clear = np.abs(z) > 0.004
    np.testing.assert_array_equal(red[clear], z[clear] > 0)


def test_baking_samples_a_texture_and_keeps_creases():
    pytest.importorskip('fast_simplification')
    from kd6d_ros.data.scenes.shapes import box

    unit = box()
    faces, vertices = unit.faces, unit.vertices
    for _ in range(4):  # subdivide: a box of 3072 faces with shared corners
        middle = vertices[faces].mean(axis=1)
        index = len(vertices) + np.arange(len(faces))
        a, b, c = faces.T
        vertices = np.vstack([vertices, middle])
        faces = np.concatenate([np.stack(t, 1) for t in ((a, b, index), (b, c, index), (c, a, index))])
    # colour by dominant direction through a texture of three columns
    texture = np.zeros((4, 3, 3), np.uint8)
    texture[:, 0], texture[:, 1], texture[:, 2] = [200, 0, 0], [0, 200, 0], [0, 0, 200]
    unshared = vertices[faces].reshape(-1, 3)
    new_faces = np.arange(len(unshared)).reshape(-1, 3)
    normal = np.cross(unshared[1::3] - unshared[0::3], unshared[2::3] - unshared[0::3])
    axis = np.repeat(np.abs(normal).argmax(axis=1), 3)
    uv = np.stack([(axis + 0.5) / 3, np.full(len(axis), 0.5)], 1)
    baked = bake(Mesh(unshared * 0.1, new_faces, uv=uv, texture=texture), 200, 8)
    assert is_closed(baked.vertices, baked.faces)
    flat = vertex_normals(baked.vertices, baked.faces)
    big = np.abs(flat).max(axis=1) > 0.999
    assert big.mean() > 0.9
    np.testing.assert_allclose(np.abs(baked.normals[big]).max(axis=1), 1.0, atol=1e-3)
    height, width = baked.texture.shape[:2]
    centre_uv = baked.uv.reshape(-1, 3, 2).mean(axis=1)
    column, row = (centre_uv[:, 0] * width).astype(int), ((1 - centre_uv[:, 1]) * height).astype(int)
    faces_big = big.reshape(-1, 3).all(axis=1)
    expected = np.abs(flat.reshape(-1, 3, 3)[:, 0]).argmax(axis=1)
    got = baked.texture[row, column].argmax(axis=1)
    assert (got == expected)[faces_big].mean() > 0.97


def test_a_mesh_with_few_faces_is_left_alone():
    mesh = globe(2)
    assert bake(mesh, 1000) is mesh


# --- sensor ---


def picture():
    ramp = np.linspace(0, 255, 160).astype(np.uint8)
    image = np.repeat(np.repeat(ramp[None, :, None], 120, axis=0), 3, axis=2)
    image[40:80, 60:100] = [200, 60, 30]
    return image


def test_a_sensor_with_everything_off_changes_at_most_the_highlights():
    image = picture()
    out = apply_sensor(rng_of(), image, CLEAN)
    low = image.max(axis=2) < 215  # above, the tone curve's shoulder
    assert np.abs(out[low].astype(int) - image[low]).max() <= 1


def test_the_sensor_depends_on_its_seed_alone():
    image, recipe = picture(), SensorRecipe()
    for seed in range(12):
        one, two = (apply_sensor(rng_of(seed), image.copy(), recipe) for _ in range(2))
        np.testing.assert_array_equal(one, two)
        assert one.shape == image.shape
        assert one.dtype == np.uint8
    assert (apply_sensor(rng_of(1), image, recipe) != apply_sensor(rng_of(2), image, recipe)).any()


def test_one_stop_doubles_the_light():
    grey = np.full((40, 40, 3), 90, np.uint8)
    out = apply_sensor(rng_of(), grey, replace(CLEAN, exposure_stops=(1, 1)))
    linear = ((out[0, 0, 0] / 255 + 0.055) / 1.055) ** 2.4
    assert linear == pytest.approx(2 * ((90 / 255 + 0.055) / 1.055) ** 2.4, rel=0.03)


def test_noise_grows_with_its_setting_and_is_larger_in_the_shadows_after_the_curve():
    recipe = replace(CLEAN, noise_probability=1.0, noise_grain_px=(0, 0), read_noise=(0.02, 0.02))
    dark, bright = np.full((200, 200, 3), 40, np.uint8), np.full((200, 200, 3), 170, np.uint8)
    deviation = [apply_sensor(rng_of(5), image, recipe).astype(float).std() for image in (dark, bright)]
    assert deviation[0] > 1.5 * deviation[1] > 0.3
    stronger = replace(recipe, shot_noise=(0.05, 0.05))
    assert apply_sensor(rng_of(5), bright, stronger).astype(float).std() > 2 * deviation[1]
    # the mean does not move
    assert abs(apply_sensor(rng_of(5), bright, stronger).astype(float).mean() - 170) < 0.6


def test_defocus_softens_an_edge_and_sharpening_overshoots_it():
    step = np.zeros((40, 80, 3), np.uint8) + 60
    step[:, 40:] = 160
    soft = apply_sensor(rng_of(), step, replace(CLEAN, defocus_probability=1.0, defocus_px=(2, 2)))
    assert 0 < np.diff(soft[20, :, 0].astype(int)).max() < 40
    sharp = apply_sensor(rng_of(), step, replace(CLEAN, sharpen_probability=1.0, sharpen=(1, 1)))
    assert sharp[20, :, 0].min() < 50
    assert sharp[20, :, 0].max() > 170


@pytest.mark.parametrize('angle', [0.0, 0.7, np.pi / 2])
def test_a_motion_kernel_is_a_centred_line(angle):
    kernel = motion_kernel(7.0, angle)
    half = kernel.shape[0] // 2
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    assert abs((kernel * x).sum()) < 1e-5
    assert abs((kernel * y).sum()) < 1e-5
    along = (kernel * (x * np.cos(angle) + y * np.sin(angle)) ** 2).sum()
    across = (kernel * (-x * np.sin(angle) + y * np.cos(angle)) ** 2).sum()
    assert along == pytest.approx(7.0**2 / 12, rel=0.15)  # variance of a uniform line
    assert across < 0.3


def test_vignette_darkens_the_corners_only_and_jpeg_keeps_the_colours():
    grey = np.full((120, 160, 3), 150, np.uint8)
    out = apply_sensor(rng_of(), grey, replace(CLEAN, vignette_probability=1.0, vignette=(0.4, 0.4)))
    assert abs(int(out[60, 80, 0]) - 150) <= 1
    assert out[0, 0, 0] == pytest.approx(150 * 0.6, abs=2)
    image = picture()
    packed = apply_sensor(rng_of(), image, replace(CLEAN, jpeg_probability=1.0, jpeg_quality=(90, 90)))
    assert np.abs(packed[60, 80].astype(int) - [200, 60, 30]).max() < 12


def test_chromatic_error_moves_red_and_blue_apart_at_the_border():
    image = np.zeros((121, 161, 3), np.uint8)
    cv2.line(image, (155, 0), (155, 120), (255, 255, 255), 1)
    out = apply_sensor(rng_of(3), image, replace(CLEAN, chromatic_probability=1.0, chromatic_px=(2, 2)))
    x = np.arange(161)
    red, green, blue = ((out[60, :, k] * x).sum() / max(out[60, :, k].sum(), 1) for k in range(3))
    assert green == pytest.approx(155, abs=0.1)
    assert abs(red - blue) == pytest.approx(2 * 2 * 75 / 100, abs=0.4)  # twice 2 px at the corner, here 75 %
