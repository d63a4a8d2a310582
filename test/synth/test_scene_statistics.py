"""Scenes as a whole: who appears how often, seen from where, at which distance. No rendering."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kd6d_ros.data.scenes.assets import make_assets
from kd6d_ros.data.scenes.recipe import SceneRecipe, SynthRecipe
from kd6d_ros.data.scenes.sampler import sample_scene
from kd6d_ros.data.scenes.shapes import box, sphere
from kd6d_ros.data.synth import image_rng
from kd6d_ros.geometry.meshes import bounding_box_corners
from kd6d_ros.types import Camera, Mesh, ObjectModel

SCENES = 400
CAMERA = Camera(np.array([[572.4, 0.0, 325.3], [0.0, 573.6, 242.0], [0.0, 0.0, 1.0]]), 640, 480)
RECIPE = SynthRecipe(scene=SceneRecipe(targets=(2, 4), distractors=(3, 6)))


@pytest.fixture(scope='module')
def assets():
    models = []
    for number in range(4):
        unit = box() if number % 2 else sphere()
        mesh = Mesh(unit.vertices * (0.06 + 0.02 * number), unit.faces, normals=unit.normals)
        corners = bounding_box_corners(mesh.vertices)
        size = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
        models.append(ObjectModel(f'thing{number}', number + 1, size, corners, mesh=mesh))
    return make_assets(models, [], [], RECIPE.scene, seed=5)


@pytest.fixture(scope='module')
def scenes(assets):
    return [sample_scene(image_rng(5, index), assets, RECIPE, CAMERA) for index in range(SCENES)]


def test_every_object_appears_about_equally_often(scenes):
    counts = np.bincount([target.model.obj_id for scene in scenes for target in scene.targets])[1:]
    assert counts.min() > 0.85 * counts.mean()
    assert counts.max() < 1.15 * counts.mean()
    assert all(len({target.model.obj_id for target in scene.targets}) == len(scene.targets) for scene in scenes)


def test_some_scenes_are_empty_and_most_are_full(scenes):
    numbers = np.array([len(scene.targets) for scene in scenes])
    assert 0.005 < (numbers == 0).mean() < 0.1
    assert (numbers >= 2).mean() > 0.85


def test_objects_are_seen_from_everywhere_and_rolled_every_way(scenes):
    poses = [item.cam_from_obj for scene in scenes for item in scene.target_items]
    # where the camera stands, in the object's frame
    views = np.array([-pose.rotation.T @ pose.translation / np.linalg.norm(pose.translation) for pose in poses])
    octants = np.bincount((views > 0) @ [4, 2, 1], minlength=8) / len(views)
    assert octants.min() > 0.07  # 0.125 each if nothing ever stood upright on a table
    up = np.array([pose.rotation[:2, 2] for pose in poses])
    roll = np.arctan2(up[:, 1], up[:, 0])
    sectors = np.histogram(roll, np.linspace(-np.pi, np.pi, 9))[0] / len(roll)
    assert sectors.min() > 0.06


def test_distances_fill_the_range_and_centres_lie_about_the_frame(scenes):
    where = np.array([item.cam_from_obj.translation for scene in scenes for item in scene.target_items])
    low, high = RECIPE.scene.distance_m
    assert np.quantile(where[:, 2], 0.02) > low - 0.1
    assert np.quantile(where[:, 2], 0.98) < high + 0.1
    assert np.quantile(where[:, 2], 0.1) < 0.6
    assert np.quantile(where[:, 2], 0.9) > 0.9
    pixels = (where / where[:, 2:] @ CAMERA.matrix.T)[:, :2]
    inside = ((pixels > 0) & (pixels < [639, 479])).all(axis=1)
    assert 0.8 < inside.mean() < 1.0  # some are cut by the frame
    quarter = (pixels[inside] > [320, 240]) @ [2, 1]
    assert np.bincount(quarter, minlength=4).min() > 0.15 * inside.sum()


def test_tables_clutter_sheets_and_occluders_all_occur(scenes):
    grounds = np.array([any(item.mesh is not None and not item.casts_shadow for item in s.other_items) for s in scenes])
    assert 0.45 < grounds.mean() < 0.68
    nearer = 0
    for scene in scenes:
        targets = [item.cam_from_obj.translation for item in scene.target_items]
        for item in scene.other_items:
            if not item.casts_shadow:
                continue
            other = item.cam_from_obj.translation
            nearer += any(
                other[2] < target[2] and np.linalg.norm(other[:2] / other[2] - target[:2] / target[2]) < 0.1
                for target in targets
            )
    assert nearer > 0.5 * len(scenes)


def test_lights_come_from_above_and_vary(scenes):
    keys = [scene.lights.lights[0] for scene in scenes]
    assert all(key.vector @ scene.lights.up > 0.24 for key, scene in zip(keys, scenes, strict=True))
    strength = np.array([key.colour.mean() for key in keys])
    assert strength.max() / strength.min() > 4
    assert {len(scene.lights.lights) for scene in scenes} == {1, 2, 3}
    assert 0.8 < np.mean([scene.lights.shadows for scene in scenes]) < 0.97


def test_a_scene_depends_on_its_seed_and_number_alone(assets, scenes):
    again = sample_scene(image_rng(5, 17), assets, RECIPE, CAMERA)
    np.testing.assert_array_equal(again.background, scenes[17].background)
    for one, two in zip(again.items, scenes[17].items, strict=True):
        np.testing.assert_array_equal(one.cam_from_obj.matrix(), two.cam_from_obj.matrix())
        np.testing.assert_array_equal(one.material.colour_matrix, two.material.colour_matrix)
    other = sample_scene(image_rng(6, 17), assets, RECIPE, CAMERA)
    assert (other.background != again.background).any()


def test_the_asked_distance_is_kept_by_a_narrow_range(assets):
    recipe = replace(RECIPE, scene=replace(RECIPE.scene, distance_m=(0.8, 0.85)))
    depths = [
        item.cam_from_obj.apply(item.mesh.vertices)[:, 2].mean()
        for index in range(60)
        for item in sample_scene(image_rng(1, index), assets, recipe, CAMERA).target_items
    ]
    assert len(depths) > 60
    assert min(depths) > 0.8 - 0.15
    assert max(depths) < 0.85 + 0.15


def test_one_object_may_stand_in_a_scene_several_times(assets):
    scene = replace(RECIPE.scene, targets=(3, 6), repeat_targets=True, empty_probability=0.0)
    scenes = [sample_scene(image_rng(6, index), assets, replace(RECIPE, scene=scene), CAMERA) for index in range(120)]
    counts = [np.bincount([target.model.obj_id for target in one.targets], minlength=5) for one in scenes]
    assert max(count.max() for count in counts) >= 3
    assert np.mean([count.sum() for count in counts]) > 3.5  # four objects could fill at most four places
    total = np.sum(counts, 0)[1:]
    assert total.min() > 0.75 * total.mean()


def test_a_range_of_yaw_counts_from_the_camera(assets):
    narrow = replace(RECIPE.scene, yaw_deg=(20.0, 50.0), table_probability=1.0, upright_probability=1.0,
                     level_roll_probability=1.0)  # fmt: skip
    turned = []
    for index in range(60):
        for item in sample_scene(image_rng(7, index), assets, replace(RECIPE, scene=narrow), CAMERA).target_items:
            rotation = item.cam_from_obj.rotation
            up, right = rotation[:, 2], np.array([1.0, 0.0, 0.0])
            along = right - up * (right @ up)  # the camera's x axis laid onto the table
            along /= np.linalg.norm(along)
            turned.append(np.degrees(np.arctan2(np.cross(along, rotation[:, 0]) @ up, along @ rotation[:, 0])))
    assert 15 < np.percentile(turned, 5) < 28  # the camera's own roll blurs the ends
    assert 42 < np.percentile(turned, 95) < 60
