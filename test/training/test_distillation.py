"""A student under a teacher: what is refused, what is trained, and the same step in one process and in two."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from box_scenes import BOX, CAN, write_scene  # noqa: E402
from ddp_program import RECIPE, STUDENT, make_module  # noqa: E402

from kd6d_ros.distillation.settings import (  # noqa: E402
    AdlpSettings,
    DistillationSettings,
    FeatureSettings,
    NaiveSettings,
    SurfaceSettings,
)
from kd6d_ros.errors import ConfigError, TrainingError  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.training.checkpoint import Checkpoint, save_checkpoint  # noqa: E402
from kd6d_ros.training.dataset import WindowDataset, collate  # noqa: E402
from kd6d_ros.training.distillation import DistillationModule  # noqa: E402
from kd6d_ros.training.frames import pack_frames  # noqa: E402
from kd6d_ros.training.load_teacher import load_teacher  # noqa: E402
from kd6d_ros.training.module import KeypointModule  # noqa: E402
from kd6d_ros.training.run import make_module as module_of  # noqa: E402

PROGRAM = Path(__file__).with_name('ddp_program.py')


@pytest.fixture(scope='module')
def pack(tmp_path_factory):
    root = tmp_path_factory.mktemp('boxes')
    for scene in range(3):
        write_scene(root, scene)
    return pack_frames(root, 'train', root / 'cache')


@pytest.fixture
def teacher_file(tmp_path):
    path = tmp_path / 'teacher.pt'
    network = KeypointNetwork(replace(STUDENT, channels=64))
    save_checkpoint(path, Checkpoint(network, replace(RECIPE, network=network.spec), (BOX, CAN), {'parameters': 5}))
    return path


def under(path, **terms):
    return replace(RECIPE, distillation=DistillationSettings(str(path), **(terms or {'adlp': AdlpSettings(weight=1)})))


def step(pack, processes, folder):
    """Gradients and logged values of every process of one step."""
    folder.mkdir()
    env = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(PROGRAM.parent), str(PROGRAM.parents[2])]),
        'OMP_NUM_THREADS': '1',
    }
    running = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(rank), str(processes), folder / 'meet', pack, folder / 'out'],
            env=env, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors[-2000:]
    return [torch.load(folder / f'out.{rank}', weights_only=True) for rank in range(processes)]


@pytest.mark.slow
def test_two_processes_do_the_step_of_one(pack, tmp_path):
    (one,), two = step(pack, 1, tmp_path / 'one'), step(pack, 2, tmp_path / 'two')
    largest = max(g.abs().max().item() for g in one['gradients'].values())
    assert largest > 0
    for half in two:
        assert half['gradients'].keys() == one['gradients'].keys()
        for name, gradient in half['gradients'].items():
            assert (gradient - one['gradients'][name]).abs().max().item() < 1e-5 * max(largest, 1), name
    for name in ('train/adlp', 'train/naive', 'train/feature'):
        mean = sum(half['logged'][name] for half in two) / 2
        assert one['logged'][name] > 0
        assert mean == pytest.approx(one['logged'][name], rel=1e-4), name
        assert two[0]['logged'][name] != pytest.approx(two[1]['logged'][name], rel=1e-3)  # each had its own part


def some_batch(pack):
    import numpy as np

    source = iter(WindowDataset(pack, (BOX, CAN), np.arange(12), RECIPE, 1))
    return collate([next(source) for _ in range(4)])


def test_the_teacher_is_not_trained_saved_or_averaged(pack):
    module, batch = make_module(), some_batch(pack)
    before = [p.clone() for p in module.teacher.parameters()]
    module.training_step(batch, 0).backward()
    assert all(p.grad is None for p in module.teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, module.teacher.parameters(), strict=True))
    own = {id(p) for p in module.parameters()}
    assert not own & {id(p) for p in module.teacher.parameters()}
    assert not any('teacher' in name for name in module.state_dict() if 'relation_of_teacher' not in name)
    assert not module.teacher.training
    optimised = {id(p) for group in module.configure_optimizers()['optimizer'].param_groups for p in group['params']}
    assert {id(p) for p in module.feature.parameters()} <= optimised


def test_the_terms_change_what_the_student_learns(pack):
    module, batch = make_module(), some_batch(pack)
    output = module.network(batch.image)
    distilled = module.objective(output, batch)
    plain = KeypointModule.objective(module, output, batch)
    terms = module.terms(output, batch)
    expected = plain + sum(weight * term.total / term.amount for weight, term in terms.values())
    assert set(terms) == {'adlp', 'naive', 'feature'}
    assert distilled.item() == pytest.approx(expected.item(), rel=1e-5)
    assert distilled.item() > plain.item()


def test_a_loss_that_is_no_number_ends_in_one_line(pack):
    module, batch = make_module(), some_batch(pack)
    with torch.no_grad():
        next(module.network.head.offsets.parameters()).fill_(float('nan'))
    with pytest.raises(TrainingError, match=r'NaN at step 0; lower optimiser\.lr'):
        module.training_step(batch, 0)


def test_a_recipe_with_a_term_makes_a_student_and_without_one_a_plain_network(teacher_file):
    data = SimpleNamespace(objects=(BOX, CAN), books=(), question=None)
    assert type(module_of(under(teacher_file, adlp=AdlpSettings()), data)) is KeypointModule
    assert data.question is None
    assert isinstance(module_of(under(teacher_file), data), DistillationModule)
    assert data.question is not None  # may be asked once about a pool
    data.question = None
    assert isinstance(module_of(under(teacher_file, feature=FeatureSettings(weight=1)), data), DistillationModule)
    assert data.question is None  # its maps are too large to keep


def test_a_teacher_that_does_not_fit_is_named(teacher_file, tmp_path):
    load_teacher(under(teacher_file), (BOX, CAN))
    with pytest.raises(ConfigError, match='the teacher knows box, can; the student learns can, box, in this order'):
        load_teacher(under(teacher_file), (CAN, BOX))
    other = replace(under(teacher_file), input=replace(RECIPE.input, crop_size=128))
    with pytest.raises(ConfigError, match=r'sees crops of 96 px; set input\.crop_size=96'):
        load_teacher(other, (BOX, CAN))
    deeper = replace(under(teacher_file, naive=NaiveSettings(weight=1)), network=replace(STUDENT, strides=(16, 32, 64)))
    with pytest.raises(ConfigError, match=r'naive term compares cell by cell, but the teacher has strides \[16, 32\]'):
        load_teacher(deeper, (BOX, CAN))
    load_teacher(
        replace(deeper, distillation=under(teacher_file).distillation), (BOX, CAN)
    )  # clouds need no equal cells
    with pytest.raises(ConfigError, match=r'the surface term needs network\.surface in the teacher and in the student'):
        load_teacher(under(teacher_file, surface=SurfaceSettings(weight=1)), (BOX, CAN))
    with pytest.raises(ConfigError, match='no such checkpoint'):
        load_teacher(under(tmp_path / 'none.pt'), (BOX, CAN))
