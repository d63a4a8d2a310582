"""Other worlds of the demo: never the bag's own, the same again for a seed, poses that project onto their masks."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields

import numpy as np
import pytest

pytest.importorskip('moderngl')

from kd6d_ros.data import demo_world_views, demo_worlds
from kd6d_ros.data.bop import BopDataset, read_detections, read_targets
from kd6d_ros.data.bop_evaluation import load_evaluation_objects, models_folder
from kd6d_ros.data.demo_object import build_demo_object
from kd6d_ros.data.demo_scene import World
from kd6d_ros.data.objects import load_objects
from kd6d_ros.errors import MissingDependencyError
from kd6d_ros.geometry.cameras import project

WORLDS, IMAGES = 2, 3


def test_the_bag_s_own_world_is_never_drawn() -> None:
    film = World()
    drawn = [demo_world_views.draw_world(np.random.default_rng(seed)) for seed in range(300)]
    assert len({world.seed for world in drawn}) == len(drawn)
    for world in drawn:
        assert world.seed > film.seed
        assert all(
            getattr(world, item.name) != getattr(film, item.name) for item in fields(World) if item.name != 'seed'
        )
        assert all(min(size) > 0.015 for *_, size in world.cartons)
    # Most of the clutter stays, about evenly turned.
    kept = np.mean([len(world.cartons) + len(world.cans) for world in drawn]) / (len(film.cartons) + len(film.cans))
    assert kept == pytest.approx(0.8, abs=0.05)
    assert np.mean([world.object_yaw for world in drawn]) == pytest.approx(math.pi, abs=0.4)


def test_the_conditions_stay_in_their_ranges() -> None:
    for seed in range(100):
        conditions = demo_world_views.draw_conditions(np.random.default_rng(seed))
        matrix = conditions.camera.matrix
        assert 560 <= matrix[0, 0] == matrix[1, 1] <= 660
        assert np.abs(matrix[:2, 2] - [320, 240]).max() <= 5
        assert np.abs(conditions.tint - 1).max() <= 0.08
        assert 0.3 <= conditions.sky <= 0.5
        assert 0.5 <= conditions.blur <= 1.0
        assert 0.5 <= conditions.noise <= 3.0
        assert np.linalg.norm(conditions.sun) > 0.1


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A set of two worlds with three images each."""
    out = tmp_path_factory.mktemp('worlds') / 'set'
    try:
        demo_worlds.write_worlds(out, seed=5, worlds=WORLDS, images=IMAGES, say=lambda line: None)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    return out


@pytest.mark.render
def test_poses_project_onto_their_masks(made) -> None:
    dataset = BopDataset.open(made)
    mesh, detections = build_demo_object(), read_detections(made / 'detections.json')
    targets = read_targets(made / 'test_targets_bop19.json')
    keys = [(target.scene_id, target.image_id) for target in targets]
    assert keys == [(scene, image) for scene in (1, 2) for image in range(IMAGES)] == list(detections)
    for scene_id, image_id in keys:
        scene = dataset.scene('test', scene_id)
        camera, (truth,) = scene.camera(image_id), scene.annotations(image_id)
        assert scene.image(image_id).shape == (480, 640, 3)
        assert (truth.obj_id, truth.visible_fraction >= 0.3) == (1, True)
        assert 0.35 < np.linalg.norm(truth.cam_from_obj.translation) < 1.35
        pixels = project(camera, truth.cam_from_obj.apply(mesh.vertices))
        expected = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
        np.testing.assert_allclose(truth.box_object, expected, atol=1.0)
        mask, visible = scene.mask(image_id, 0), scene.mask_visible(image_id, 0)
        assert not (visible & ~mask).any()
        assert truth.pixels_all >= mask.sum() >= visible.sum() == truth.pixels_visible > 0
        rows, columns = np.nonzero(mask)
        inside = np.clip(expected, 0, [639, 479] * 2)
        np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], inside, atol=1.0)
        (found,) = detections[scene_id, image_id]
        # The box of the 3D box holds that of the silhouette.
        assert (found.box[:2] <= expected[:2] + 1e-3).all()
        assert (found.box[2:] >= expected[2:] - 1e-3).all()


@pytest.mark.render
def test_worlds_differ_and_commands_find_the_object(made) -> None:
    dataset = BopDataset.open(made)
    first, second = (dataset.scene('test', number) for number in (1, 2))
    assert abs(first.camera(0).matrix - second.camera(0).matrix).max() > 0.1
    np.testing.assert_array_equal(first.camera(0).matrix, first.camera(1).matrix)
    assert np.abs(first.image(0).astype(int) - second.image(0)).mean() > 10
    (model,) = load_objects(made / 'models')
    assert (model.name, model.obj_id) == ('toy_rover', 1)
    objects = load_evaluation_objects(*models_folder(dataset), [1])
    assert objects[1].diameter == pytest.approx(0.17017, abs=1e-5)
    np.testing.assert_allclose(objects[1].vertices, build_demo_object().vertices, atol=1e-6)


@pytest.mark.render
def test_the_same_seed_gives_the_same_images_in_a_smaller_set(made, tmp_path) -> None:
    demo_worlds.write_worlds(tmp_path / 'again', seed=5, worlds=1, images=1, say=lambda line: None)
    demo_worlds.write_worlds(tmp_path / 'other', seed=6, worlds=1, images=1, say=lambda line: None)
    names = ['rgb/000000.jpg', 'mask/000000_000000.png', 'mask_visib/000000_000000.png']

    def digests(root):
        return [hashlib.sha256((root / 'test' / '000001' / name).read_bytes()).hexdigest() for name in names]

    assert digests(made) == digests(tmp_path / 'again')
    assert digests(made)[0] != digests(tmp_path / 'other')[0]
    whole, part = (
        json.loads((root / 'test' / '000001' / 'scene_gt.json').read_text()) for root in (made, tmp_path / 'again')
    )
    assert part['0'] == whole['0']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--images', '0'], 'must be at least 1'),
        (['--worlds', '0'], 'must be at least 1'),
        (['--seed', '-1'], '--seed at least 0'),
        ([], 'exists and is not an empty folder'),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, message) -> None:
    (tmp_path / 'thesis.tex').write_text('x')
    assert demo_worlds.main(['--out', str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert '\n' not in error
