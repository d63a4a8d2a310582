"""`kd6d synth` from mesh files to a BOP data set: correctness, determinism, resuming, and every bad input."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from kd6d_ros.cli.main import main
from kd6d_ros.data.bop import BopDataset
from kd6d_ros.data.objects import load_objects
from kd6d_ros.errors import ConfigError

trimesh = pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")
pytestmark = pytest.mark.render
RECIPE = """
size: [160, 120]
camera_matrix: [150.0, 148.0, 71.3, 64.8]
scene: {distance_m: [0.3, 0.6], targets: [2, 2], distractors: [1, 3], empty_probability: 0.0}
"""


@pytest.fixture(scope='module')
def workshop(tmp_path_factory):
    """A plain folder of two meshes (metres), a recipe and two photos."""
    root = tmp_path_factory.mktemp('workshop')
    (root / 'models').mkdir()
    brick = trimesh.creation.box((0.1, 0.06, 0.04))
    brick.visual.vertex_colors = np.tile([200, 40, 40, 255], (len(brick.vertices), 1))
    brick.export(root / 'models' / 'brick.ply')
    wedge = trimesh.creation.cone(0.04, 0.12, sections=24)
    wedge.export(root / 'models' / 'wedge.ply')
    (root / 'recipe.yaml').write_text(RECIPE)
    (root / 'photos').mkdir()
    for k in range(2):
        noise = np.random.default_rng(k).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'photos' / f'{k}.jpg'), cv2.resize(noise, (320, 240)))
    return root


def synth(workshop, out, *extra, images=6):
    args = ['synth', '--models', str(workshop / 'models'), '--config', str(workshop / 'recipe.yaml')]
    args += ['--backgrounds', str(workshop / 'photos'), '--out', str(out), '--images', str(images), '--seed', '3']
    return main([*args, *map(str, extra)])


@pytest.fixture(scope='module')
def dataset(workshop, tmp_path_factory, renderer):
    out = tmp_path_factory.mktemp('set') / 'out'
    assert synth(workshop, out) == 0
    return out


def content(folder):
    """Every file's bytes by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_poses_depth_and_masks_agree_with_the_original_meshes(workshop, dataset):
    models = {model.obj_id: model for model in load_objects(workshop / 'models')}
    scene = BopDataset.open(dataset).scene('train', 0)
    assert scene.image_ids == tuple(range(6))
    seen = set()
    for image_id in scene.image_ids:
        camera = scene.camera(image_id, (160, 120))
        np.testing.assert_allclose(camera.matrix, [[150, 0, 71.3], [0, 148, 64.8], [0, 0, 1]])
        assert scene.image(image_id).shape == (120, 160, 3)
        depth = scene.depth(image_id)
        claimed = np.zeros((120, 160), int)
        for index, truth in enumerate(scene.annotations(image_id)):
            seen.add(truth.obj_id)
            full, visible = scene.mask(image_id, index) > 0, scene.mask_visible(image_id, index) > 0
            claimed += visible
            assert not (visible & ~full).any()
            points = truth.cam_from_obj.apply(models[truth.obj_id].mesh.vertices)
            z = depth[visible]
            assert (z > points[:, 2].min() - 2e-4).all()
            assert (z < points[:, 2].max() + 2e-4).all()
            assert truth.visible_fraction <= visible.sum() / max(full.sum(), 1) + 1e-9
            pixels = (points / points[:, 2:] @ camera.matrix.T)[:, :2]
            outline = cv2.convexHull(pixels.astype(np.float32))  # both meshes are convex
            inside = np.zeros((120, 160))
            for v in range(120):
                for u in range(160):
                    inside[v, u] = cv2.pointPolygonTest(outline, (float(u), float(v)), True)
            assert full[inside > 0.1].all()
            assert not full[inside < -0.1].any()
        assert claimed.max() <= 1
    assert seen == set(models)


def test_visible_fraction_counts_what_lies_outside_the_frame(workshop, tmp_path, renderer):
    recipe = tmp_path / 'edge.yaml'
    recipe.write_text(RECIPE.replace('targets', 'frame_margin: 0.3, cluster_probability: 0.0, targets'))
    out = tmp_path / 'out'
    assert synth(workshop, out, '--config', recipe, images=12) == 0
    infos = json.loads((out / 'train/000000/scene_gt_info.json').read_text())
    cut = 0
    for image_id, entries in infos.items():
        for index, info in enumerate(entries):
            mask = cv2.imread(str(out / f'train/000000/mask/{int(image_id):06d}_{index:06d}.png'), 0)
            x, y, w, h = info['bbox_obj']
            inside = x >= 0 and y >= 0 and x + w <= 159 and y + h <= 119
            assert info['px_count_all'] >= (mask > 0).sum()
            if not inside and (mask > 0).sum() < 0.7 * w * h * 0.5:
                cut += info['px_count_all'] > (mask > 0).sum()
    assert cut > 0


def test_any_number_of_workers_gives_the_same_bytes_and_a_rerun_changes_nothing(workshop, dataset, tmp_path):
    assert synth(workshop, tmp_path / 'two', '--workers', 2) == 0
    first, second = content(dataset), content(tmp_path / 'two')
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert synth(workshop, tmp_path / 'two') == 0
    assert content(tmp_path / 'two') == second


def test_an_interrupted_run_resumes_with_the_same_bytes(workshop, dataset, tmp_path, monkeypatch):
    from kd6d_ros.data import synth as synth_module

    whole = synth_module.ImageMaker.write

    def stop_at_four(self, index):
        if index == 4:
            raise KeyboardInterrupt
        return whole(self, index)

    out = tmp_path / 'out'
    monkeypatch.setattr(synth_module.ImageMaker, 'write', stop_at_four)
    assert synth(workshop, out) == 130
    made = []
    monkeypatch.setattr(synth_module.ImageMaker, 'write', lambda self, i: made.append(i) or whole(self, i))
    assert synth(workshop, out) == 0
    assert made == [4, 5]
    assert content(out) == content(dataset)


def test_a_set_can_grow(workshop, dataset, tmp_path):
    assert synth(workshop, tmp_path, images=3) == 0
    assert synth(workshop, tmp_path, images=6) == 0
    assert content(tmp_path) == content(dataset)


def test_json_tells_the_rate(workshop, tmp_path, capsys, renderer):
    assert synth(workshop, tmp_path / 'o', '--json', images=4) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record['images'], record['made'], record['seed']) == (4, 4, 3)
    assert record['images_per_second'] > 0.1
    assert synth(workshop, tmp_path / 'o', '--json', tmp_path / 'again.json', images=4) == 0
    record = json.loads((tmp_path / 'again.json').read_text())
    assert (record['made'], record['images_per_second']) == (0, None)
    assert '4 images, 0 made now' in capsys.readouterr().out


def test_other_seeds_give_other_pictures(workshop, dataset, tmp_path):
    assert synth(workshop, tmp_path, '--seed', 4, images=1) == 0
    name = 'train/000000/rgb/000000.jpg'
    assert (tmp_path / name).read_bytes() != (dataset / name).read_bytes()


def test_the_set_stands_alone(workshop, dataset):
    again = load_objects(dataset / 'models', with_meshes=False)
    before = load_objects(workshop / 'models')
    assert [model.obj_id for model in again] == [model.obj_id for model in before]
    for one, two in zip(again, before, strict=True):
        assert one.diameter == pytest.approx(two.diameter, rel=1e-6)
        np.testing.assert_allclose(np.sort(one.keypoints, axis=0), np.sort(two.keypoints, axis=0), atol=1e-7)
    camera = json.loads((dataset / 'camera.json').read_text())
    assert (camera['width'], camera['cx']) == (160, 71.3)


def test_preview_and_procedural_backgrounds_and_further_sizes(workshop, tmp_path, renderer):
    args = ['synth', '--models', str(workshop / 'models'), '--out', str(tmp_path / 'o'), '--images', '2']
    assert main([*args, '--size', '96x64', '--distance', '0.3', '0.5', '--preview', '2']) == 0
    sheet = cv2.imread(str(tmp_path / 'o' / 'preview.png'))
    assert sheet.shape == (320, 960, 3)
    scene = BopDataset.open(tmp_path / 'o').scene('train', 0)
    assert scene.image(0).shape == (64, 96, 3)
    # the default camera, scaled about the image's corner at -0.5
    k = scene.camera(0, (96, 64)).matrix
    assert k[0, 0] == pytest.approx(572.4114 * 96 / 640)
    assert k[0, 2] == pytest.approx((325.2611 + 0.5) * 96 / 640 - 0.5)


def test_distractor_folders_and_a_camera_file_are_used(workshop, tmp_path, renderer):
    folder = tmp_path / 'clutter'
    folder.mkdir()
    trimesh.creation.icosphere(2, 40.0).export(folder / 'ball_in_mm.stl')
    camera = tmp_path / 'camera.json'
    camera.write_text(json.dumps({'fx': 100, 'fy': 101, 'cx': 60, 'cy': 40, 'width': 128, 'height': 96}))
    assert synth(workshop, tmp_path / 'o', '--distractors', folder, '--camera', camera, images=2) == 0
    scene = BopDataset.open(tmp_path / 'o').scene('train', 0)
    np.testing.assert_allclose(scene.camera(0, (128, 96)).matrix, [[100, 0, 60], [0, 101, 40], [0, 0, 1]])


def test_some_objects_of_a_folder(workshop, tmp_path, renderer, capsys):
    assert synth(workshop, tmp_path / 'o', '--objects', 'wedge', images=3) == 0
    scene = BopDataset.open(tmp_path / 'o').scene('train', 0)
    (wedge,) = [m for m in load_objects(workshop / 'models') if m.name == 'wedge']
    shown = {item.obj_id for image in scene.image_ids for item in scene.annotations(image)}
    assert shown == {wedge.obj_id}
    assert [model.name for model in load_objects(tmp_path / 'o' / 'models')] == ['wedge']
    assert synth(workshop, tmp_path / 'p', '--objects', 'wedge', 'mug') == 2
    assert '--objects mug: the folder has brick, wedge' in capsys.readouterr().err
    assert not (tmp_path / 'p').exists()


# --- mistakes: one line, exit code 2, nothing half-written ---


def refused(capsys, out, code, message):
    assert code == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1], error
    assert 'Traceback' not in '\n'.join(error)
    assert not (Path(out) / 'train').exists()


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (['--size', '640'], '--size 640: expected WIDTHxHEIGHT'),
        (['--size', '99999x10'], 'each side must be 16..8192 px'),
        (['--images', '0'], '--images and --workers must be at least 1'),
        (['--workers', '0'], '--images and --workers must be at least 1'),
        (['--distance', '2', '1'], '--distance 2 1: expected'),
        (['--backgrounds', 'EMPTY'], 'no background image'),
        (['--backgrounds', 'nowhere'], 'nowhere: backgrounds folder does not exist'),
        (['--distractors', 'EMPTY'], 'in this distractors folder'),
        (['--distractors', 'nowhere'], 'nowhere: distractors folder does not exist'),
        (['--models', 'EMPTY'], 'EMPTY'),
        (['--camera', 'nowhere.json'], 'nowhere.json: not a BOP camera.json'),
        (['--config', 'nowhere.yaml'], 'nowhere.yaml: cannot be read'),
    ],
)
def test_wrong_arguments(workshop, tmp_path, monkeypatch, capsys, extra, message):
    monkeypatch.chdir(tmp_path)
    Path('EMPTY').mkdir()
    refused(capsys, tmp_path / 'out', synth(workshop, tmp_path / 'out', *extra), message)


@pytest.mark.parametrize(
    ('kind', 'message'),
    [('no faces', 'no faces'), ('nan', 'NaN'), ('mug of 100 m', 'is it in millimetres?'), ('text', 'not a readable')],
)
def test_meshes_that_cannot_be_used(workshop, tmp_path, capsys, kind, message):
    models = tmp_path / 'models'
    models.mkdir()
    mesh = trimesh.creation.box((0.1, 0.1, 0.1))
    if kind == 'no faces':
        trimesh.PointCloud(mesh.vertices).export(models / 'mug.ply')
    elif kind == 'text':
        (models / 'mug.ply').write_text('hello')
    elif kind == 'nan':
        lines = mesh.export(file_type='obj').replace('v ', 'v nan ', 1)
        first = next(line for line in lines.splitlines() if line.startswith('v nan'))
        (models / 'mug.obj').write_text(lines.replace(first, 'v nan 0 0', 1))
    else:
        mesh.apply_scale(1000.0)
        mesh.export(models / 'mug.ply')
    code = synth(workshop, tmp_path / 'out', '--models', models)
    refused(capsys, tmp_path / 'out', code, message)


def test_a_broken_background_is_named(workshop, tmp_path, capsys):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'broken.jpg').write_bytes(b'no image')
    code = synth(workshop, tmp_path / 'out', '--backgrounds', tmp_path / 'photos')
    refused(capsys, tmp_path / 'out', code, 'broken.jpg: not a readable image')
    assert not (tmp_path / 'out').exists()


def test_an_unknown_setting_names_the_nearest(workshop, tmp_path, capsys):
    path = tmp_path / 'r.yaml'
    path.write_text('scene: {target: [1, 2]}')
    code = synth(workshop, tmp_path / 'out', '--config', path)
    refused(capsys, tmp_path / 'out', code, "unknown setting 'scene.target'; did you mean 'scene.targets'")


def test_a_set_made_otherwise_is_not_mixed_with(workshop, tmp_path, capsys, renderer):
    out = tmp_path / 'out'
    assert synth(workshop, out, images=1) == 0
    before = content(out)
    for extra, what in ((['--seed', 9], 'another seed'), (['--distance', 0.3, 0.4], 'another recipe')):
        assert synth(workshop, out, *extra, images=1) == 2
        assert what in capsys.readouterr().err
    assert content(out) == before


@pytest.fixture
def clutter(tmp_path):
    """A model with a texture, a distractor with colours and a photo, each a file to repaint."""
    from PIL import Image

    for name in ('models', 'things', 'photos'):
        (tmp_path / name).mkdir()
    lines = ['mtllib skin.mtl', *(f'v {x} {y} 0' for x, y in ((0, 0), (0.1, 0), (0.1, 0.08), (0, 0.08)))]
    lines += ['vt 0 0', 'vt 1 0', 'vt 1 1', 'vt 0 1', 'usemtl skin', 'f 1/1 2/2 3/3', 'f 1/1 3/3 4/4']
    (tmp_path / 'models' / 'card.obj').write_text('\n'.join(lines))
    (tmp_path / 'models' / 'skin.mtl').write_text('newmtl skin\nKd 1 1 1\nmap_Kd skin.png\n')
    ball = trimesh.creation.icosphere(1, 0.04)
    ball.visual.vertex_colors = np.tile([200, 40, 40, 255], (len(ball.vertices), 1))
    ball.export(tmp_path / 'things' / 'ball.ply')
    for path in ('models/skin.png', 'photos/a.png'):
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / path)
    return tmp_path


def job_of(clutter, out):
    """The job of `kd6d synth` with the folders of `clutter`."""
    from kd6d_ros.cli.main import build_parser
    from kd6d_ros.cli.synth import make_job

    args = ['synth', '--models', clutter / 'models', '--distractors', clutter / 'things', '--backgrounds',
            clutter / 'photos', '--out', out, '--images', 1]  # fmt: skip
    return make_job(build_parser('synth').parse_args([str(item) for item in args]))


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'what'),
    [
        ('models/skin.png', None, None, 'another colour, texture or normal of a mesh'),
        ('models/skin.mtl', b'map_Kd skin.png', b'Kd 0.1 0.9 0.1', 'another colour, texture or normal of a mesh'),
        ('things/ball.ply', bytes([200, 40, 40, 255]), bytes([40, 200, 40, 255]), 'another colour, texture or normal'),
        ('photos/a.png', None, None, 'another content of a background'),
        ('models/card.obj', b'v 0.1 0 0', b'v 0.12 0 0', 'another shape of a mesh'),
    ],
)
def test_other_pictures_or_colours_are_another_set(clutter, tmp_path, file, old, new, what):
    from PIL import Image

    from kd6d_ros.data.synth import _check_out

    out = tmp_path / 'out'
    _check_out(job_of(clutter, out))
    _check_out(job_of(clutter, out))
    path = clutter / file
    if old is None:
        Image.fromarray(np.full((16, 16, 3), 91, np.uint8)).save(path)
    else:
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(ConfigError, match=f'holds images made with {what}.*: choose another --out'):
        _check_out(job_of(clutter, out))


def test_a_copy_of_the_folders_and_a_set_of_an_earlier_version_resume(clutter, tmp_path):
    import shutil

    from kd6d_ros.data.synth import _check_out

    out = tmp_path / 'out'
    _check_out(job_of(clutter, out))
    copy = tmp_path / 'copy'
    for name in ('models', 'things', 'photos'):
        shutil.copytree(clutter / name, copy / name, copy_function=shutil.copyfile)
    _check_out(job_of(copy, out))
    record = json.loads((out / 'synth.json').read_text())
    for key in ('looks_sha256', 'backgrounds_sha256'):
        del record[key]
    (out / 'synth.json').write_text(json.dumps(record))
    _check_out(job_of(clutter, out))


def test_a_foreign_split_is_not_touched(workshop, tmp_path, capsys):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'precious.txt').write_text('mine')
    assert synth(workshop, tmp_path) == 2
    assert 'did not make' in capsys.readouterr().err
    assert content(tmp_path) == {'train/precious.txt': b'mine'}


def test_a_damaged_memory_is_named(workshop, tmp_path, capsys):
    for text in ('{', '[]'):
        (tmp_path / 'synth.json').write_text(text)
        assert synth(workshop, tmp_path) == 2
        assert 'synth.json: damaged' in capsys.readouterr().err


@pytest.mark.parametrize('workers', [1, 2])
def test_without_egl_one_line_says_what_to_install(workshop, tmp_path, capsys, monkeypatch, workers):
    import moderngl

    def fail(**_):
        raise RuntimeError('eglInitialize failed')

    monkeypatch.setattr(moderngl, 'create_context', fail)
    code = synth(workshop, tmp_path / 'out', '--workers', workers)
    assert code == 2
    assert 'apt install libegl1' in capsys.readouterr().err.splitlines()[-1]
