"""A dense student under a dense teacher: the way through `kd6d distill` and `kd6d study` at toy size, and refusals."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
pytest.importorskip('scipy', reason="surface codes need pip install 'kd6d_ros[train]'")

from box_scenes import write_models, write_photos, write_scene  # noqa: E402

from kd6d_ros.cli.main import main  # noqa: E402
from kd6d_ros.distillation.code_maps import pooled_maps  # noqa: E402
from kd6d_ros.errors import ConfigError  # noqa: E402
from kd6d_ros.networks.dense_network import DenseNetwork  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.training.checkpoint import (  # noqa: E402
    Checkpoint,
    DenseCheckpoint,
    load_any_checkpoint,
    save_checkpoint,
)
from kd6d_ros.training.code_targets import CodeTargets  # noqa: E402
from kd6d_ros.training.data_module import Windows  # noqa: E402
from kd6d_ros.training.dataset import collate  # noqa: E402
from kd6d_ros.training.dense_module import DenseModule  # noqa: E402
from kd6d_ros.training.distillation import DenseDistillationModule  # noqa: E402
from kd6d_ros.training.load_teacher import load_teacher  # noqa: E402
from kd6d_ros.training.pool import PoolDataset, _fingerprint  # noqa: E402
from kd6d_ros.training.recipe import Recipe, load_recipe  # noqa: E402
from kd6d_ros.training.taught import taught_by  # noqa: E402
from kd6d_ros.training.taught_codes import CodeQuestion  # noqa: E402

DEPTH = np.full((120, 160), 0.5, np.float32)
RECIPE = """
data: {{train: {root}/train_set, cache: {root}/cache, codes: {root}/codes, validation_fraction: 0.3}}
network: {{kind: dense, backbone: darknet_tiny_h, channels: 32, classes: 2}}
input: {{crop_size: 64, crop_padding: 1.25}}
sampling: {{window_fraction: 0, crops_per_frame: 2, pool: 48}}
distillation: {{threshold: 0.05, pooling: 2}}
train: {{batch_size: 8, steps: 3, precision: 32-true, workers: 0, threads: 1, validate_every: 3, validation_crops: 2}}
"""


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Scenes of two boxes, their codes, a recipe, and a teacher that has seen a few crops of them."""
    root = tmp_path_factory.mktemp('dense_distillation')
    for index, name in enumerate(('train_set', 'val_set', 'test_set')):
        for scene in range(3 if name == 'train_set' else 1):
            write_scene(root / name, scene, images=6, seed=10 * index, depth=DEPTH)
        write_models(root / name)
    write_photos(root)
    assert main(['codes', '--models', f'{root}/train_set/models', '--out', f'{root}/codes',
                 '--samples-per-leaf', '1']) == 0  # fmt: skip
    (root / 'base.yaml').write_text(RECIPE.format(root=root))
    teacher = ['network.channels=64', f'out={root}/teacher', 'train.steps=4']
    assert main(['train', str(root / 'base.yaml'), *teacher]) == 0
    return root


def recipe_of(root, *changes):
    teacher = f'distillation.teacher={root}/teacher/final.pt'
    return load_recipe(root / 'base.yaml', [teacher, 'distillation.adlp.weight=1', *changes])


@pytest.fixture(scope='module')
def windows(root):
    data = Windows(recipe_of(root))
    data.setup()
    return data


@pytest.fixture(scope='module')
def pool(root, windows):
    return windows._pool_folder(windows.pack)


ALL_TERMS = ('distillation.naive.weight=0.5', 'distillation.feature.weight=1', 'distillation.adlp.blur=0.05',
             'distillation.adlp.power=1')  # fmt: skip


def make_module(root, windows, *changes):
    recipe = recipe_of(root, *changes)
    torch.manual_seed(1)
    module = DenseDistillationModule(recipe, load_teacher(recipe, windows.objects, windows.books)).eval()
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.__setitem__(name, float(value))
    module.log_dict = lambda values: None
    return module


# --- the pool -----------------------------------------------------------------------------------------------------


def test_a_pool_holds_the_codes_of_its_windows(root, pool, windows):
    batch = collate([PoolDataset(pool)[i] for i in range(8)])
    assert batch.code.shape == batch.surface_class.shape == (8, 256)
    assert (batch.code[batch.surface_class < 0] == 0).all()
    assert len(np.unique(batch.code[batch.surface_class >= 0])) > 50
    assert windows._pool_folder(windows.pack) == pool
    others = CodeTargets((replace(windows.books[0], grid=windows.books[0].grid ^ 1), windows.books[1]), windows.objects)
    recipe = recipe_of(root)
    names = [
        _fingerprint(windows.pack.folder, windows.objects, windows.training, recipe, codes)
        for codes in (windows.codes, others)
    ]
    assert f'pool_{names[0]}' == pool.name
    assert names[1] != names[0]


def test_kept_answers_are_those_of_a_live_teacher_who_is_asked_once(root, windows, pool, capsys, monkeypatch):
    module = make_module(root, windows, 'distillation.naive.weight=1')
    taught = taught_by(pool, module.question(), torch.device('cpu'))
    capsys.readouterr()
    taught_by(pool, module.question(), torch.device('cpu'))
    assert 'windows' not in capsys.readouterr().out
    numbers = (5, 40, 17, 0)
    kept = collate([PoolDataset(pool, taught)[i] for i in numbers])
    fresh = collate([PoolDataset(pool)[i] for i in numbers])
    with torch.no_grad():
        live = pooled_maps(module.teacher(fresh.image), fresh.instances, 8)
    assert live.mass.shape == (len(fresh.instances.image), 64)
    for ours, theirs in zip(kept.taught, live, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
    output = module.network(fresh.image)
    asked = module.objective(output, fresh)
    monkeypatch.setattr(module, 'ask_teacher', lambda batch: pytest.fail('asked'))
    assert module.objective(output, kept).item() == pytest.approx(asked.item(), rel=1e-3)
    finer = CodeQuestion(module.teacher, 16)
    assert taught_by(pool, finer, torch.device('cpu')).part(range(2), slice(0)).mass.shape == (2, 256)


# --- the terms of a batch -----------------------------------------------------------------------------------------


def test_the_gradient_goes_to_the_student_alone(root, windows, pool):
    module, batch = make_module(root, windows, *ALL_TERMS), collate([PoolDataset(pool)[i] for i in range(6)])
    terms = module.terms(module.network(batch.image), batch)
    assert set(terms) == {'adlp', 'naive', 'feature'}
    for _, term in terms.values():
        assert term.amount > 0
        assert term.total > 0
    sum(term.total for _, term in terms.values()).backward()
    assert all(p.grad is None for p in module.teacher.parameters())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.network.parameters())
    assert any(p.grad is not None for p in module.feature.parameters())
    own = {id(p) for p in module.parameters()}
    assert not own & {id(p) for p in module.teacher.parameters()}


def test_processes_that_share_a_batch_divide_by_what_all_of_them_saw(root, windows, pool):
    module, samples = make_module(root, windows, *ALL_TERMS), [PoolDataset(pool)[i] for i in range(6)]

    def terms(part):
        batch = collate(samples[part])
        with torch.no_grad():
            return module.terms(module.network(batch.image), batch)

    whole, halves = terms(slice(0, 6)), [terms(slice(0, 2)), terms(slice(2, 6))]
    for name, (_, term) in whole.items():
        for field in ('total', 'amount'):
            together = sum(getattr(half[name][1], field).item() for half in halves)
            assert together == pytest.approx(getattr(term, field).item(), rel=1e-4), name


def test_the_loss_is_that_of_a_plain_student_and_the_terms(root, windows, pool):
    module, batch = make_module(root, windows, *ALL_TERMS), collate([PoolDataset(pool)[i] for i in range(6)])
    output = module.network(batch.image)
    errors = module.bit_errors.clone()
    distilled = module.objective(output, batch)
    logged = dict(module.logged)
    module.bit_errors.copy_(errors)
    plain = DenseModule.objective(module, output, batch)
    expected = logged['train/adlp'] + 0.5 * logged['train/naive'] + logged['train/feature']
    assert distilled.item() - plain.item() == pytest.approx(expected, rel=1e-4)


def test_windows_without_objects_teach_nothing(root, windows, pool):
    module = make_module(root, windows, *ALL_TERMS)
    empty = [replace_objects(PoolDataset(pool)[i]) for i in range(3)]
    batch = collate(empty)
    terms = module.terms(module.network(batch.image), batch)
    for name in ('adlp', 'naive'):
        assert (terms[name][1].total.item(), terms[name][1].amount.item()) == (0, 0)
    loss = module.objective(module.network(batch.image), batch)
    loss.backward()
    assert torch.isfinite(loss)


def replace_objects(sample):
    return sample._replace(
        objects=[], at_pixel=np.full_like(sample.at_pixel, -1), code=np.zeros_like(sample.code),
        surface=sample.surface._replace(classes=np.full_like(sample.surface.classes, -1)),
    )  # fmt: skip


def test_a_teacher_with_finer_maps_teaches_in_the_cells_of_the_student(root, windows, pool, tmp_path):
    """The described teacher has a pixel for every 2 px, compact students for every 4."""
    recipe = recipe_of(root, *ALL_TERMS, f'distillation.teacher={tmp_path}/teacher.pt')
    spec = replace(recipe.network, backbone='resnet34', decoder='aspp')
    save_checkpoint(tmp_path / 'teacher.pt', DenseCheckpoint(
        DenseNetwork(spec), replace(recipe, network=spec), windows.objects, {}, windows.books))  # fmt: skip
    module = make_module(root, windows, *ALL_TERMS, f'distillation.teacher={tmp_path}/teacher.pt')
    assert module.shared_strides == (8, 4)
    batch = collate([PoolDataset(pool)[0]])
    terms = module.terms(module.network(batch.image), batch)
    assert all(term.total > 0 for _, term in terms.values())
    coarser = replace(recipe, network=spec, distillation=replace(
        recipe.distillation, teacher=str(root / 'teacher' / 'final.pt')))  # fmt: skip
    with pytest.raises(ConfigError, match=r'a pixel for every 4 px of the crop, coarser than the student.s 2'):
        load_teacher(coarser, windows.objects, windows.books)


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_teacher_that_does_not_fit_is_named(root, windows, tmp_path):
    recipe = recipe_of(root)
    load_teacher(recipe, windows.objects, windows.books)
    with pytest.raises(ConfigError, match='in this order'):
        load_teacher(recipe, windows.objects[::-1], windows.books[::-1])
    with pytest.raises(ConfigError, match=r'sees crops of 64 px; set input\.crop_size=64'):
        load_teacher(recipe_of(root, 'input.crop_size=96'), windows.objects, windows.books)
    others = (windows.books[0], replace(windows.books[1], grid=windows.books[1].grid ^ 1))
    with pytest.raises(ConfigError, match=rf'learnt other codes of {windows.books[1].name} than those in {root}/codes'):
        load_teacher(recipe, windows.objects, others)
    spec = replace(Recipe().network, classes=2)
    save_checkpoint(
        tmp_path / 'corners.pt', Checkpoint(KeypointNetwork(spec), Recipe(network=spec), windows.objects, {})
    )
    with pytest.raises(ConfigError, match=r'the teacher is of network\.kind: keypoints, the student of .*: dense'):
        load_teacher(recipe_of(root, f'distillation.teacher={tmp_path}/corners.pt'), windows.objects, windows.books)
    plain = Recipe(network=spec, distillation=recipe.distillation)
    with pytest.raises(ConfigError, match=r'the teacher is of network\.kind: dense, the student of .*: keypoints'):
        load_teacher(plain, windows.objects)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['distillation.teacher=nowhere.pt', 'distillation.adlp.weight=1'], 'nowhere.pt: no such checkpoint'),
        (['distillation.adlp.weight=1'], 'distillation.teacher is missing'),
        ([], 'no distillation term has a weight'),
    ],
)
def test_runs_that_cannot_be_meant_end_in_one_line(root, changes, message, capsys):
    assert main(['distill', str(root / 'base.yaml'), f'out={root}/refused', *changes]) == 2
    line = capsys.readouterr().err.strip()
    assert re.search(message, line)
    assert '\n' not in line
    assert not (root / 'refused').exists()


def test_a_pool_of_frames_without_depth_is_refused(root, tmp_path, capsys):
    for scene in range(2):
        write_scene(tmp_path, scene)
    write_models(tmp_path)
    changes = [f'data.train={tmp_path}', f'out={tmp_path}/run']
    assert main(['train', str(root / 'base.yaml'), *changes]) == 2
    assert 'no depth images' in capsys.readouterr().err
    assert not list((root / 'cache').glob('.pool*'))


# --- the commands -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_student_is_distilled_and_goes_on_where_it_was_stopped(root):
    out, recipe = root / 'student', str(root / 'base.yaml')
    changes = [f'out={out}', f'distillation.teacher={root}/teacher/final.pt', 'distillation.adlp.weight=1',
               'distillation.naive.weight=1', 'train.steps=6', 'train.validate_every=6',
               'train.precision=bf16-mixed']  # fmt: skip
    assert main(['distill', recipe, *changes]) == 0
    with open(next(out.glob('csv_*/metrics.csv')), newline='') as file:
        row = next(row for row in csv.DictReader(file) if row['train/adlp'])
    assert all(np.isfinite(float(row[f'train/{name}'])) for name in ('adlp', 'naive', 'code', 'mask'))
    checkpoint = load_any_checkpoint(out / 'final.pt')
    assert isinstance(checkpoint, DenseCheckpoint)
    assert checkpoint.facts['teacher']['backbone'] == 'darknet_tiny_h'
    assert main(['distill', recipe, *changes, 'train.steps=8', '--resume']) == 0
    assert load_any_checkpoint(out / 'final.pt').facts['steps'] == 8


@pytest.mark.slow
def test_a_study_of_dense_networks_runs_and_reports(root, capsys):
    content = {
        'name': 'toy', 'out': str(root / 'study'), 'recipe': 'base.yaml', 'validation': f'{root}/val_set',
        'test': f'{root}/test_set', 'validation_instances': 4, 'test_instances': 6,
        'common': {'distillation.teacher': f'{root}/teacher/final.pt'},
        'students': {'small': {}}, 'arms': {'plain': {}, 'adlp': {'distillation.adlp.weight': 1.0}},
        'seeds': [1], 'compare': [['adlp', 'plain']], 'photos': f'{root}/photo_set', 'photo_split': 'train',
        'photo_detections': f'{root}/boxes.json',
    }  # fmt: skip
    path = root / 'study.yaml'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    for arm in ('plain', 'adlp'):
        assert main(['study', str(path), '--only', f'small/{arm}/1']) == 0
    capsys.readouterr()
    assert main(['study', str(path)]) == 0  # nothing is left to do
    printed = capsys.readouterr().out
    assert '2 of 2 runs are finished' in printed
    assert '| arm | runs | recall | thresholds | windows |\n|---|---|---|---|---|\n| plain | 1 |' in printed
    assert '| adlp - plain | fixed |' in printed
    assert 'Real photos, 12 targets in 6 images' in printed
    assert 'Clouds of corners' not in printed
    record = json.loads((root / 'study' / 'small' / 'adlp' / '1' / 'result.json').read_text())
    assert (record['threshold'], record['test_instances'], record['photo_targets']) == (0.5, 6, 12)
    with np.load(root / 'study' / 'small' / 'adlp' / '1' / 'test.npz') as stored:
        assert stored['hits'].shape == (1, 6)
    content['common']['data.codes'] = f'{root}/nowhere'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(['study', str(path)]) == 2
    assert 'make it with `kd6d codes`' in capsys.readouterr().err
