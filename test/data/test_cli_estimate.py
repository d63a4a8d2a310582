"""``kd6d estimate`` from end to end on a dataset made here, with an engine that answers known poses."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from kd6d_ros.cli.main import main
from kd6d_ros.data.bop import BopDataset
from kd6d_ros.data.bop_run import DatasetRun, RunOptions
from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord
from kd6d_ros.errors import ConfigError, DatasetError
from kd6d_ros.evaluation.results_csv import read_results
from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec, LevelSpec, NetworkSpec
from kd6d_ros.inference.engines.fake import FakeEngine, coordinate_image
from kd6d_ros.inference.outline_fit import OutlineFit
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import ObjectModel, RigidTransform

K = np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]])
CAMERA = make_camera(K, 640, 480)
IMAGES = (3, 17, 20)


def corners(x, y, z):
    return np.array([[i * x, j * y, k * z] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) / 2


MUG = ObjectModel('mug', 1, 0.17, corners(0.1, 0.08, 0.12))
BRICK = ObjectModel('brick', 7, 0.15, corners(0.12, 0.08, 0.04))


def turned(angles, place):
    return RigidTransform(cv2.Rodrigues(np.array(angles, dtype=float))[0], place)


POSES = {1: turned([0.4, -0.3, 0.2], [-0.12, 0.03, 0.8]), 7: turned([1.0, 0.2, -0.5], [0.15, -0.05, 0.9])}


def box_of(model):
    pixels = project(CAMERA, POSES[model.obj_id].apply(model.keypoints))
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def mask_of(model):
    mask = np.zeros((480, 640), np.uint8)
    x0, y0, x1, y1 = np.rint(box_of(model)).astype(int)
    mask[y0:y1, x0:x1] = 1
    return mask


@pytest.fixture
def bundle():
    levels = tuple(LevelSpec(stride, 4.0 * stride) for stride in (8, 16, 32))
    network = NetworkSpec(128, 1.5, (640, 480), 256, levels, parameters=1000, architecture='fake')
    return Bundle('fake', (MUG, BRICK), network, DecodeSpec(0.1, 10, 1.0))


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / 'set'
    writer = BopSceneWriter(root / 'test' / '000002', quality=None)
    instances = tuple(
        InstanceRecord(model.obj_id, POSES[model.obj_id], mask_of(model), mask_of(model)) for model in (MUG, BRICK)
    )
    for ident in IMAGES:
        writer.write(ImageRecord(ident, CAMERA, coordinate_image(CAMERA), None, instances))
    writer.finalise(IMAGES)
    rows = [{'scene_id': 2, 'im_id': i, 'obj_id': o, 'inst_count': 1} for i in IMAGES for o in (1, 7, 30)]
    (root / 'test_targets_bop19.json').write_text(json.dumps(rows))
    return root


@pytest.fixture
def detections(tmp_path):
    """Image 17 lacks the brick; the object 30 is not the bundle's; a second, wrong box of the mug scores low."""
    rows = []
    for image in IMAGES:
        for model in (MUG, BRICK):
            if (image, model.name) == (17, 'brick'):
                continue
            x0, y0, x1, y1 = box_of(model)
            rows.append(row(image, model.obj_id, 0.9, [x0, y0, x1 - x0, y1 - y0]))
        rows += [row(image, 1, 0.05, [5.0, 5.0, 60.0, 60.0]), row(image, 30, 0.99, [5.0, 5.0, 60.0, 60.0])]
    path = tmp_path / 'detections.json'
    path.write_text(json.dumps(rows))
    return path


def row(image, obj, score, box):
    return {'scene_id': 2, 'image_id': image, 'category_id': obj, 'score': score, 'bbox': box}


@pytest.fixture
def patched(monkeypatch, bundle, tmp_path):
    """The command with the bundle and engine of this test; returns the engine."""
    engine = FakeEngine(bundle, CAMERA, [('mug', POSES[1]), ('brick', POSES[7])])
    monkeypatch.setattr('kd6d_ros.inference.locate.find_bundle', lambda name: tmp_path)
    monkeypatch.setattr('kd6d_ros.inference.bundle.load_bundle', lambda folder: bundle)
    monkeypatch.setattr('kd6d_ros.inference.engines.select.make_engine', lambda *arguments: engine)
    return engine


def assert_true_poses(path, expected):
    found = read_results(path)
    assert sorted((item.image_id, item.obj_id) for item in found) == expected
    for item in found:
        truth = POSES[item.obj_id]
        assert np.linalg.norm(item.cam_from_obj.translation - truth.translation) < 0.01
        assert np.abs(item.cam_from_obj.rotation - truth.rotation).max() < 0.05
        assert item.scene_id == 2
        assert item.seconds > 0


def test_with_detections(patched, dataset, detections, tmp_path, capsys):
    out, report = tmp_path / 'results.csv', tmp_path / 'report.json'
    code = main(
        ['estimate', '--bundle', 'fake', '--dataset', str(dataset), '--detections', str(detections),
         '--out', str(out), '--json', str(report), '--overlays', str(tmp_path / 'pictures'),
         '--overlay-count', '2']
    )  # fmt: skip
    assert code == 0
    assert_true_poses(out, [(3, 1), (3, 7), (17, 1), (20, 1), (20, 7)])
    record = json.loads(report.read_text())
    assert (record['images'], record['targets'], record['poses']) == (3, 6, 5)
    assert (record['mode'], record['targets_of_other_objects']) == ('detections', 3)
    assert record['targets_without_detection'] == 1
    assert record['detections_used'] == 8
    assert record['ms_per_image_p50'] > 0
    assert sorted(path.name for path in (tmp_path / 'pictures').iterdir()) == ['000002_000003.jpg', '000002_000020.jpg']
    assert 'image 3/3' in capsys.readouterr().err


def test_least_detection_score(patched, dataset, detections, tmp_path, bundle):
    options = RunOptions(dataset, detections=detections, min_detection_score=0.5, limit=1)
    work = DatasetRun(bundle, options)
    assert len(work.run(patched)) == 2
    assert work.summary()['detections_used'] == 2
    assert work.summary()['images'] == 1


def test_whole_frames(patched, dataset, tmp_path):
    out = tmp_path / 'found.csv'
    assert main(['estimate', '--bundle', 'fake', '--dataset', str(dataset), '--out', str(out)]) == 0
    assert_true_poses(out, [(image, obj) for image in IMAGES for obj in (1, 7)])


def test_poses_of_objects_that_are_not_there_are_counted(patched, dataset, tmp_path):
    """The engine sees both objects in every image; in two of the three the ground truth has no brick."""
    path = dataset / 'test' / '000002' / 'scene_gt.json'
    truth = json.loads(path.read_text())
    info = dataset / 'test' / '000002' / 'scene_gt_info.json'
    seen = json.loads(info.read_text())
    for image in ('3', '20'):
        keep = [place for place, item in enumerate(truth[image]) if item['obj_id'] != 7]
        truth[image], seen[image] = [truth[image][i] for i in keep], [seen[image][i] for i in keep]
    path.write_text(json.dumps(truth))
    info.write_text(json.dumps(seen))
    rows = [{'scene_id': 2, 'im_id': image, 'obj_id': 1, 'inst_count': 1} for image in IMAGES]
    (dataset / 'test_targets_bop19.json').write_text(json.dumps(rows))
    report = tmp_path / 'report.json'
    command = ['estimate', '--bundle', 'fake', '--dataset', str(dataset), '--out', str(tmp_path / 'found.csv')]
    assert main([*command, '--json', str(report)]) == 0
    record = json.loads(report.read_text())
    assert (record['objects_not_in_the_image'], record['poses_of_objects_not_in_the_image']) == (2, 2)
    assert record['poses'] == 3


def test_an_image_without_a_known_target_counts_for_nothing(patched, dataset, bundle):
    """Image 17 asks for another bundle's object only; the refusal of image 3 must not be counted again."""
    rows = [{'scene_id': 2, 'im_id': i, 'obj_id': 30 if i == 17 else 1, 'inst_count': 1} for i in (3, 17)]
    (dataset / 'test_targets_bop19.json').write_text(json.dumps(rows))
    work = DatasetRun(bundle, RunOptions(dataset, settings=EstimatorSettings(max_distance=0.1)))
    assert work.run(patched) == []
    record = work.summary()
    assert record['images'] == 2
    once = record['rejections']
    assert once
    work = DatasetRun(bundle, RunOptions(dataset, settings=EstimatorSettings(max_distance=0.1), limit=1))
    work.run(patched)
    assert work.summary()['rejections'] == once


def test_images_are_independent(patched, dataset, tmp_path):
    """Nothing is found from memory: once the object is gone, it is gone."""
    everything, calls = patched.scene, []
    run = patched.run

    def first_image_only(image, classes):
        if image.shape[1:3] == (480, 640):
            calls.append(1)
        patched.scene = everything if len(calls) <= 1 else []
        return run(image, classes)

    patched.run = first_image_only
    out = tmp_path / 'found.csv'
    assert main(['estimate', '--bundle', 'fake', '--dataset', str(dataset), '--out', str(out)]) == 0
    assert {item.image_id for item in read_results(out)} == {3}
    assert len(calls) == 3


def test_mistakes_end_in_one_line(patched, dataset, tmp_path, capsys):
    usual = ['estimate', '--bundle', 'fake', '--dataset', str(dataset), '--out', str(tmp_path / 'a.csv')]
    for arguments, message in [
        ([*usual, '--split', 'val'], "no split 'val' with scenes; it has test"),
        ([*usual, '--targets', str(tmp_path / 'no.json')], 'no.json: no such file (a BOP target list)'),
        ([*usual, '--detections', str(dataset / 'test_targets_bop19.json')], '[0].image_id: is missing'),
        ([*usual, '--min-detection-score', '7'], '--min-detection-score 7.0: expected 0 to 1'),
        ([*usual, '--limit', '0'], '--limit at least 1'),
        ([*usual[:-1], str(tmp_path / 'none' / 'a.csv')], 'expected a file name in a folder that exists'),
        ([*usual[:4], str(tmp_path / 'none'), *usual[5:]], 'none: no such folder'),
    ]:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count('\n') == 1
        assert 'Traceback' not in error
    targets = tmp_path / 'targets.json'
    targets.write_text(json.dumps([{'scene_id': 2, 'im_id': 21, 'obj_id': 1}]))
    assert main([*usual, '--targets', str(targets)]) == 2
    assert 'image 21 has no file' in capsys.readouterr().err
    assert not (tmp_path / 'a.csv').exists()


def test_bundle_that_does_not_fit(dataset, bundle):
    from dataclasses import replace

    other = replace(bundle, objects=(replace(MUG, obj_id=50),))
    with pytest.raises(DatasetError, match=r"has no target of bundle 'fake' \(object ids 50\)"):
        DatasetRun(other, RunOptions(dataset))
    blind = replace(bundle, network=replace(bundle.network, frame_size=None))
    with pytest.raises(ConfigError, match=r'cannot search a whole image; give boxes with --detections'):
        DatasetRun(blind, RunOptions(dataset))


def test_broken_image_leaves_no_results(patched, dataset, tmp_path, capsys):
    path = BopDataset.open(dataset).scene('test', 2).image_path(17)
    path.write_bytes(path.read_bytes()[:-30])
    out = tmp_path / 'a.csv'
    assert main(['estimate', '--bundle', 'fake', '--dataset', str(dataset), '--out', str(out)]) == 2
    assert 'cut off' in capsys.readouterr().err
    assert list(tmp_path.glob('*a.csv*')) == []


def write_sizes(dataset, mug_mm):
    """models/models_info.json of the dataset: a mug of that diameter and the brick."""
    half = (1000 * MUG.keypoints.max(axis=0)).tolist()
    entry = {f'min_{axis}': -value for axis, value in zip('xyz', half, strict=True)}
    entry.update({f'size_{axis}': 2 * value for axis, value in zip('xyz', half, strict=True)})
    (dataset / 'models').mkdir()
    sizes = {'1': {'diameter': mug_mm, **entry}, '7': {'diameter': 150.0, **entry}}
    (dataset / 'models' / 'models_info.json').write_text(json.dumps(sizes))


def test_another_object_under_the_same_id_is_refused(bundle, dataset):
    write_sizes(dataset, 102.1)
    with pytest.raises(
        ConfigError, match=r"object 1 of bundle 'fake' \(mug\) is 170\.0 mm across, that of .* 102\.1 mm"
    ):
        DatasetRun(bundle, RunOptions(dataset))


def test_another_measurement_of_the_same_object_is_taken(bundle, dataset):
    write_sizes(dataset, 165.0)
    DatasetRun(bundle, RunOptions(dataset))


def estimate_with(dataset, detections, tmp_path, *settings):
    chosen = [word for text in settings for word in ('--set', text)]
    where = ['--dataset', str(dataset), '--detections', str(detections), '--out', str(tmp_path / 'results.csv')]
    return main(['estimate', '--bundle', 'fake', *where, *chosen])


def test_settings_of_the_estimator_reach_it(patched, dataset, detections, tmp_path):
    assert estimate_with(dataset, detections, tmp_path, 'max_distance=0.85', 'min_score=1e-1') == 0
    assert {item.obj_id for item in read_results(tmp_path / 'results.csv')} == {1}  # the brick lies at 0.9 m


def test_the_bundle_s_score_gates_the_run_unless_set_says_one(
    monkeypatch, patched, bundle, dataset, detections, tmp_path
):
    # The fake engine scores a perfect pose around 0.9.
    strict = replace(bundle, decode=replace(bundle.decode, min_score=0.95))
    monkeypatch.setattr('kd6d_ros.inference.bundle.load_bundle', lambda folder: strict)
    for settings, objects in (((), set()), (('min_score=0.5',), {1, 7}), (('min_score=-1',), set())):
        assert estimate_with(dataset, detections, tmp_path, *settings) == 0
        assert {item.obj_id for item in read_results(tmp_path / 'results.csv')} == objects


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ('min_scor=0', 'min_score'),
        ('min_score', 'expected NAME=VALUE'),
        ('min_score=much', 'a number'),
        ('min_score=2', '-1 .. 1'),
        ('track=true', 'follows from'),
    ],
)
def test_a_wrong_setting_is_one_line(patched, dataset, detections, tmp_path, capsys, setting, message):
    assert estimate_with(dataset, detections, tmp_path, setting) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert '\n' not in error
    assert not (tmp_path / 'results.csv').exists()


def test_outlines_need_meshes(patched, dataset, detections, tmp_path, capsys):
    assert estimate_with(dataset, detections, tmp_path, 'fit_outline=true') == 2
    assert 'mesh' in capsys.readouterr().err


BOX_PLY = """ply
format ascii 1.0
element vertex 8
property float x
property float y
property float z
element face 12
property list uchar int vertex_indices
end_header
"""


def test_outlines_of_the_dataset_s_meshes(monkeypatch, patched, dataset, detections, tmp_path):
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = ''.join(f'3 {a} {b} {c}\n3 {a} {c} {d}\n' for a, b, c, d in quads)
    (dataset / 'models').mkdir(exist_ok=True)
    for model in (MUG, BRICK):
        rows = ''.join(f'{x} {y} {z}\n' for x, y, z in 1000 * model.keypoints)
        (dataset / 'models' / f'obj_{model.obj_id:06d}.ply').write_text(BOX_PLY + rows + faces)
    sizes = {MUG.obj_id: 0.1 * 0.08, BRICK.obj_id: 0.12 * 0.08}
    seen = set()

    def nearer(outline, image, camera, pose, *rest):
        above = outline.seen(np.eye(3), np.array([0, 0, 5.0]), K, (640, 480), 50).points
        seen.add(round(float(np.prod(np.ptp(above[:, :2], axis=0))), 4))
        return OutlineFit(RigidTransform(pose.rotation, pose.translation - [0, 0, 0.05]), 0.9)

    monkeypatch.setattr('kd6d_ros.inference.outlines.fit_outline', nearer)
    assert estimate_with(dataset, detections, tmp_path, 'fit_outline=true') == 0
    results = read_results(tmp_path / 'results.csv')
    assert {item.obj_id for item in results} == {1, 7}
    for item in results:
        truth = POSES[item.obj_id]
        assert np.linalg.norm(item.cam_from_obj.translation - truth.translation + [0, 0, 0.05]) < 0.01
    assert seen == {round(value, 4) for value in sizes.values()}
