"""`kd6d evaluate` from files to figures, and one clear line for every mistake."""

import json
import shutil

import cv2
import numpy as np
import pytest

from kd6d_ros.cli.main import main

IDENTITY = '1 0 0 0 1 0 0 0 1'
HALF_TURN = [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def write_ply(path, size):
    """A cube of `size` mm around the origin: its eight corners are what BOP measures."""
    corners = [f'{x} {y} {z}' for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    corners = [' '.join(str(float(c) * size / 2) for c in corner.split()) for corner in corners]
    head = 'ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n'
    face = 'element face 1\nproperty list uchar int vertex_indices\nend_header\n'
    path.write_text(head + face + '\n'.join(corners) + '\n3 0 1 2\n')


def truth(obj_id, x, y, z):
    return {'obj_id': obj_id, 'cam_R_m2c': [1, 0, 0, 0, 1, 0, 0, 0, 1], 'cam_t_m2c': [x, y, z]}


@pytest.fixture
def dataset(tmp_path):
    """Two images with a plain cube (object 1) and a symmetric one (object 2), 200 mm 'diameter'."""
    root = tmp_path / 'set'
    scene = root / 'test' / '000002'
    (scene / 'rgb').mkdir(parents=True)
    (root / 'models').mkdir()
    box = {f'{kind}_{axis}': value for kind, value in (('min', -50), ('size', 100)) for axis in 'xyz'}
    models = {'1': {'diameter': 200, **box}, '2': {'diameter': 200, **box, 'symmetries_discrete': [HALF_TURN]}}
    (root / 'models' / 'models_info.json').write_text(json.dumps(models))
    for obj_id in (1, 2):
        write_ply(root / 'models' / f'obj_{obj_id:06d}.ply', 100)
    camera = {'cam_K': [500, 0, 320, 0, 500, 240, 0, 0, 1], 'depth_scale': 1.0}
    gt, info = {}, {}
    for image, visible in ((3, 0.9), (7, 0.2)):
        cv2.imwrite(str(scene / 'rgb' / f'{image:06d}.png'), np.zeros((480, 640, 3), np.uint8))
        gt[str(image)] = [truth(1, 0, 0, 1000), truth(2, 100, 0, 800)]
        info[str(image)] = [
            {'visib_fract': visible, 'bbox_obj': [1, 1, 5, 5], 'bbox_visib': [1, 1, 5, 5],
             'px_count_all': 9, 'px_count_valid': 9, 'px_count_visib': 9}
        ] * 2  # fmt: skip
    (scene / 'scene_camera.json').write_text(json.dumps({'3': camera, '7': camera}))
    (scene / 'scene_gt.json').write_text(json.dumps(gt))
    (scene / 'scene_gt_info.json').write_text(json.dumps(info))
    targets = [
        {'scene_id': 2, 'im_id': image, 'obj_id': obj_id, 'inst_count': 1} for image in (3, 7) for obj_id in (1, 2)
    ]
    (root / 'targets.json').write_text(json.dumps(targets))
    return root


def run(root, *lines, extra=()):
    results = root / 'results.csv'
    results.write_text('scene_id,im_id,obj_id,score,R,t,time\n' + '\n'.join(lines) + '\n')
    arguments = ['--dataset', str(root), '--targets', str(root / 'targets.json'), '--results', str(results)]
    return main(['evaluate', *arguments, *extra])


PERFECT = (
    f'2,3,1,0.9,{IDENTITY},0 0 1000,0.2',
    '2,3,2,0.9,-1 0 0 0 -1 0 0 0 1,100 0 800,0.2',
    f'2,7,1,0.9,{IDENTITY},25 0 1000,0.4',
)


def test_figures_by_hand(dataset, capsys):
    # Exact, exact up to symmetry, 25 mm off (0.125 diameter; 25 * 500 / 950 = 13.2 px), missing.
    assert run(dataset, *PERFECT, extra=['--json', str(dataset / 'out.json')]) == 0
    record = json.loads((dataset / 'out.json').read_text())
    assert record['overall']['ar_mssd'] == pytest.approx((10 + 10 + 8 + 0) / 40)
    assert record['overall']['ar_mspd'] == pytest.approx((10 + 10 + 8 + 0) / 40)
    assert record['overall']['add_recall'] == pytest.approx(0.5)
    assert record['mean_add_recall'] == pytest.approx(0.5)
    assert (record['overall']['targets'], record['overall']['missing']) == (4, 1)
    assert record['by_object']['1']['ar_mssd'] == pytest.approx(0.9)
    assert record['by_object']['2']['median_rotation_rad'] == pytest.approx(0, abs=1e-9)
    assert record['by_visibility']['0-25 %']['ar_mssd'] == pytest.approx(0.4)
    assert record['by_visibility']['75-100 %']['ar_mssd'] == pytest.approx(1.0)
    assert record['by_visibility']['25-50 %']['ar_mssd'] is None
    assert record['seconds_per_image'] == pytest.approx(0.3)
    out = capsys.readouterr().out
    assert 'AR_MSSD 0.700   AR_MSPD 0.700   mean ADD(-S)-0.1d over objects 50.0 %' in out
    assert '1 of 4 targets have no estimate' in out


def test_two_workers_give_the_figures_of_one(dataset, capsys):
    records = []
    for workers in ('1', '2'):
        assert run(dataset, *PERFECT, extra=['--workers', workers, '--json', str(dataset / 'out.json')]) == 0
        records.append(json.loads((dataset / 'out.json').read_text()))
    assert records[0] == records[1]


def test_json_on_standard_output_stands_alone(dataset, capsys):
    assert run(dataset, *PERFECT, extra=['--bootstrap', '50', '--json']) == 0
    record = json.loads(capsys.readouterr().out)
    low, high = record['intervals']['ar_mssd']
    assert low <= record['overall']['ar_mssd'] <= high


def test_models_eval_is_preferred(dataset):
    shutil.copytree(dataset / 'models', dataset / 'models_eval')
    write_ply(dataset / 'models_eval' / 'obj_000001.ply', 50)
    assert run(dataset, *PERFECT, extra=['--json', str(dataset / 'out.json')]) == 0
    # The smaller cube's near face is at 975 mm: 25 * 500 / 975 px, and half of the median is the exact one.
    median = json.loads((dataset / 'out.json').read_text())['by_object']['1']['median_mspd']
    assert median == pytest.approx(25 * 500 / 975 / 2)


def mistakes():
    def drop(name):
        return lambda root: (root / name).unlink()

    def replace(name, text):
        return lambda root: (root / name).write_text(text)

    missing_target = '[{"scene_id": 2, "im_id": 3, "obj_id": 1, "inst_count": 2}]'
    unknown = '[{"scene_id": 2, "im_id": 3, "obj_id": 9, "inst_count": 1}]'
    yield drop('targets.json'), 'targets.json: no such file'
    yield replace('targets.json', '[]'), 'targets.json: the target list is empty'
    yield replace('targets.json', '[{]'), 'targets.json line 1: not valid JSON'
    yield replace('targets.json', missing_target), 'asks for 2 of object 1, the ground truth'
    yield replace('targets.json', unknown), 'models_info.json: has no object 9, which a target names'
    yield drop('models/models_info.json'), 'neither models_eval nor models has a models_info.json'
    yield drop('models/obj_000002.ply'), 'obj_000002.ply: cannot be read: No such file'
    yield replace('models/obj_000002.ply', 'ply\nend_header\n'), 'obj_000002.ply: PLY header has no format line'
    yield (lambda root: shutil.rmtree(root / 'test')), 'holds no scenes'


@pytest.mark.parametrize(('spoil', 'message'), list(mistakes()))
def test_a_broken_dataset_ends_in_one_line(dataset, capsys, spoil, message):
    spoil(dataset)
    assert run(dataset, *PERFECT, extra=['--json', str(dataset / 'out.json')]) == 2
    assert_one_line(capsys, message)
    assert not (dataset / 'out.json').exists()


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('2,3,1,0.9,1 0 0', 'results.csv line 2: expected 7 values'),
        (f'2,3,1,0.9,{IDENTITY},nan 0 1,0', 'results.csv line 2: score, R, t or time is NaN'),
        (f'2,3,8,0.9,{IDENTITY},0 0 1,0', 'results.csv line 2: unknown object 8; models_info.json has 1, 2'),
    ],
)
def test_broken_results_end_in_one_line(dataset, capsys, line, message):
    assert run(dataset, line) == 2
    assert_one_line(capsys, message)


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (['--split', 'val'], "no split 'val' with scenes; it has test"),
        (['--workers', '0'], '--workers 0: must be 1 to 256'),
        (['--bootstrap', '-1'], '--bootstrap must be within 0..100000'),
        (['--results', 'absent.csv'], 'absent.csv: cannot be read: No such file'),
        (['--dataset', 'absent'], 'absent: no such folder'),
    ],
)
def test_wrong_arguments_end_in_one_line(dataset, capsys, extra, message):
    assert run(dataset, *PERFECT, extra=extra) == 2
    assert_one_line(capsys, message)


def assert_one_line(capsys, message):
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count('\n') == 1
    assert 'Traceback' not in captured.err
    assert captured.out == ''


def test_the_ground_truth_of_lmo_scores_full_marks(tmp_path, shared_data):
    from kd6d_ros.data.bop import BopDataset, read_targets
    from kd6d_ros.evaluation.records import Estimate
    from kd6d_ros.evaluation.results_csv import write_results

    lmo = shared_data / 'lmo'
    scene = BopDataset.open(lmo).scene('test', 2)
    estimates = []
    for target in read_targets(lmo / 'test_targets_bop19.json'):
        found = [item for item in scene.annotations(target.image_id) if item.obj_id == target.obj_id]
        pose = found[0].cam_from_obj
        estimates.append(Estimate(2, target.image_id, target.obj_id, 1.0, pose))
    write_results(tmp_path / 'r.csv', estimates)
    out = tmp_path / 'out.json'
    arguments = ['--dataset', str(lmo), '--results', str(tmp_path / 'r.csv'), '--json', str(out)]
    assert main(['evaluate', *arguments]) == 0
    record = json.loads(out.read_text())
    assert record['overall']['targets'] == 717
    assert record['overall']['ar_mssd'] == record['overall']['ar_mspd'] == record['mean_add_recall'] == 1.0
    assert record['overall']['missing'] == 0


def test_two_files_are_compared_on_the_same_images(dataset, capsys):
    (dataset / 'other.csv').write_text('scene_id,im_id,obj_id,score,R,t,time\n' + '\n'.join(PERFECT[:1]) + '\n')
    against = ['--against', str(dataset / 'other.csv')]
    assert run(dataset, *PERFECT, extra=[*against, '--bootstrap', '50', '--json', str(dataset / 'out.json')]) == 0
    assert 'mean_add_recall minus that of --against: +25.00 [' in capsys.readouterr().out
    record = json.loads((dataset / 'out.json').read_text())
    assert record['against']['mean_add_recall']['value'] == pytest.approx(0.25)
    assert run(dataset, *PERFECT, extra=against) == 2
    assert '--against: needs --bootstrap N' in capsys.readouterr().err
