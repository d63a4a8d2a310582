"""``kd6d predict`` on photos made here with an engine that answers known poses, and every camera file it takes."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from kd6d_ros.cli.main import main
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec, LevelSpec, NetworkSpec
from kd6d_ros.inference.camera_file import read_camera
from kd6d_ros.inference.engines.fake import FakeEngine, coordinate_image
from kd6d_ros.types import ObjectModel, RigidTransform

K = np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]])
CAMERA = make_camera(K, 640, 480)
CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.04, 0.04) for z in (-0.06, 0.06)])
MUG = ObjectModel('mug', 1, 0.17, CORNERS)
POSE = RigidTransform(cv2.Rodrigues(np.array([0.4, -0.3, 0.2]))[0], [-0.12, 0.03, 0.8])
BOP = {'fx': 572.0, 'fy': 573.0, 'cx': 325.0, 'cy': 242.0, 'width': 640, 'height': 480, 'depth_scale': 1.0}
CALIBRATED = """image_width: 640
image_height: 480
camera_name: wrist
camera_matrix: {rows: 3, cols: 3, data: [572.0, 0.0, 325.0, 0.0, 573.0, 242.0, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0.001, 0.002, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}
projection_matrix: {rows: 3, cols: 4, data: [600.0, 0.0, 320.0, 0.0, 0.0, 600.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]}
"""
ECHOED = """header:
  stamp: {sec: 1, nanosec: 2}
  frame_id: optical
height: 480
width: 640
distortion_model: equidistant
d: [0.1, 0.01, 0.0, 0.0]
k: [572.0, 0.0, 325.0, 0.0, 573.0, 242.0, 0.0, 0.0, 1.0]
p: [600.0, 0.0, 320.0, 0.0, 0.0, 600.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
binning_x: 0
---
"""


def network(frame_size=(640, 480)):
    levels = tuple(LevelSpec(stride, 4.0 * stride) for stride in (8, 16, 32))
    return NetworkSpec(128, 1.5, frame_size, 256, levels, parameters=1000, architecture='fake')


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """The command with a bundle and an engine of this test."""
    bundle = Bundle('fake', (MUG,), network(), DecodeSpec(0.1, 10, 1.0))
    engine = FakeEngine(bundle, CAMERA, [('mug', POSE)])
    monkeypatch.setattr('kd6d_ros.inference.locate.find_bundle', lambda name: tmp_path)
    monkeypatch.setattr('kd6d_ros.inference.bundle.load_bundle', lambda folder: bundle)
    monkeypatch.setattr('kd6d_ros.inference.engines.select.make_engine', lambda *arguments: engine)
    return engine


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in ('b.png', 'a.png', 'c.jpg'):
        cv2.imwrite(str(folder / name), coordinate_image(CAMERA)[..., ::-1])
    (folder / 'notes.txt').write_text('no image')
    return folder


@pytest.fixture
def camera_json(tmp_path):
    path = tmp_path / 'camera.json'
    path.write_text(json.dumps(BOP))
    return path


def predict(photos, camera, out, *more):
    return main(
        ['predict', '--bundle', 'fake', '--images', str(photos), '--camera', str(camera), '--out', str(out), *more]
    )


def test_poses_and_pictures_of_every_photo(engine, photos, camera_json, tmp_path, capsys):
    out = tmp_path / 'out'
    assert predict(photos, camera_json, out, '--json', str(tmp_path / 'report.json')) == 0
    found = json.loads((out / 'poses.json').read_text())
    assert [item['file'] for item in found['images']] == ['a.png', 'b.png', 'c.jpg']
    for item in found['images'][:2]:
        (pose,) = item['poses']
        assert pose['object'] == 'mug'
        np.testing.assert_allclose(pose['position_m'], POSE.translation, atol=0.01)
        np.testing.assert_allclose(rotation_from_xyzw(pose['orientation_xyzw']), POSE.rotation, atol=0.05)
        assert pose['covariance'] is None
    assert sorted(path.name for path in (out / 'pictures').iterdir()) == ['a.jpg', 'b.jpg', 'c.jpg']
    drawn = cv2.imread(str(out / 'pictures' / 'a.jpg'))
    assert (np.abs(drawn.astype(int) - coordinate_image(CAMERA)[..., ::-1]).max(2) > 60).sum() > 200
    record = json.loads((tmp_path / 'report.json').read_text())
    assert record['images'] == 3
    assert record['poses'] == record['poses_by_object']['mug'] == sum(len(item['poses']) for item in found['images'])
    assert 'poses_by_object' in capsys.readouterr().out


def test_photos_without_the_object_have_no_poses_but_count(engine, photos, camera_json, tmp_path, capsys):
    engine.scene = []
    assert predict(photos, camera_json, tmp_path / 'out', '--limit', '2', '--json') == 0
    record = json.loads(capsys.readouterr().out)
    assert (record['images'], record['images_with_a_pose'], record['poses']) == (2, 0, 0)


def test_an_empty_working_folder_will_do(engine, photos, camera_json, tmp_path, monkeypatch):
    here = tmp_path / 'here'
    here.mkdir()
    monkeypatch.chdir(here)
    assert predict(photos, camera_json, '.', '--limit', '1') == 0
    assert sorted(path.name for path in here.iterdir()) == ['pictures', 'poses.json']


def test_every_kind_of_camera_file_is_read(tmp_path, camera_json):
    plain = read_camera(camera_json)
    assert (plain.width, plain.height, plain.model) == (640, 480, 'none')
    np.testing.assert_allclose(plain.matrix, K)
    path = tmp_path / 'camera.yaml'
    path.write_text(CALIBRATED)
    calibrated = read_camera(path)
    np.testing.assert_allclose(calibrated.matrix, K)
    assert calibrated.model == 'plumb_bob'
    np.testing.assert_allclose(calibrated.distortion[:4], [0.1, -0.2, 0.001, 0.002])
    for text in (ECHOED, ECHOED.removesuffix('---\n')):
        path.write_text(text)
        echoed = read_camera(path)
        assert echoed.model == 'equidistant'
        np.testing.assert_allclose(echoed.matrix, K)


@pytest.mark.parametrize(('content', 'said'), [
    ('{}', "'width' is missing; expected the YAML of camera_calibration"),
    ('width: 640\nheight: 480\nfx: 1.0', "'fy' is missing"),
    ('[1, 2]', 'the top level must be a mapping'),
    ('a: [', 'not valid YAML'),
    (json.dumps({**BOP, 'fx': 0.0}), 'focal'),
    (json.dumps({**BOP, 'fx': 'long'}), 'a matrix must hold numbers'),
    (json.dumps({**BOP, 'width': 640.5}), 'width must be a whole number'),
    (CALIBRATED.replace('plumb_bob', 'thin_prism'), 'unknown distortion model'),
    (CALIBRATED.replace('-0.2, 0.001, 0.002, 0.0', ''), 'coefficients'),
    (CALIBRATED.replace('572.0, 0.0, 325.0,', ''), 'camera'),
    (ECHOED.replace('d: [0.1', 'd: [.nan'), 'finite'),
    (f'width: 640\nheight: 480\nk: {list(range(100))}', 'at most 14 numbers'),
])  # fmt: skip
def test_a_file_that_is_no_camera_is_one_line(engine, photos, tmp_path, capsys, content, said):
    path = tmp_path / 'camera.yaml'
    path.write_text(content)
    assert predict(photos, path, tmp_path / 'out') == 2
    line = capsys.readouterr().err
    assert said in line
    assert str(path) in line
    assert line.count('\n') == 1
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--limit', '0'], '--limit must be at least 1'),
    (['--set', 'track=true'], 'track is off, as every photo stands alone'),
    (['--set', 'objects=[cup]'], 'cup'),
    (['--set', 'fit_outline=true'], 'carries no mesh'),
    (['--camera', 'missing.yaml'], 'missing.yaml: cannot be read'),
    (['--images', 'missing'], 'missing: no such folder or image'),
    (['--out', '.'], 'is there already'),
])  # fmt: skip
def test_what_cannot_be_done_is_one_line(engine, photos, camera_json, tmp_path, capsys, arguments, said):
    assert predict(photos, camera_json, tmp_path / 'out', *arguments) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_photos_that_do_not_fit_are_refused(engine, photos, camera_json, tmp_path, capsys):
    cv2.imwrite(str(photos / 'd.png'), np.zeros((20, 30, 3), np.uint8))
    assert predict(photos, camera_json, tmp_path / 'out') == 2
    assert 'd.png: has 30x20 px, the camera 640x480' in capsys.readouterr().err
    (photos / 'd.png').write_bytes((photos / 'a.png').read_bytes()[:100])
    assert predict(photos, camera_json, tmp_path / 'out') == 2
    assert 'd.png: the image is cut off' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ['camera.json', 'photos'], 'nothing half-written'
    (photos / 'd.png').unlink()
    cv2.imwrite(str(photos / 'a.jpg'), coordinate_image(CAMERA))
    assert predict(photos, camera_json, tmp_path / 'out') == 2
    assert 'two images are called a' in capsys.readouterr().err
    empty = tmp_path / 'empty'
    empty.mkdir()
    assert predict(empty, camera_json, tmp_path / 'out') == 2
    assert 'holds no images' in capsys.readouterr().err


def test_a_bundle_for_crops_only_is_refused(monkeypatch, engine, photos, camera_json, tmp_path, capsys):
    crops = Bundle('crops', (MUG,), network(None), DecodeSpec(0.1, 10, 1.0))
    monkeypatch.setattr('kd6d_ros.inference.bundle.load_bundle', lambda folder: crops)
    assert predict(photos, camera_json, tmp_path / 'out') == 2
    assert 'cannot search a whole image' in capsys.readouterr().err
