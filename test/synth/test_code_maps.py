"""Rendered code maps: the right code under every pixel, and the pose back from them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from kd6d_ros.cli.main import main
from kd6d_ros.data.codes import make_codes
from kd6d_ros.geometry.meshes import bounding_box_corners, diameter
from kd6d_ros.types import ObjectModel

pytest.importorskip('scipy', reason="code maps need pip install 'kd6d_ros[synth]'")

from kd6d_ros.data.code_check import check_codes, code_map, map_camera
from kd6d_ros.data.code_maps import CodeLookup, load_books
from kd6d_ros.data.demo_object import build_demo_object
from kd6d_ros.data.renderer.records import Lights, RenderItem
from kd6d_ros.data.renderer.renderer import Renderer
from kd6d_ros.errors import CodesError, MeshError
from kd6d_ros.inference.code_cloud import code_cloud
from kd6d_ros.inference.code_files import write_codes
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.pnp_codes import solve_codes
from kd6d_ros.types import RigidTransform

pytestmark = pytest.mark.render


def as_model(mesh, name):
    return ObjectModel(name, 1, diameter(mesh.vertices), bounding_box_corners(mesh.vertices), mesh=mesh)


@pytest.fixture(scope='module')
def models(box):
    return {'box': as_model(box, 'box'), 'rover': as_model(build_demo_object(), 'rover')}


@pytest.fixture(scope='module')
def books(models):
    return {name: make_codes(model, per_leaf=2, seed=1)[0] for name, model in models.items()}


@pytest.mark.parametrize('name', ['box', 'rover'])
@pytest.mark.parametrize('seed', [0, 1])
def test_the_pose_comes_back_from_its_code_map(renderer, models, books, name, seed):
    gaps = np.array(check_codes(models[name], books[name], 8, np.random.default_rng(seed)))
    assert np.isfinite(gaps).all()
    assert gaps[:, 0].max() < 1e-3
    assert np.degrees(gaps[:, 1]).max() < 0.5


def test_wrong_codes_give_a_wrong_pose_and_some_lost_codes_do_not(renderer, models, books):
    """With codes whose points are shifted by 3 mm the pose is off by as much; with lost codes RANSAC finds it."""
    wrong = replace(books['rover'], low=books['rover'].low + np.array([0.003, 0.0, 0.0]))
    rng = np.random.default_rng(0)
    model = models['rover']
    pose = RigidTransform(np.eye(3), [0.0, 0.0, 0.6])
    camera = map_camera(model, pose, 64)
    drawer = Renderer(64, 64)
    depth = drawer.render(camera, [RenderItem(model.mesh, pose)], Lights(())).depth
    drawer.release()
    mask, code = code_map(depth, camera, pose, CodeLookup((books['rover'],)))
    crop = Crop(0.0, 0.0, 1.0, 64, 64)
    right = solve_codes(code_cloud(mask, code, books['rover'], crop), camera, 1.0)
    shifted = solve_codes(code_cloud(mask, code, wrong, crop), camera, 1.0)
    assert np.linalg.norm(right.cam_from_obj.translation - pose.translation) < 1e-3
    assert np.linalg.norm(shifted.cam_from_obj.translation - pose.translation) > 2e-3
    # A third of all pixels says anything.
    ys, xs = np.nonzero(mask > 0)
    lost = rng.permutation(len(ys))[: len(ys) // 3]
    code[:, ys[lost], xs[lost]] = rng.normal(size=(16, len(lost)), scale=20)
    found = solve_codes(code_cloud(mask, code, books['rover'], crop), camera, 1.0)
    assert np.linalg.norm(found.cam_from_obj.translation - pose.translation) < 1e-3


def test_every_pixel_has_the_code_of_the_surface_under_it(renderer, models, books, camera, box):
    pose = RigidTransform(np.eye(3), [0.01, 0.02, 0.4])
    depth = renderer.render(camera, [RenderItem(box, pose)], Lights(())).depth
    mask, code = code_map(depth, camera, pose, CodeLookup((books['box'],)))
    np.testing.assert_array_equal(mask > 0, depth > 0)
    cloud = code_cloud(mask, code, books['box'], Crop(0.0, 0.0, 1.0, 160, 120))
    assert len(cloud.points) == (depth > 0).sum()
    # Seen from straight ahead all of it lies on the near face, 3 cm before the origin.
    np.testing.assert_allclose(cloud.points[:, 2], -0.03, atol=2e-3)
    projected = pose.apply(cloud.points) @ camera.matrix.T
    apart = np.linalg.norm(projected[:, :2] / projected[:, 2:] - cloud.pixels, axis=1)
    assert np.quantile(apart, 0.95) < 0.6
    assert (cloud.weights > 0.99).all()


def test_books_are_loaded_in_the_order_of_the_objects_and_checked(tmp_path, models, books):
    for book in books.values():
        write_codes(tmp_path, book)
    pair = (models['rover'], models['box'])
    assert [book.name for book in load_books(tmp_path, pair)] == ['rover', 'box']
    described = replace(models['box'], mesh=None)  # a folder that kd6d synth wrote has no meshes of a plain folder
    assert load_books(tmp_path, (described,))[0].name == 'box'
    with pytest.raises(CodesError, match=r'mug\.codes\.npz: no such file; make it with `kd6d codes`'):
        load_books(tmp_path, (replace(models['box'], name='mug'),))
    rounded = replace(models['box'].mesh, vertices=models['box'].mesh.vertices * 1.0001)  # as in a file in millimetres
    assert load_books(tmp_path, (replace(models['box'], mesh=rounded),))[0].name == 'box'
    dent = models['box'].mesh.vertices.copy()
    dent[0] *= 0.7
    open_box = models['box'].mesh.faces[2:]
    for other in (replace(models['box'].mesh, vertices=dent), replace(models['box'].mesh, faces=open_box)):
        with pytest.raises(CodesError, match="made from another shape than the mesh of 'box'; make it again with"):
            load_books(tmp_path, (replace(models['box'], mesh=other),))
    with pytest.raises(MeshError, match='code maps need its mesh'):
        check_codes(described, books['box'], 1, np.random.default_rng(0))


def test_classes_have_codes_of_their_own(models, books):
    lookup = CodeLookup((books['box'], books['rover']))
    rng = np.random.default_rng(0)
    classes = rng.integers(-2, 2, size=200)
    codes = rng.integers(65536, size=200)
    points = np.where((classes == 1)[:, None], books['rover'].points[codes], books['box'].points[codes])
    got = lookup.codes(classes, points)
    assert got.dtype == np.uint16
    assert (got[classes < 0] == 0).all()
    np.testing.assert_array_equal(got[classes >= 0], codes[classes >= 0])


def test_the_command_solves_poses_on_request(renderer, tmp_path, capsys):
    trimesh = pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")
    (tmp_path / 'models').mkdir()
    trimesh.creation.box((0.12, 0.09, 0.06)).export(tmp_path / 'models' / 'brick.ply')
    command = ['codes', '--models', str(tmp_path / 'models'), '--out', str(tmp_path), '--samples-per-leaf', '1']
    assert main([*command, '--poses', '3', '--json', str(tmp_path / 'facts.json')]) == 0
    assert '3/3' in capsys.readouterr().out
    (facts,) = json.loads((tmp_path / 'facts.json').read_text())['objects']
    assert facts['poses_found'] == 3
    assert 0 < facts['shift_mm_max'] < 1
    assert 0 < facts['turn_deg_max'] < 0.5
    assert main([*command, '--poses', '-1']) == 2
    assert '--poses -1: must not be negative' in capsys.readouterr().err
