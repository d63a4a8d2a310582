"""A whole study at toy size: teacher, two arms, two seeds; stopped, resumed, reported.

The first test makes what the others look at.
"""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from box_scenes import write_models, write_photos, write_scene  # noqa: E402

from kd6d_ros.cli.main import main  # noqa: E402
from kd6d_ros.training.checkpoint import load_checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

RECIPE = """
data: {{train: {root}/train_set, cache: {root}/cache, validation_fraction: 0.3}}
network: {{backbone: darknet_tiny_h, strides: [16, 32], channels: 32, head_convs: 1, classes: 2}}
input: {{crop_size: 96, crop_padding: 1.4, frame_size: []}}
sampling: {{window_fraction: 0, crops_per_frame: 2, pool: 64}}
distillation: {{threshold: 0.0}}
train: {{batch_size: 8, steps: 4, precision: 32-true, workers: 0, threads: 1, validate_every: 4, validation_crops: 4}}
"""


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp('study')
    for index, name in enumerate(('train_set', 'val_set', 'test_set')):
        for scene in range(3 if name == 'train_set' else 1):
            write_scene(root / name, scene, images=6, seed=10 * index)
        write_models(root / name)
    write_photos(root)
    (root / 'base.yaml').write_text(RECIPE.format(root=root))
    content = {
        'name': 'toy', 'out': str(root / 'out'), 'recipe': 'base.yaml', 'validation': f'{root}/val_set',
        'test': f'{root}/test_set', 'validation_instances': 8, 'test_instances': 12, 'thresholds': [0.0, 0.005],
        'default_threshold': 0.0, 'teacher': {'network.channels': 64, 'train.steps': 6},
        'students': {'small': {}}, 'arms': {'plain': {}, 'adlp': {'distillation.adlp.weight': 1.0}},
        'seeds': [1, 2], 'compare': [['adlp', 'plain']], 'photos': f'{root}/photo_set', 'photo_split': 'train',
        'photo_detections': f'{root}/boxes.json',
    }  # fmt: skip
    path = root / 'study.yaml'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_study_runs_reports_and_goes_on(study, capsys):
    out = study.parent / 'out'
    assert main(['study', str(study), '--only', 'teacher']) == 0
    teacher = json.loads((out / 'teacher' / 'result.json').read_text())
    assert teacher['windows_seen'] == 48
    assert teacher['test_instances'] == 12
    for key in ('small/plain/1', 'small/adlp/1'):
        assert main(['study', str(study), '--only', key]) == 0
    assert main(['study', str(study), '--report']) == 0
    assert '3 of 5 runs are finished' in capsys.readouterr().out
    before = (out / 'small' / 'adlp' / '1' / 'final.pt').read_bytes()
    assert main(['study', str(study), '--workers', '2']) == 0
    printed = capsys.readouterr().out
    assert 'study: small/plain/2 (1 of 2)' in printed
    assert '5 of 5 runs are finished' in printed
    assert '| adlp - plain | own |' in printed
    assert '| arm | runs | spread | bias | bias of the scale |\n|---|---|---|---|---|\n| teacher | 1 |' in printed
    assert (out / 'small' / 'adlp' / '1' / 'final.pt').read_bytes() == before
    for name, size in (('curves.png', 300), ('clouds_small.png', 400)):
        assert cv2.imread(str(out / name)).shape[1] >= size
    record = json.loads((out / 'report.json').read_text())
    assert len(record['students']['small']['arms']['adlp']) == 2


def test_arms_of_one_seed_start_alike_and_see_the_same_windows(study):
    """With learning rate 0 nothing but the start and the batches is left: equal weights, equal supervised losses."""
    import csv

    recipe = study.parent / 'base.yaml'
    still = ['optimiser.lr=1e-12', 'seed=5', f'distillation.teacher={study.parent}/out/teacher/final.pt']
    weights, errors = [], []
    for command, name, term in (('train', 'a', []), ('distill', 'b', ['distillation.adlp.weight=1.0']),
                                ('distill', 'c', ['distillation.feature.weight=1.0'])):  # fmt: skip
        folder = study.parent / name
        assert main([command, str(recipe), f'out={folder}', 'train.batch_size=50', *still, *term]) == 0
        weights.append(load_checkpoint(folder / 'final.pt').network.state_dict())
        log = next(folder.glob('csv_*/metrics.csv'))
        with open(log, newline='') as file:
            errors.append([row['train/keypoints_3d'] for row in csv.DictReader(file) if row['train/keypoints_3d']])
    for other in weights[1:]:
        assert all(torch.allclose(weights[0][key].float(), other[key].float(), atol=1e-4) for key in weights[0])
    assert errors[0] == errors[1] == errors[2]


def test_two_processes_distil_on_one_pool(study):
    folder = study.parent / 'two'
    command = [
        sys.executable, '-m', 'kd6d_ros.cli.main', 'distill', str(study.parent / 'base.yaml'), f'out={folder}',
        'distillation.adlp.weight=1.0', f'distillation.teacher={study.parent}/out/teacher/final.pt',
        'train.devices=2', 'train.strategy=ddp',
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    facts = load_checkpoint(folder / 'final.pt').facts
    assert facts['images_seen'] == 4 * 8 * 2
    assert facts['teacher']['backbone'] == 'darknet_tiny_h'


def test_distilling_without_a_term_or_on_the_test_set_is_refused(study, capsys):
    assert main(['distill', str(study.parent / 'base.yaml')]) == 2
    assert 'no distillation term has a weight' in capsys.readouterr().err
    content = yaml.safe_load(study.read_text())
    content['test'] = content['validation']
    wrong = study.parent / 'wrong.yaml'
    wrong.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(['study', str(wrong)]) == 2
    assert 'also trained or chosen on' in capsys.readouterr().err
    assert main(['study', str(study), '--only', 'small/adlp/9']) == 2
    assert 'no such run' in capsys.readouterr().err
    assert main(['study', str(study), '--workers', '0']) == 2


def test_the_report_of_a_study_that_was_moved_elsewhere_is_the_same(study, tmp_path, capsys):
    moved = tmp_path / 'moved'
    for path in (study.parent / 'out').rglob('*'):
        if path.name in ('result.json', 'test.npz', 'photos.npz', 'clouds.json'):
            target = moved / path.relative_to(study.parent / 'out')
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert main(['study', str(study), '--report']) == 0
    here = capsys.readouterr().out
    assert main(['study', str(study), '--report', '--runs', str(moved)]) == 0
    there = capsys.readouterr().out
    assert here.split('wrote')[0] == there.split('wrote')[0]
    assert (moved / 'report.md').is_file()


def test_the_report_of_a_finished_study_has_the_hits_of_every_object(study):
    with np.load(study.parent / 'out' / 'small' / 'plain' / '2' / 'test.npz') as stored:
        assert stored['hits'].shape == (2, 12)
        assert stored['size_px'].min() > 10


def test_photos_are_measured_and_choose_nothing(study, capsys):
    folder = study.parent / 'out' / 'small' / 'plain' / '1'
    record = json.loads((folder / 'result.json').read_text())
    assert record['photo_targets'] == 12
    with np.load(folder / 'photos.npz') as stored:
        assert stored['hits'].shape == stored['mspd'].shape == (2, 12)
        assert stored['mspd'][:, 0].max() == 0  # no box, no pose
        assert record['photo_ar_mspd'] == pytest.approx(stored['mspd'][1].mean())
        assert len(set(stored['frame'].tolist())) == 6
    assert main(['study', str(study), '--report']) == 0
    printed = capsys.readouterr().out
    assert 'Real photos, 12 targets in 6 images' in printed
    assert '| adlp - plain | AR_MSPD |' in printed
    content = yaml.safe_load(study.read_text())
    content.pop('photo_detections')
    wrong = study.parent / 'no_boxes.yaml'
    wrong.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(['study', str(wrong)]) == 2
    assert 'photos and photo_detections belong together' in capsys.readouterr().err


def test_the_figures_of_clouds_have_known_answers():
    from kd6d_ros.training.study.clouds import Cloud, figures

    truth = np.array([[x, y] for x in (0.0, 100.0) for y in (0.0, 50.0)] * 2)  # 100 px wide, centre (50, 25)
    outward = truth - truth.mean(0)
    larger = truth + 0.1 * outward
    shifted = np.stack([truth + np.array([offset, 0.0]) for offset in (3.0, 5.0)])
    found = [figures([Cloud(np.zeros((1, 1, 3)), cloud, truth)]) for cloud in (larger[None], shifted)]
    assert found[0].spread == 0
    assert found[0].bias == pytest.approx(0.1 * np.hypot(50, 25) / 100)
    assert found[0].scale_bias == pytest.approx(0.1)
    assert found[1] == pytest.approx((0.01, 0.04, 0.0), abs=1e-9)
