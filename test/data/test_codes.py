"""Surface codes: balanced, compact, one leaf per sample, the same every time."""

import json

import numpy as np
import pytest
from code_books import HALF, box_codes, box_model

from kd6d_ros.cli.main import main
from kd6d_ros.data.codes import distance_by_prefix, leaf_radii, make_codes, mesh_hash, split_samples
from kd6d_ros.errors import ConfigError, MeshError
from kd6d_ros.geometry.meshes import surface_points
from kd6d_ros.inference.surface_codes import LEAVES, bits_of, codes_from
from kd6d_ros.types import Mesh, ObjectModel


def rover():
    """The demo object: boxes and cylinders, not convex, without symmetry."""
    from kd6d_ros.data.demo_object import build_demo_object

    mesh = build_demo_object()
    corners = np.stack([mesh.vertices.min(0), mesh.vertices.max(0)])
    return ObjectModel('rover', 1, 0.18, np.repeat(corners, 4, 0), mesh=mesh)


@pytest.fixture(scope='module')
def made():
    return {'box': (box_model(), *box_codes()), 'rover': (rover(), *make_codes(rover(), per_leaf=2, seed=5))}


@pytest.mark.parametrize('name', ['box', 'rover'])
def test_every_sample_has_exactly_one_leaf_and_leaves_are_equal(made, name):
    model, _, samples = made[name]
    assert samples.points.shape == (LEAVES, 2, 3)  # so siblings of every level are equally large
    np.testing.assert_array_equal(np.sort(samples.order), np.arange(2 * LEAVES))
    drawn = surface_points(model.mesh, 2 * LEAVES, np.random.default_rng(3 if name == 'box' else 5))
    np.testing.assert_array_equal(drawn[samples.order].reshape(LEAVES, 2, 3), samples.points)


@pytest.mark.parametrize('name', ['box', 'rover'])
def test_leaves_are_small_and_shared_bits_bring_points_together(made, name):
    model, book, samples = made[name]
    assert np.median(leaf_radii(samples)) < 0.01 * model.diameter
    distances = distance_by_prefix(samples)
    assert len(distances) == 17
    assert (np.diff(distances) < 0).all()
    assert distances[0] > 0.3 * model.diameter
    np.testing.assert_allclose(book.points, samples.points.mean(1), atol=1e-5 * model.diameter)


def test_the_distances_are_those_of_a_plain_loop_over_pairs(made):
    _, _, samples = made['rover']
    rng = np.random.default_rng(0)
    codes = rng.integers(LEAVES, size=(300_000, 2))
    apart = np.linalg.norm(samples.points[codes[:, 0], 0] - samples.points[codes[:, 1], 0], axis=1)
    shared = (np.cumprod(bits_of(codes[:, 0]) == bits_of(codes[:, 1]), axis=1)).sum(1)
    distances = distance_by_prefix(samples)
    for count in range(8):  # beyond that random pairs are too few
        assert apart[shared == count].mean() == pytest.approx(distances[count], rel=0.05)


def test_balanced_means_give_smaller_leaves_than_the_principal_axis(made):
    model, _, samples = made['rover']
    drawn = surface_points(model.mesh, 2 * LEAVES, np.random.default_rng(5))
    straight = leaf_radii(split_samples(drawn, turns=0))
    assert np.median(leaf_radii(samples)) < np.median(straight)


def test_bit_one_is_the_positive_side_of_the_cut(made):
    """Of a long box the first cut is across x: codes from 32768 on lie at positive x."""
    _, book, _ = made['box']
    assert book.points[LEAVES // 2 :, 0].min() >= book.points[: LEAVES // 2, 0].max() - 0.02 * HALF[0]


def test_the_same_seed_gives_the_same_codes_and_another_one_others():
    book, _ = box_codes()
    again, _ = make_codes(box_model(), per_leaf=2, seed=3)
    np.testing.assert_array_equal(book.grid, again.grid)
    assert (make_codes(box_model(), per_leaf=1, seed=4)[0].grid != again.grid).any()


def test_codes_and_bits_are_each_others_inverse():
    codes = np.arange(LEAVES).reshape(256, 256)
    assert bits_of(codes).shape == (256, 256, 16)
    np.testing.assert_array_equal(bits_of(np.array([1, 32768]))[:, [0, 15]], [[0, 1], [1, 0]])
    np.testing.assert_array_equal(codes_from(bits_of(codes)), codes)


def test_the_hash_is_that_of_the_shape_alone():
    mesh = box_model().mesh
    painted = Mesh(mesh.vertices, mesh.faces, np.zeros((8, 3), np.uint8))
    moved = Mesh(mesh.vertices + 1e-4, mesh.faces)
    assert mesh_hash(mesh) == mesh_hash(painted) != mesh_hash(moved)


@pytest.mark.parametrize('count', [0, 65535, LEAVES + 1])
def test_only_multiples_of_the_leaves_are_split(count):
    with pytest.raises(ConfigError, match='multiple of 65536'):
        split_samples(np.zeros((count, 3)))


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match=r'65 is outside 1\.\.64'):
        make_codes(box_model(), per_leaf=65)
    with pytest.raises(MeshError, match='need its mesh'):
        make_codes(ObjectModel('box', 1, 0.1, np.zeros((8, 3))))


@pytest.fixture
def folder(tmp_path):
    trimesh = pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")
    (tmp_path / 'models').mkdir()
    trimesh.creation.box(2 * HALF).export(tmp_path / 'models' / 'brick.ply')
    trimesh.creation.cone(0.04, 0.12, sections=24).export(tmp_path / 'models' / 'wedge.ply')
    return tmp_path


def test_the_command_writes_one_file_per_object_and_says_what_is_in_it(folder, capsys):
    command = ['codes', '--models', str(folder / 'models'), '--out', str(folder / 'out'), '--samples-per-leaf', '1']
    assert main([*command, '--json', str(folder / 'facts.json')]) == 0
    printed = capsys.readouterr()
    assert 'brick' in printed.out
    assert '2/2' in printed.err
    assert sorted(path.name for path in (folder / 'out').iterdir()) == ['brick.codes.npz', 'wedge.codes.npz']
    record = json.loads((folder / 'facts.json').read_text())
    assert [item['name'] for item in record['objects']] == ['brick', 'wedge']
    for item in record['objects']:
        assert item['radius_median'] == 0  # one sample per leaf
        assert (np.diff(item['distance_by_shared_bits']) < 0).all()
        assert item['bytes'] == (folder / 'out' / f'{item["name"]}.codes.npz').stat().st_size
    first = {path.name: path.read_bytes() for path in (folder / 'out').iterdir()}
    assert main([*command[:-1], '1', '--objects', 'brick']) == 0
    assert (folder / 'out' / 'brick.codes.npz').read_bytes() == first['brick.codes.npz']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['--models', 'nowhere'], 'no such folder'),
        (['--samples-per-leaf', '0'], 'samples per leaf: 0'),
        (['--seed', '-1'], '--seed -1'),
        (['--objects', 'mug'], "no object 'mug'"),
        (['--out', '{models}/brick.ply'], 'is a file'),
    ],
)
def test_a_mistake_ends_in_one_line(folder, change, message, capsys):
    change = [item.replace('{models}', str(folder / 'models')) for item in change]
    command = ['codes', '--models', str(folder / 'models'), '--out', str(folder / 'out'), *change]
    assert main(command) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert '\n' not in line
    assert not (folder / 'out').exists()
