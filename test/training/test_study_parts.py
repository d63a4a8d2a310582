"""Study files, statistics and tables without training anything."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.errors import ConfigError  # noqa: E402
from kd6d_ros.training.study import clouds  # noqa: E402
from kd6d_ros.training.study.plan import load_plan  # noqa: E402
from kd6d_ros.training.study.report import report_record, report_text  # noqa: E402
from kd6d_ros.training.study.statistics import paired_difference  # noqa: E402

BASE = 'data: {train: boxes}\ntrain: {steps: 10}\nnetwork: {classes: 2}\n'
STUDY = {
    'name': 'toy', 'recipe': 'base.yaml', 'validation': 'val', 'test': 'test',
    'teacher': {'network.backbone': 'darknet_tiny', 'network.channels': 256, 'train.steps': 20},
    'students': {'small': {'network.backbone': 'darknet_tiny_h'}, 'smaller': {'network.channels': 32}},
    'arms': {'plain': {}, 'adlp': {'distillation.adlp.weight': 0.5}, 'longer': {'train.steps': 30}},
    'seeds': {'small': [1, 2], 'smaller': [7]}, 'compare': [['adlp', 'plain']],
}  # fmt: skip


def written(tmp_path, **changes):
    (tmp_path / 'base.yaml').write_text(BASE)
    path = tmp_path / 'study.yaml'
    path.write_text(json.dumps({**STUDY, 'out': str(tmp_path / 'out'), **changes}))
    return path


def test_a_study_is_the_teacher_and_every_arm_of_one_seed_before_the_next(tmp_path):
    plan = load_plan(written(tmp_path))
    assert [job.key for job in plan.jobs()] == [
        'teacher', 'small/plain/1', 'small/adlp/1', 'small/longer/1', 'small/plain/2', 'small/adlp/2',
        'small/longer/2', 'smaller/plain/7', 'smaller/adlp/7', 'smaller/longer/7',
    ]  # fmt: skip
    recipes = {job.key: plan.recipe(job) for job in plan.jobs()}
    assert recipes['teacher'].network.backbone == 'darknet_tiny'
    assert recipes['teacher'].train.steps == 20
    adlp, plain = recipes['small/adlp/2'], recipes['small/plain/2']
    assert (adlp.seed, adlp.network, adlp.train) == (plain.seed, plain.network, plain.train) != (1, None, None)
    assert adlp.distillation.adlp.weight == 0.5
    assert adlp.distillation.teacher == str(tmp_path / 'out' / 'teacher' / 'final.pt')
    assert not plain.distillation.teacher
    assert recipes['smaller/longer/7'].train.steps == 30
    assert recipes['smaller/longer/7'].out == str(tmp_path / 'out' / 'smaller' / 'longer' / '7')


def test_an_arm_may_have_other_seeds_than_its_student_or_none(tmp_path):
    plan = load_plan(
        written(tmp_path, arm_seeds={'small': {'longer': [2], 'adlp': [1, 2, 5]}, 'smaller': {'adlp': []}})
    )
    assert [job.key for job in plan.jobs()] == [
        'teacher', 'small/plain/1', 'small/adlp/1', 'small/plain/2', 'small/adlp/2', 'small/longer/2', 'small/adlp/5',
        'smaller/plain/7', 'smaller/longer/7',
    ]  # fmt: skip


@pytest.mark.parametrize(('change', 'message'), [
    ({'student': {}}, "unknown setting 'student'; did you mean 'students'"),
    ({'students': {}}, 'students must name at least one'),
    ({'arms': {'a b': {}}}, 'is no name'),
    ({'arms': {'plain': {'distillation.adpl.weight': 1}}, 'compare': []}, "did you mean 'distillation.adlp'"),
    ({'arms': {'plain': {'train.steps': 'many'}}, 'compare': []}, 'train.steps must be a whole number'),
    ({'seeds': [1, 1]}, 'different whole numbers'),
    ({'seeds': {'small': [1]}}, 'a list for each of small, smaller'),
    ({'arm_seeds': {'small': {'plane': [1]}}}, "there is no arm 'plane' of a student 'small'"),
    ({'arm_seeds': {'tiny': {'plain': [1]}}}, "there is no arm 'plain' of a student 'tiny'"),
    ({'arm_seeds': {'small': {'plain': [1, 1]}}}, 'small: plain must be different whole numbers'),
    ({'arm_seeds': {'small': [1]}}, 'arm_seeds must be lists by student and arm'),
    ({'compare': [['adlp', 'plane']]}, 'compare must be pairs of arms'),
    ({'thresholds': [2.0]}, 'thresholds must lie between 0 and 1'),
    ({'test': ''}, 'test is missing'),
    ({'teacher': {}}, 'distillation.teacher is missing'),
    ({'students': {'small': {'network.kind': 'dense', 'data.codes': 'codes'}}, 'seeds': [1]},
     'run small/plain/1 has network.kind: dense, the first run network.kind: keypoints'),
    ({'common': {'network.kind': 'dense', 'data.codes': 'codes'}, 'default_threshold': 0.2},
     'default_threshold belongs to network.kind: keypoints'),
    ({'common': {'network.kind': 'dense', 'data.codes': 'codes'}, 'thresholds': [0.1]},
     'thresholds belongs to network.kind: keypoints'),
])  # fmt: skip
def test_studies_that_cannot_be_meant_are_refused(tmp_path, change, message):
    with pytest.raises(ConfigError) as caught:
        load_plan(written(tmp_path, **change))
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def runs_of(rng, count, gain, images=200, per_image=4, spread=0.0):
    """Hits of `count` pairs of runs of two arms; the first is right `gain` more often, with a spread between runs."""
    image = np.repeat(np.arange(images), per_image)
    hard = rng.uniform(0.2, 0.8, images)[image]
    first, second = [], []
    for _ in range(count):
        luck = rng.uniform(size=len(image))
        first.append(luck < hard + gain + spread * rng.normal())
        second.append(luck < hard)
    return first, second, image


def test_a_clear_gain_has_an_interval_above_zero_and_none_spans_it():
    rng = np.random.default_rng(0)
    found = paired_difference(*runs_of(rng, 5, 0.06, spread=0.005))
    assert found.low > 0.03
    assert found.low < 0.06 < found.high < 0.1
    assert found.mean == pytest.approx(np.mean(found.runs))
    none = paired_difference(*runs_of(rng, 5, 0.0, spread=0.02))
    assert none.low < 0 < none.high


def test_the_t_interval_is_the_textbooks_and_the_wider_one_is_given():
    rng = np.random.default_rng(1)
    first, second, image = runs_of(rng, 4, 0.05, spread=0.1)
    found = paired_difference(first, second, image)
    runs = np.array([a.mean() - b.mean() for a, b in zip(first, second, strict=True)])
    reach = 3.182446 * runs.std(ddof=1) / 2  # quantile of t with 3 degrees of freedom
    assert found.interval == 't'
    assert found.high - found.mean == pytest.approx(reach, rel=1e-5)
    assert found.runs == pytest.approx(runs)


def test_few_images_widen_the_bootstrap():
    rng = np.random.default_rng(2)
    luck = rng.uniform(size=40)
    image = np.repeat(np.arange(4), 10)
    first = [luck < np.repeat([0.9, 0.2, 0.9, 0.2], 10)] * 3  # equal runs: t sees no spread at all
    second = [luck < 0.5] * 3
    found = paired_difference(first, second, image)
    assert found.interval == 'bootstrap'
    assert found.high - found.low > 0.3


def test_one_run_has_a_bootstrap_interval_and_unequal_runs_are_refused():
    first, second, image = runs_of(np.random.default_rng(3), 2, 0.05)
    assert paired_difference(first[:1], second[:1], image).interval == 'bootstrap'
    with pytest.raises(ValueError, match='as many runs'):
        paired_difference(first, second[:1], image)
    with pytest.raises(ValueError, match='one image per object'):
        paired_difference(first, second, image[:-1])


def finish(plan, key, hits, image, recall):
    folder = plan.folder / key
    folder.mkdir(parents=True)
    size = np.tile([20.0, 60.0, 120.0, 200.0], len(image) // 4)
    np.savez(folder / 'test.npz', frame=image, hits=hits, size_px=size, visible=np.full(len(image), 0.95))
    record = {'threshold': 0.1, 'test_recall': recall, 'test_recall_own_threshold': recall, 'windows_seen': 160,
              'parameters': 2_000_000, 'test_instances': len(image)}  # fmt: skip
    (folder / 'result.json').write_text(json.dumps(record))


def test_the_table_shows_means_spreads_and_paired_differences_of_what_is_finished(tmp_path):
    plan = load_plan(written(tmp_path))
    first, second, image = runs_of(np.random.default_rng(4), 2, 0.1)
    for seed, (a, b) in enumerate(zip(first, second, strict=True), 1):
        finish(plan, f'small/adlp/{seed}', np.stack([a, a]), image, float(a.mean()))
        finish(plan, f'small/plain/{seed}', np.stack([b, b]), image, float(b.mean()))
    finish(plan, 'teacher', np.stack([first[0]] * 2), image, 0.875)
    text = report_text(plan)
    assert '5 of 10 runs are finished' in text
    assert 'Teacher: 87.5 % of 800 objects (2.00 M parameters, 160 windows).' in text
    means = [float(a.mean()) for a in first]
    assert f'| adlp | 2 | {100 * np.mean(means):.1f} ± {100 * np.std(means, ddof=1):.1f} |' in text
    runs = ', '.join(f'{100 * (a.mean() - b.mean()):+.1f}' for a, b in zip(first, second, strict=True))
    assert f'| {runs} |' in text
    assert '| longer' not in text
    right = np.mean(first, 0)
    small, large = 100 * right[0::4].mean(), 100 * np.mean([right[2::4], right[3::4]])
    assert '| below 40 px | 40 to 95 px | 95 and more px | below 0.5 visible |' in text
    assert f'| adlp | {small:.1f} (200) | ' in text
    assert f' | {large:.1f} (400) | - | - | {100 * right.mean():.1f} (800) |' in text
    record = report_record(plan)
    assert record['students']['small']['differences']['adlp - plain (own)']['mean'] == pytest.approx(
        np.mean([a.mean() - b.mean() for a, b in zip(first, second, strict=True)])
    )
    assert record['students']['smaller']['differences'] == {}


def test_the_figures_of_clouds_are_kept_until_the_network_is_another_one(tmp_path, monkeypatch):
    plan = load_plan(written(tmp_path))
    asked = []

    def measured(plan, network):
        asked.append(network)
        return clouds.CloudFigures(0.1 * len(asked), 0.2, 0.3)

    monkeypatch.setattr(clouds, 'load_checkpoint', lambda path: path.read_bytes())
    monkeypatch.setattr(clouds, 'measured', measured)
    assert clouds.run_figures(plan, 'small/adlp/1') is None
    folder = plan.folder / 'small' / 'adlp' / '1'
    folder.mkdir(parents=True)
    for content, expected in ((b'first', 0.1), (b'first', 0.1), (b'again', 0.2), (b'again', 0.2)):
        (folder / 'final.pt').write_bytes(content)
        assert clouds.run_figures(plan, 'small/adlp/1') == (expected, 0.2, 0.3)
    assert asked == [b'first', b'again']
    # Written by a version that did not say of which network.
    (folder / clouds.FILE).write_text(json.dumps({'objects': clouds.OBJECTS, 'spread': 9, 'bias': 9, 'scale_bias': 9}))
    assert clouds.run_figures(plan, 'small/adlp/1') == pytest.approx((0.3, 0.2, 0.3))


def test_the_figures_of_clouds_outlive_their_network(tmp_path):
    plan = load_plan(written(tmp_path))
    folder = plan.folder / 'small/adlp/1'
    folder.mkdir(parents=True)
    kept = {'objects': clouds.OBJECTS, 'network_sha256': 'gone', 'spread': 0.3, 'bias': 0.2, 'scale_bias': 0.1}
    (folder / clouds.FILE).write_text(json.dumps(kept))
    assert clouds.run_figures(plan, 'small/adlp/1') == (0.3, 0.2, 0.1)
    (folder / clouds.FILE).write_text(json.dumps({**kept, 'objects': 1}))
    assert clouds.run_figures(plan, 'small/adlp/1') is None
