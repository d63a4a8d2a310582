"""The commands of the robot with a dense bundle: none of them knows the kind."""

import hashlib
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from painted_codes import NAME, mesh, painted_bundle, picture, surface

from kd6d_ros.cli.main import main
from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord
from kd6d_ros.evaluation.results_csv import read_results
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.types import RigidTransform

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
CAMERA = make_camera(np.array([[290.0, 0, 160.0], [0, 290.0, 120.0], [0, 0, 1]]), 320, 240)


def some_pose(rng):
    turn = cv2.Rodrigues(np.array([0.5, -0.7, 0.2]) + rng.normal(size=3) * 0.3)[0]
    return RigidTransform(turn, rng.uniform([-0.06, -0.04, 0.4], [0.06, 0.04, 0.6]))


def mask_of(pose):
    columns, rows = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    depth = surface(CAMERA, pose, np.stack([columns.ravel(), rows.ravel()], 1).astype(float))[1]
    return np.where(np.isfinite(depth), 255, 0).astype(np.uint8).reshape(CAMERA.height, CAMERA.width)


def write_split(root, split, count, seed, noise=0.0):
    """Painted boxes; the poses by image."""
    rng, poses = np.random.default_rng(seed), {}
    writer = BopSceneWriter(root / split / '000001', quality=None)
    for image_id in range(count):
        pose = poses[image_id] = some_pose(rng)
        mask, image = mask_of(pose), picture(CAMERA, pose)
        if noise:
            image = np.clip(image + rng.normal(size=image.shape) * noise, 0, 255).astype(np.uint8)
        writer.write(ImageRecord(image_id, CAMERA, image, None, (InstanceRecord(1, pose, mask, mask),)))
    writer.finalise()
    return poses


@pytest.fixture
def folder(tmp_path):
    painted_bundle(tmp_path / 'painted')
    return tmp_path / 'painted'


@pytest.mark.parametrize('boxes', [True, False], ids=['detections', 'search'])
def test_estimate_writes_the_true_poses(tmp_path, folder, boxes, capsys):
    poses = write_split(tmp_path / 'set', 'test', 4, seed=1)
    rows = [{'scene_id': 1, 'im_id': image, 'obj_id': 1, 'inst_count': 1} for image in poses]
    (tmp_path / 'set' / 'test_targets_bop19.json').write_text(json.dumps(rows))
    command = ['estimate', '--bundle', str(folder), '--dataset', str(tmp_path / 'set'), '--threads', '1']
    if boxes:
        found = []
        for image, pose in poses.items():
            ys, xs = np.nonzero(mask_of(pose))
            box = [float(xs.min()), float(ys.min()), float(np.ptp(xs)), float(np.ptp(ys))]
            found.append({'scene_id': 1, 'image_id': image, 'category_id': 1, 'score': 0.9, 'bbox': box})
        (tmp_path / 'boxes.json').write_text(json.dumps(found))
        command += ['--detections', str(tmp_path / 'boxes.json')]
    assert main([*command, '--out', str(tmp_path / 'results.csv')]) == 0
    results = read_results(tmp_path / 'results.csv')
    assert sorted(item.image_id for item in results) == sorted(poses)
    for item in results:
        assert np.linalg.norm(item.cam_from_obj.translation - poses[item.image_id].translation) < 5e-3
        assert item.score == pytest.approx(0.95, abs=1e-4)


def test_estimate_without_boxes_needs_a_bundle_that_searches(tmp_path, capsys):
    painted_bundle(tmp_path / 'blind', frame=None)
    write_split(tmp_path / 'set', 'test', 1, seed=1)
    rows = [{'scene_id': 1, 'im_id': 0, 'obj_id': 1, 'inst_count': 1}]
    (tmp_path / 'set' / 'test_targets_bop19.json').write_text(json.dumps(rows))
    command = ['estimate', '--bundle', str(tmp_path / 'blind'), '--dataset', str(tmp_path / 'set')]
    assert main([*command, '--out', str(tmp_path / 'results.csv')]) == 2
    assert "bundle 'painted_dense' cannot search a whole image; give boxes" in capsys.readouterr().err


def test_calibrate_gives_a_dense_bundle_its_covariance(tmp_path, folder, capsys):
    pytest.importorskip('scipy', reason="kd6d calibrate needs pip install 'kd6d_ros[train]'")
    for name, seed, count in (('fit', 3, 102), ('test', 4, 20)):
        write_split(tmp_path / name, 'train', count, seed, noise=0.8)
    sets = ['--dataset', str(tmp_path / 'fit'), '--test', str(tmp_path / 'test')]
    assert main(['calibrate', str(folder), *sets, '--threads', '1', '--json', str(tmp_path / 'facts.json')]) == 0
    bundle = load_bundle(folder)
    assert bundle.covariance['calibrated_on']['poses'] == 102
    assert len(bundle.books) == 1
    measured = json.loads((tmp_path / 'facts.json').read_text())['precisions']
    assert list(measured) == ['fp32']
    assert measured['fp32']['test']['without_covariance'] == 0
    # A precision that is named gets a record of its own, and the others keep theirs.
    shutil.copy(folder / 'model_fp32.onnx', folder / 'model_int8_cpu.onnx')
    manifest = folder / 'bundle.yaml'
    listed = manifest.read_text().replace(
        '  fp32: model_fp32.onnx', '  fp32: model_fp32.onnx\n  int8-cpu: model_int8_cpu.onnx'
    )
    digest = hashlib.sha256((folder / 'model_fp32.onnx').read_bytes()).hexdigest()
    manifest.write_text(listed.replace('files:\n', f'files:\n  model_int8_cpu.onnx: {digest}\n'))
    again = ['calibrate', str(folder), '--dataset', str(tmp_path / 'fit'), '--precision', 'int8-cpu', '--threads', '1']
    assert main(again) == 0
    both = load_bundle(folder).covariance
    assert both['precisions']['int8-cpu']['calibrated_on'] == {
        **bundle.covariance['calibrated_on'],
        'precision': 'int8-cpu',
    }
    assert {key: value for key, value in both.items() if key != 'precisions'} == bundle.covariance
    capsys.readouterr()
    assert main(['calibrate', str(folder), *sets[2:], '--precision', 'int8-cpu', 'fp32', '--threads', '1']) == 0
    assert re.findall(r'^(fp32|int8-cpu):$', capsys.readouterr().out, re.MULTILINE) == ['int8-cpu', 'fp32']
    capsys.readouterr()
    assert main(['info', str(folder)]) == 0
    assert 'covariance calibrated' in capsys.readouterr().out


@pytest.mark.slow
def test_bench_scores_a_dense_bundle_on_a_bag(tmp_path):
    pytest.importorskip('rosbags', reason='bags need pip install kd6d_ros[bench]')
    from kd6d_ros.benchmark.bag_writer import BagWriter
    from kd6d_ros.benchmark.records import TruthObject

    painted_bundle(tmp_path / 'painted', meshes={NAME: mesh()})
    turn = cv2.Rodrigues(np.array([0.5, -0.7, 0.2]))[0]
    with BagWriter(tmp_path / 'bag', 'png') as writer:
        for index in range(6):
            pose = RigidTransform(turn, np.array([0.005 * index, -0.02, 0.5]))
            stamp = 1_700_000_000_000_000_000 + index * 33_333_333
            writer.write_frame(stamp, 'optical', picture(CAMERA, pose), CAMERA, (TruthObject(NAME, pose, 1.0),))
    command = ['bench', '--bag', str(tmp_path / 'bag'), '--bundle', str(tmp_path / 'painted')]
    assert main([*command, '--out', str(tmp_path / 'out'), '--threads', '1', '--rounds', '1']) == 0
    (row,) = json.loads((tmp_path / 'out' / 'result.json').read_text())['rows']
    assert (row['images'], row['targets']) == (6, 6)
    assert row['recall_5cm_5deg'] == 1.0
    assert {'preprocess', 'inference', 'decode', 'pnp', 'total'} <= set(row['stages_ms'])
