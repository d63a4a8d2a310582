"""Published poses with their errors, collected from a data set; and what `kd6d calibrate` refuses."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from kd6d_ros.cli.main import main
from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord
from kd6d_ros.data.pose_samples import collect_samples
from kd6d_ros.errors import DatasetError
from kd6d_ros.geometry.cameras import project
from kd6d_ros.inference.engines.fake import FakeEngine
from kd6d_ros.inference.evidence import FEATURES
from kd6d_ros.types import RigidTransform

TRUE = RigidTransform(cv2.Rodrigues(np.array([0.3, -0.2, 0.5]))[0], [0.04, -0.02, 0.6])


@pytest.fixture
def dataset(tmp_path, bundle, camera, image):
    """Three images of a mug, the first with its box in detections.json; the split is train."""
    corners = project(camera, TRUE.apply(bundle.object('mug').keypoints))
    mask = np.zeros((480, 640), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(corners.astype(np.float32)).round().astype(np.int32), 255)
    writer = BopSceneWriter(tmp_path / 'set' / 'train' / '000003')
    for number in range(3):
        writer.write(ImageRecord(number, camera, image, None, (InstanceRecord(1, TRUE, mask, mask),)))
    writer.finalise()
    low, high = corners.min(0), corners.max(0)
    box = {'scene_id': 3, 'image_id': 0, 'category_id': 1, 'score': 0.9, 'time': 0.1}
    (tmp_path / 'set' / 'boxes.json').write_text(json.dumps([{**box, 'bbox': [*low, *(high - low)]}]))
    return tmp_path / 'set'


def test_errors_are_those_of_the_published_poses(dataset, bundle, camera):
    turn, step = cv2.Rodrigues(np.array([0, 0, 0.02]))[0], np.array([0.002, 0, -0.004])
    off = RigidTransform(turn @ TRUE.rotation, TRUE.translation + step)
    samples = collect_samples(bundle, FakeEngine(bundle, camera, [('mug', off)]), dataset, 'train')
    assert len(samples) == 3
    for sample in samples:
        assert sample.name == 'mug'
        np.testing.assert_allclose(sample.error, [0.002, 0, -0.004, 0, 0, 0.02], atol=2e-3)
        assert 0.01 < sample.add < 0.1
        assert sample.visible == pytest.approx(1.0)
        assert sample.covariance is None
        assert sample.evidence.features.shape == (len(FEATURES),)


def test_a_file_of_boxes_and_a_limit(dataset, bundle, camera):
    engine = FakeEngine(bundle, camera, [('mug', TRUE)])
    assert len(collect_samples(bundle, engine, dataset, 'train', dataset / 'boxes.json')) == 1
    assert len(collect_samples(bundle, engine, dataset, 'train', limit=2)) == 2


def test_a_symmetric_object_is_compared_with_the_nearest_equivalent(dataset, bundle, camera):
    from dataclasses import replace

    brick = bundle.object('brick')
    turned = TRUE @ brick.symmetries.discrete[0]
    alone = replace(bundle, objects=(replace(brick, obj_id=1),))
    samples = collect_samples(alone, FakeEngine(alone, camera, [('brick', turned)]), dataset, 'train')
    assert all(np.abs(sample.error).max() < 2e-3 for sample in samples)


def test_a_set_on_which_nothing_is_published_is_named(dataset, bundle, camera):
    with pytest.raises(DatasetError, match='nothing was published on its 3 images'):
        collect_samples(bundle, FakeEngine(bundle, camera), dataset, 'train')
    with pytest.raises(DatasetError, match="no split 'test'"):
        collect_samples(bundle, FakeEngine(bundle, camera), dataset, 'test')


@pytest.mark.parametrize(('arguments', 'said'), [
    ([], 'nothing to do: give --dataset'),
    (['--dataset', 'a', '--test', 'b', 'a'], '--test a: is what the covariance is fitted to'),
    (['--dataset', 'nowhere'], 'nowhere: no such folder'),
    (['--test', 'nowhere'], 'nowhere: no such folder'),
    (['--dataset', 'a', '--limit', '0'], '--limit must be at least 1'),
    (['--test', 'a', '--precision', 'fp64'], "has no 'fp64' engine"),
])  # fmt: skip
def test_mistakes_end_in_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    from pathlib import Path

    models = Path(__file__).resolve().parents[2] / 'models'
    monkeypatch.chdir(tmp_path)
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
    before = (models / 'demo' / 'bundle.yaml').read_bytes()
    assert main(['calibrate', str(models / 'demo'), *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count('\n') == 1
    assert (models / 'demo' / 'bundle.yaml').read_bytes() == before
