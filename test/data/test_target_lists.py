"""Lists of targets and boxes for a set that has ground truth only."""

import json
import shutil

import numpy as np
import pytest

from kd6d_ros.data.bop import BopDataset, read_detections, read_targets
from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord
from kd6d_ros.data.target_lists import main
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.decode import box_iou
from kd6d_ros.types import RigidTransform

POSE = RigidTransform(np.eye(3), [0, 0, 1.0])


def instance(obj_id, left, seen):
    """60x40 px at column `left`, of which the first `seen` columns are visible."""
    whole, visible = np.zeros((2, 120, 200), np.uint8)
    whole[30:70, left : left + 60] = 1
    visible[30:70, left : left + seen] = 1
    return InstanceRecord(obj_id, POSE, whole, visible)


@pytest.fixture
def dataset(tmp_path):
    camera = make_camera(np.array([[100.0, 0, 100], [0, 100, 60], [0, 0, 1]]), 200, 120)
    writer = BopSceneWriter(tmp_path / 'set' / 'train' / '000003', quality=None)
    scenes = ([(1, 10, 30), (1, 100, 54), (5, 20, 60)], [(5, 30, 5), (1, 40, 60)])
    for image, parts in enumerate(scenes):
        picture = np.zeros((120, 200, 3), np.uint8)
        writer.write(ImageRecord(image, camera, picture, None, tuple(instance(*part) for part in parts)))
    writer.finalise(range(len(scenes)))
    return tmp_path / 'set'


def test_the_best_seen_instance_of_each_object_is_a_target(dataset, capsys):
    assert main([str(dataset), '--seed', '4']) == 0
    assert capsys.readouterr().out == f'{dataset}: 3 targets\n'
    targets = read_targets(dataset / 'test_targets_bop19.json')
    assert [(item.image_id, item.obj_id, item.count) for item in targets] == [(0, 1, 1), (0, 5, 1), (1, 1, 1)]
    boxes = read_detections(dataset / 'detections.json')
    truths = {(item.obj_id, index): item.box_visible
              for index in (0, 1) for item in BopDataset.open(dataset).scene('train', 3).annotations(index)
              if item.visible_fraction > 0.6}  # fmt: skip
    moved = 0.0
    for (_, image), rows in boxes.items():
        for row in rows:
            overlap = box_iou(row.box, truths[row.obj_id, image])
            assert overlap >= 0.6
            moved += 1 - overlap
    assert moved > 0.1


def test_the_seed_moves_the_boxes(dataset):
    texts = []
    for seed in ('1', '1', '2'):
        assert main([str(dataset), '--seed', seed]) == 0
        texts.append((dataset / 'detections.json').read_text())
        for name in ('detections.json', 'test_targets_bop19.json'):
            (dataset / name).unlink()
    assert texts[0] == texts[1] != texts[2]


def test_mistakes_end_in_one_line(dataset, capsys, tmp_path):
    def fails(*arguments):
        assert main([str(item) for item in arguments]) == 2
        return capsys.readouterr().err.strip()

    assert "split 'train' shows no object at least 101% visible" in fails(dataset, '--min-visible', '1.01')
    assert not (dataset / 'detections.json').exists()
    assert "'test'" in fails(dataset, '--split', 'test')
    assert '\n' not in fails(tmp_path / 'nowhere')
    assert main([str(dataset)]) == 0
    capsys.readouterr()
    assert 'is there already; remove it' in fails(dataset)
    other = tmp_path / 'other'
    shutil.copytree(dataset, other, ignore=shutil.ignore_patterns('*.json'))
    scene = 'train/000003'
    for name in ('scene_gt.json', 'scene_camera.json'):
        (other / scene / name).write_text(json.dumps(json.loads((dataset / scene / name).read_text())))
    assert 'has no scene_gt_info.json' in fails(other)
