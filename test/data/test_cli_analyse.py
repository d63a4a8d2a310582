"""``kd6d analyse`` from end to end on a data set made here, with an engine whose poses are wrong in known ways."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from kd6d_ros.cli.main import main
from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord
from kd6d_ros.data.error_analysis import mask_overlap
from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec, LevelSpec, NetworkSpec
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.engines.fake import FakeEngine, coordinate_image
from kd6d_ros.inference.outline_view import MaskMap
from kd6d_ros.types import ObjectModel, RigidTransform

CAMERA = make_camera(np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]]), 640, 480)
IMAGES = (3, 17, 20)
FACES = ((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4),
         (1, 5, 7), (1, 7, 3))  # fmt: skip


def cuboid(name, obj_id, x, y, z):
    corners = np.array([[i * x, j * y, k * z] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) / 2
    return ObjectModel(name, obj_id, float(np.linalg.norm([x, y, z])), corners)


MUG, BRICK = cuboid('mug', 1, 0.1, 0.08, 0.12), cuboid('brick', 7, 0.12, 0.08, 0.04)
POSES = {
    1: RigidTransform(cv2.Rodrigues(np.array([0.4, -0.3, 0.2]))[0], np.array([-0.12, 0.03, 0.8])),
    7: RigidTransform(cv2.Rodrigues(np.array([1.0, 0.2, -0.5]))[0], np.array([0.15, -0.05, 0.9])),
}


def box_of(model, pose=None):
    pixels = project(CAMERA, (pose or POSES[model.obj_id]).apply(model.keypoints))
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def mask_of(model):
    mask = np.zeros((480, 640), np.uint8)
    x0, y0, x1, y1 = np.rint(box_of(model)).astype(int)
    mask[y0:y1, x0:x1] = 1
    return mask


def write_models(folder):
    folder.mkdir(parents=True)
    infos = {}
    for model in (MUG, BRICK):
        low, size = 1e3 * model.keypoints.min(0), 1e3 * np.ptp(model.keypoints, axis=0)
        infos[str(model.obj_id)] = {
            'diameter': 1e3 * model.diameter, 'min_x': low[0], 'min_y': low[1], 'min_z': low[2],
            'size_x': size[0], 'size_y': size[1], 'size_z': size[2],
        }  # fmt: skip
        head = ['ply', 'format ascii 1.0', 'element vertex 8', *(f'property float {axis}' for axis in 'xyz'),
                f'element face {len(FACES)}', 'property list uchar int vertex_indices', 'end_header']  # fmt: skip
        rows = [' '.join(f'{1e3 * v:.6f}' for v in corner) for corner in model.keypoints]
        faces = ['3 ' + ' '.join(map(str, face)) for face in FACES]
        (folder / f'obj_{model.obj_id:06d}.ply').write_text('\n'.join([*head, *rows, *faces]) + '\n')
    (folder / 'models_info.json').write_text(json.dumps(infos))


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / 'set'
    write_models(root / 'models')
    writer = BopSceneWriter(root / 'test' / '000002', quality=None)
    instances = tuple(InstanceRecord(m.obj_id, POSES[m.obj_id], mask_of(m), mask_of(m)) for m in (MUG, BRICK))
    for ident in IMAGES:
        writer.write(ImageRecord(ident, CAMERA, coordinate_image(CAMERA), None, instances))
    writer.finalise(IMAGES)
    rows = [{'scene_id': 2, 'im_id': i, 'obj_id': o, 'inst_count': 1} for i in IMAGES for o in (1, 7, 30)]
    (root / 'test_targets_bop19.json').write_text(json.dumps(rows))
    found = []
    for image in IMAGES:
        for model in (MUG, BRICK):
            if (image, model.name) != (17, 'brick'):  # a detector that misses one
                x0, y0, x1, y1 = (float(v) for v in box_of(model))
                found.append({'scene_id': 2, 'image_id': image, 'category_id': model.obj_id, 'score': 0.9,
                              'bbox': [x0, y0, x1 - x0, y1 - y0]})  # fmt: skip
    (root / 'boxes.json').write_text(json.dumps(found))
    return root


@pytest.fixture
def command(monkeypatch, dataset, tmp_path):
    """A network that is right about the brick and sees the mug 15 % too far away."""
    levels = tuple(LevelSpec(stride, 4.0 * stride) for stride in (8, 16, 32))
    network = NetworkSpec(128, 1.5, (640, 480), 256, levels, parameters=1000, architecture='fake')
    bundle = Bundle('fake', (MUG, BRICK), network, DecodeSpec(0.1, 10, 1.0))
    farther = RigidTransform(POSES[1].rotation, 1.15 * POSES[1].translation)
    engine = FakeEngine(bundle, CAMERA, [('mug', farther), ('brick', POSES[7])])
    monkeypatch.setattr('kd6d_ros.inference.locate.find_bundle', lambda name: tmp_path)
    monkeypatch.setattr('kd6d_ros.inference.bundle.load_bundle', lambda folder: bundle)
    monkeypatch.setattr('kd6d_ros.inference.engines.select.make_engine', lambda *arguments: engine)
    return ['analyse', '--bundle', 'fake', '--dataset', str(dataset)]


def test_causes_boxes_and_pictures(command, dataset, tmp_path, capsys):
    report, out = tmp_path / 'errors.json', tmp_path / 'sheets'
    boxes = ['--detections', str(dataset / 'boxes.json')]
    assert main([*command, *boxes, '--out', str(out), '--json', str(report)]) == 0
    record = json.loads(report.read_text())
    everything, mug, brick = (record['groups'][name] for name in ('all', 'mug', 'brick'))
    assert [group['targets'] for group in (everything, mug, brick)] == [6, 3, 3]
    assert mug['recall'] == 0
    assert mug['causes']['distance'] == 1
    assert mug['recall_with_true'] == {'distance': 1, 'place': 0, 'position': 1, 'rotation': 0}
    assert brick['recall'] == pytest.approx(2 / 3)
    assert brick['causes']['no box'] == pytest.approx(1 / 3)
    assert brick['recall_with_box'] == {'given': pytest.approx(2 / 3), 'true, visible part': 1, 'true, whole object': 1}
    assert brick['median_corners'] < 0.01
    # 15 % farther: every corner is moved to the middle by 1 - 1 / 1.15 of its distance from it.
    assert 0.05 < mug['median_corners'] < 0.13
    assert mug['median_pose_corners'] == pytest.approx(mug['median_corners'], rel=0.1)
    assert list(record['sheets']) == ['distance']
    sheet = cv2.imread(str(out / 'distance.jpg'))
    assert sheet.shape == (240, 720, 3)
    printed = capsys.readouterr()
    assert 'causes: right 33.3 %, distance 50.0 %, no box 16.7 %' in printed.out
    assert 'boxes: true, whole object' in printed.err


def test_without_boxes_the_bundle_searches_itself(command, tmp_path):
    report = tmp_path / 'errors.json'
    assert main([*command, '--limit', '1', '--json', str(report)]) == 0
    group = json.loads(report.read_text())['groups']['all']
    assert group['targets'] == 2
    assert group['recall_with_box'] == {'searched': 0.5, 'true, visible part': 0.5, 'true, whole object': 0.5}
    assert group['causes']['no box'] == 0


def test_mistakes_end_in_one_line(command, dataset, capsys):
    for arguments, said in [
        (['--limit', '0'], '--pictures and --limit must be at least 1'),
        (['--pictures', '0'], '--pictures and --limit must be at least 1'),
        (['--split', 'val'], "no split 'val'"),
        (['--set', 'min_scor=1'], 'min_score'),
        (['--detections', 'no.json'], 'no.json: no such file'),
        (['--out', str(dataset / 'boxes.json')], 'boxes.json'),
    ]:
        assert main([*command, *arguments]) == 2
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count('\n') == 1
    (dataset / 'models' / 'models_info.json').unlink()
    assert main(command) == 2
    assert 'models_info.json' in capsys.readouterr().err


@pytest.mark.parametrize(('shift', 'overlap'), [(0, 1.0), (32, 1 / 3), (64, 0.0)])
def test_the_overlap_of_masks_is_measured_in_the_crop(shift, overlap):
    crop = Crop.square((100.0, 80.0), 128.0, 64)  # from 36.5, 16.5 on, half as large
    visible = np.zeros((200, 240), bool)
    visible[48:112, 68:132] = True
    logits = np.full((16, 16), -2.0)
    logits[4:12, 4:12] = 2.0
    logits = np.roll(logits, shift // 8, axis=1) if shift < 64 else np.where(logits > 0, -2.0, -3.0)
    assert mask_overlap(MaskMap(logits, crop), visible) == pytest.approx(overlap, abs=0.08)


def test_a_mask_of_nothing_overlaps_nothing():
    crop = Crop.square((100.0, 80.0), 128.0, 64)
    assert mask_overlap(MaskMap(np.full((16, 16), -1.0), crop), np.zeros((200, 240), bool)) == 0.0
