"""Objects from BOP and plain folders: names, units, symmetries, and what a user gets wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('trimesh')

from kd6d_ros.data.objects import load_distractor_meshes, load_objects
from kd6d_ros.data.objects_yaml import read_objects_yaml, write_objects_yaml
from kd6d_ros.errors import ConfigError, DatasetError, MeshError

ROOT = Path(__file__).resolve().parents[2]
SIZE = np.array([100.0, 80.0, 60.0])


def write_box(path, size=SIZE, centre=(0, 0, 0)):
    """An OBJ box."""
    import trimesh

    path.parent.mkdir(parents=True, exist_ok=True)
    box = trimesh.creation.box(extents=size)
    box.apply_translation(centre)
    box.export(path)
    return path


def info(size=SIZE, **extra):
    values = {'diameter': float(np.linalg.norm(size))}
    for axis, length in zip('xyz', size, strict=True):
        values[f'min_{axis}'], values[f'size_{axis}'] = -length / 2, length
    return {**values, **extra}


@pytest.fixture
def bop_folder(tmp_path):
    folder = tmp_path / 'models'
    write_box(folder / 'obj_000005.ply')
    write_box(folder / 'obj_000012.ply')
    half = [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    entries = {'12': info(symmetries_discrete=[half]), '5': info(), '99': info()}
    (folder / 'models_info.json').write_text(json.dumps(entries))
    return folder


def test_bop_folder_in_metres(bop_folder):
    first, second = load_objects(bop_folder)
    assert [first.name, second.name] == ['obj_000005', 'obj_000012']
    assert [first.obj_id, second.obj_id] == [5, 12]
    assert first.diameter == pytest.approx(0.1414213, abs=1e-6)
    np.testing.assert_allclose(first.keypoints[0], [-0.05, -0.04, -0.03])
    np.testing.assert_allclose(first.keypoints[7], [0.05, 0.04, 0.03])
    np.testing.assert_allclose(first.mesh.vertices.max(axis=0), [0.05, 0.04, 0.03])
    assert not first.symmetries
    assert len(second.symmetries.discrete) == 1


def test_names_from_a_file(bop_folder, tmp_path):
    names = tmp_path / 'names.yaml'
    names.write_text('objects: {5: {name: can, display_name: Watering can}, 12: puncher, 40: unused}')
    models = load_objects(bop_folder, config=names)
    assert [(m.name, m.display_name) for m in models] == [('can', 'Watering can'), ('puncher', '')]
    assert [m.name for m in load_objects(bop_folder, include=['puncher'], config=names)] == ['puncher']
    with pytest.raises(ConfigError, match="has no object 'cup'; it has can, puncher"):
        load_objects(bop_folder, include=['cup'], config=names)
    write_objects_yaml(bop_folder, models)
    assert [m.name for m in load_objects(bop_folder)] == ['can', 'puncher']


def test_bop_folder_without_meshes(bop_folder):
    for path in bop_folder.glob('*.ply'):
        path.unlink()
    models = load_objects(bop_folder)
    assert [m.obj_id for m in models] == [5, 12, 99]
    assert all(m.mesh is None for m in models)
    np.testing.assert_allclose(models[0].keypoints[7], [0.05, 0.04, 0.03])


def test_meshes_can_be_left_alone(bop_folder):
    (bop_folder / 'obj_000005.ply').write_text('broken')
    models = load_objects(bop_folder, with_meshes=False)
    assert [m.obj_id for m in models] == [5, 12]
    assert models[0].mesh is None


def test_mesh_that_is_not_the_described_one(bop_folder):
    write_box(bop_folder / 'obj_000005.ply', SIZE * 2)
    with pytest.raises(MeshError, match=r'the mesh of object 5 and its entry in models_info\.json differ'):
        load_objects(bop_folder)


def test_plain_folder_takes_names_from_files(tmp_path):
    write_box(tmp_path / 'my-mug.obj', SIZE / 1000, centre=(0.2, 0, 0))
    write_box(tmp_path / 'brick' / 'textured.obj', SIZE / 1000)
    brick, mug = load_objects(tmp_path)
    assert (brick.name, brick.obj_id, brick.display_name) == ('brick', 1, '')
    assert (mug.name, mug.obj_id, mug.display_name) == ('my_mug', 2, 'my-mug')
    np.testing.assert_allclose(mug.keypoints[0], [0.15, -0.04, -0.03], atol=1e-7)
    assert mug.diameter == pytest.approx(0.1414213, abs=1e-6)


def test_plain_folder_with_objects_yaml(tmp_path):
    write_box(tmp_path / '003_box' / 'textured.obj')
    (tmp_path / 'objects.yaml').write_text(
        'unit: mm\n'
        'objects:\n'
        '  3:\n'
        '    name: box\n'
        '    mesh: 003_box/textured.obj\n'
        '    symmetries_continuous: [{axis: [0, 0, 3], offset: [10, 0, 0]}]\n'
    )
    (box,) = load_objects(tmp_path)
    assert (box.name, box.obj_id) == ('box', 3)
    assert box.diameter == pytest.approx(0.1414213, abs=1e-6)
    np.testing.assert_allclose(box.symmetries.continuous[0].axis, [0, 0, 1])
    np.testing.assert_allclose(box.symmetries.continuous[0].offset, [0.01, 0, 0])


def test_names_that_ros_does_not_allow(tmp_path):
    write_box(tmp_path / '003_cracker_box' / 'textured.obj', SIZE / 1000)
    with pytest.raises(ConfigError, match=r"'003_cracker_box' cannot be the name of an object .*objects\.yaml"):
        load_objects(tmp_path)
    assert len(load_distractor_meshes(tmp_path)) == 1


def test_wrong_units_are_named(tmp_path):
    write_box(tmp_path / 'mug.obj', np.array([100.0, 100.0, 100.0]))
    with pytest.raises(MeshError, match=r'mug\.obj: mesh is 173\.2 m across .*millimetres'):
        load_objects(tmp_path)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(DatasetError, match=r'no mesh in it; expected \.ply, \.obj, \.stl files'):
        load_objects(tmp_path)
    with pytest.raises(DatasetError, match='no such folder'):
        load_objects(tmp_path / 'none')
    with pytest.raises(DatasetError, match='no such folder'):
        load_distractor_meshes(tmp_path / 'none')
    with pytest.raises(DatasetError, match='no mesh in it'):
        load_distractor_meshes(tmp_path)


def test_two_meshes_of_one_name(tmp_path):
    write_box(tmp_path / 'a-b.obj', SIZE / 1000)
    write_box(tmp_path / 'a_b.obj', SIZE / 1000)
    with pytest.raises(ConfigError, match="two meshes would be called 'a_b'"):
        load_objects(tmp_path)
    write_box(tmp_path / 'c' / 'one.obj', SIZE / 1000)
    write_box(tmp_path / 'c' / 'two.obj', SIZE / 1000)
    with pytest.raises(ConfigError, match=r'holds 2 meshes; name the right one in .*objects\.yaml'):
        load_objects(tmp_path)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('objects: [1, 2', r'objects\.yaml line 1: not valid YAML'),
        ('- 1', 'expected a mapping with the key objects'),
        ('objects: {}', 'key objects: expected a mapping of object ids'),
        ('object: {1: a}', "unknown key 'object'; known are unit, objects"),
        ('unit: inch\nobjects: {1: a}', "key unit: expected m or mm, got 'inch'"),
        ('objects: {one: a}', "'one' is not an object id"),
        ('objects: {1: 5}', r'key objects\.1: expected a name, or a mapping'),
        ('objects: {1: {name: 5}}', r'objects\.1\.name: 5 cannot be the name'),
        ('objects: {1: {name: a b}}', "'a b' cannot be the name of an object"),
        ('objects: {1: {name: a, colour: red}}', r"key objects\.1: unknown key 'colour'"),
        ('objects: {1: a, 2: a}', "objects 1 and 2 are both called 'a'"),
        ('objects: {1: {name: a, mesh: 5}}', r'objects\.1\.mesh: expected text, got 5'),
        ('objects: {1: {name: a, symmetries_discrete: [[1]]}}', r'symmetries_discrete\[0\]: expected a list of 16'),
        ('objects: {1: !!python/object/apply:os.system [ls]}', 'not valid YAML'),
        ('unit: m\nobjects: {1: a}', r'key objects\.1: the key mesh .* is missing'),
        ('objects: {1: {name: a, mesh: b.obj}}', 'the unit of the meshes is missing; add a line'),
        ('unit: m\nobjects: {1: {name: a, mesh: ../b.obj}}', r"'\.\./b\.obj' leaves the folder"),
    ],
)
def test_objects_yaml_mistakes(tmp_path, text, message):
    folder = tmp_path / 'meshes'
    folder.mkdir()
    (folder / 'objects.yaml').write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_objects(folder)
    assert '\n' not in str(caught.value)


def test_shipped_lmo_names():
    names = read_objects_yaml(ROOT / 'config' / 'objects_lmo.yaml').objects
    assert {ident: entry.name for ident, entry in names.items()} == {
        1: 'ape', 5: 'can', 6: 'cat', 8: 'driller', 9: 'duck', 10: 'eggbox', 11: 'glue', 12: 'holepuncher',
    }  # fmt: skip


def test_written_names_are_plain_yaml(bop_folder):
    path = write_objects_yaml(bop_folder, load_objects(bop_folder))
    assert yaml.safe_load(path.read_text()) == {'objects': {5: {'name': 'obj_000005'}, 12: {'name': 'obj_000012'}}}


@pytest.mark.slow
def test_real_folders(shared_data):
    names = ROOT / 'config' / 'objects_lmo.yaml'
    models = {m.name: m for m in load_objects(shared_data / 'lmo' / 'models', config=names)}
    assert len(models) == 8
    assert models['eggbox'].symmetries.discrete
    assert models['ape'].diameter == pytest.approx(0.102099)
    assert len(load_objects(shared_data / 'lm_more' / 'models')) == 6
    with pytest.raises(ConfigError, match='003_cracker_box'):
        load_objects(shared_data / 'ycb')
    assert len(load_distractor_meshes(shared_data / 'ycb')) == 12
