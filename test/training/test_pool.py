"""The frozen pool: the same for any number of processes, read back as it was drawn, with a teacher's answers beside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from box_scenes import BOX, CAN, write_scene  # noqa: E402
from ddp_program import RECIPE, STUDENT  # noqa: E402

from kd6d_ros.distillation.settings import AdlpSettings, DistillationSettings, NaiveSettings  # noqa: E402
from kd6d_ros.distillation.teacher import answer_of  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.training import pool as pool_module  # noqa: E402
from kd6d_ros.training.checkpoint import Checkpoint  # noqa: E402
from kd6d_ros.training.dataset import collate, make_sample  # noqa: E402
from kd6d_ros.training.distillation import DistillationModule  # noqa: E402
from kd6d_ros.training.frames import FramePack, pack_frames  # noqa: E402
from kd6d_ros.training.pool import PoolBatches, PoolDataset, make_pool  # noqa: E402
from kd6d_ros.training.taught import taught_by  # noqa: E402
from kd6d_ros.training.taught_corners import CornerQuestion  # noqa: E402

COUNT = 300  # more than one chunk
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Folder of the pack, recipe and folder of the pool."""
    root = tmp_path_factory.mktemp('boxes')
    for scene in range(2):
        write_scene(root, scene)
    pack = pack_frames(root, 'train', root / 'cache')
    recipe = replace(
        RECIPE, data=replace(RECIPE.data, cache=str(root / 'cache')), network=replace(STUDENT, surface=8),
        sampling=replace(RECIPE.sampling, pool=COUNT, pool_seed=4),
    )  # fmt: skip
    return pack, recipe, make_pool(pack, (BOX, CAN), np.arange(8), recipe, workers=2)


def test_a_window_comes_back_as_it_was_drawn(drawn):
    pack, recipe, folder = drawn
    pool = PoolDataset(folder)
    assert len(pool) == COUNT
    for start in (0, pool_module.CHUNK):
        rng = np.random.default_rng(np.random.SeedSequence([4, start]))
        frames = FramePack(pack, (BOX, CAN))
        expected = []
        while len(expected) < 5:
            frame = frames.frame(int(rng.choice(np.arange(8))))
            expected += [make_sample(frame, recipe, rng) for _ in range(recipe.sampling.crops_per_frame)]
        for offset, one in enumerate(expected):
            other = pool[start + offset]
            for name in ('image', 'score', 'cell', 'owner', 'intrinsics', 'frame_from_window', 'at_pixel'):
                assert np.array_equal(getattr(one, name), getattr(other, name)), name
            np.testing.assert_allclose(one.surface.points, other.surface.points, atol=5e-4)
            assert np.array_equal(one.surface.classes, other.surface.classes)
            assert len(one.objects) == len(other.objects)
            for a, b in zip(one.objects, other.objects, strict=True):
                assert (a.class_index, a.label, a.diameter) == (b.class_index, b.label, b.diameter)
                assert np.array_equal(a.corners_px, b.corners_px)
                assert np.array_equal(a.corners_m, b.corners_m)


def test_the_pool_is_the_same_for_any_number_of_processes_and_found_again(drawn, tmp_path):
    pack, recipe, folder = drawn
    assert make_pool(pack, (BOX, CAN), np.arange(8), recipe) == folder
    elsewhere = replace(recipe, data=replace(recipe.data, cache=str(tmp_path)))
    again = make_pool(pack, (BOX, CAN), np.arange(8), elsewhere, workers=1)
    assert again.name == folder.name
    assert (again / 'images.bin').read_bytes() == (folder / 'images.bin').read_bytes()
    with np.load(again / 'targets.npz') as a, np.load(folder / 'targets.npz') as b:
        assert all(np.array_equal(a[key], b[key]) for key in b.files)


@pytest.mark.parametrize(('change', 'same'), [
    ({'optimiser': replace(RECIPE.optimiser, lr=5e-4)}, True), ({'seed': 9}, True),
    ({'distillation': DistillationSettings()}, True), ({'input': replace(RECIPE.input, crop_padding=1.3)}, False),
    ({'augmentation': replace(RECIPE.augmentation, blur=0.9)}, False),
])  # fmt: skip
def test_what_decides_the_windows_decides_the_pool(drawn, change, same):
    pack, recipe, folder = drawn
    name = f'pool_{pool_module._fingerprint(pack, (BOX, CAN), np.arange(8), replace(recipe, **change))}'
    assert (name == folder.name) is same


def test_batches_are_permutations_of_the_pool_decided_by_the_seed():
    source = iter(PoolBatches(10, 4, seed=3))
    numbers = [n for _ in range(5) for n in next(source)]
    assert sorted(numbers[:10]) == sorted(numbers[10:]) == list(range(10))
    assert numbers[:10] != numbers[10:]
    assert [next(iter(PoolBatches(10, 4, seed=3)))] == [numbers[:4]]
    assert next(iter(PoolBatches(10, 4, seed=4))) != numbers[:4]
    assert next(iter(PoolBatches(10, 4, seed=3, start=2))) == numbers[8:12]  # a resumed run goes on where it was


def test_two_processes_share_the_batch_of_one():
    one = iter(PoolBatches(50, 8, seed=1))
    halves = [iter(PoolBatches(50, 4, seed=1, rank=rank, ranks=2)) for rank in range(2)]
    for _ in range(20):
        assert next(one) == [n for half in halves for n in next(half)]


@pytest.fixture(scope='module')
def teacher():
    torch.manual_seed(1)
    network = KeypointNetwork(replace(STUDENT, channels=64)).eval()
    torch.nn.init.normal_(network.head.offsets.weight, std=0.05)
    torch.nn.init.normal_(network.head.score.weight, std=0.3)
    return network


@pytest.mark.parametrize(('strides', 'same_cells'), [((16, 32), True), ((16, 32, 64), False)])
def test_kept_answers_are_those_of_a_live_teacher(drawn, teacher, strides, same_cells, capsys):
    _, _, folder = drawn
    settings = DistillationSettings(threshold=0.002)
    taught = taught_by(folder, CornerQuestion(teacher, settings, strides, 48.0), CPU)
    assert 'teacher: 300/300' in capsys.readouterr().out
    pool = PoolDataset(folder, taught)
    batch = collate([pool[i] for i in (5, 299, 17, 0)])
    with torch.no_grad():
        live = answer_of(teacher(batch.image), teacher.spec, batch, settings, strides)
    kept = batch.taught
    assert live.clouds.mass.sum() > 0
    assert torch.allclose(kept.clouds.mass, live.clouds.mass, atol=1e-3)
    used = live.clouds.mass > 0
    assert (kept.clouds.points - live.clouds.points)[used].abs().max() < 0.2
    assert kept.belief.shape == live.belief.shape
    if same_cells:
        assert torch.allclose(kept.belief, live.belief, atol=1e-3)
        assert (kept.corners - live.corners).abs().max() < 0.2
    taught_by(folder, CornerQuestion(teacher, settings, strides, 48.0), CPU)
    assert 'windows' not in capsys.readouterr().out  # read, not asked again
    with torch.no_grad():
        next(teacher.parameters()).mul_(1.01)
    taught_by(folder, CornerQuestion(teacher, settings, strides, 48.0), CPU)
    assert 'windows' in capsys.readouterr().out  # another teacher


def test_training_on_kept_answers_does_not_ask(drawn, teacher, monkeypatch):
    _, recipe, folder = drawn
    settings = DistillationSettings('t', threshold=0.002, adlp=AdlpSettings(weight=1), naive=NaiveSettings(weight=1))
    torch.manual_seed(0)
    module = DistillationModule(
        replace(recipe, distillation=settings), Checkpoint(teacher, recipe, (BOX, CAN), {})
    ).eval()
    plain, answered = (
        PoolDataset(folder),
        PoolDataset(folder, taught_by(folder, CornerQuestion(teacher, settings, (16, 32), 48.0), CPU)),
    )
    numbers = list(range(12))
    live = module.objective(
        module.network(collate([plain[i] for i in numbers]).image), collate([plain[i] for i in numbers])
    )
    monkeypatch.setattr(module, 'ask_teacher', lambda batch: pytest.fail('asked'))
    batch = collate([answered[i] for i in range(12)])
    kept = module.objective(module.network(batch.image), batch)
    assert kept.item() == pytest.approx(live.item(), rel=1e-3)
