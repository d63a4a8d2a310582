"""Wrong files and folders on the command line: one line that names them, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kd6d_ros.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DEMO = str(ROOT / 'models' / 'demo')
CAMERA = {'fx': 100, 'fy': 101, 'cx': 60, 'cy': 40, 'width': 128, 'height': 96}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory: a file, a dataset with one scene, a recipe for it and a camera of infinite width."""
    monkeypatch.chdir(tmp_path)
    Path('file.txt').write_text('hello')
    Path('camera.json').write_text(json.dumps({**CAMERA, 'width': 'W'}).replace('"W"', '1e400'))
    scene = Path('set/train/000000')
    scene.mkdir(parents=True)
    for name in ('scene_camera', 'scene_gt', 'scene_gt_info'):
        (scene / f'{name}.json').write_text('{}')
    Path('recipe.yaml').write_text('data: {train: set}\nout: run\ntrain: {accelerator: cpu, precision: 32-true}\n')
    return tmp_path


def refused(arguments, message, capsys):
    before = sorted(Path().rglob('*'))
    assert main(arguments) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert len(line.splitlines()) == 1
    assert sorted(Path().rglob('*')) == before


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['data.train=nowhere'], 'nowhere: no such folder; expected a BOP dataset'),
        (['data.split=test'], "set: no split 'test' with scenes; it has train"),
        (['out=file.txt'], 'out=file.txt: is a file; expected a folder'),
        (['data.cache=file.txt'], 'data.cache=file.txt: is a file; expected a folder'),
        (['train.precision=bf17'], "train.precision=bf17: Precision 'bf17' is invalid"),
        (['train.accelerator=warp'], 'train.accelerator=warp, '),
        (['train.strategy=nope'], 'train.strategy=nope, '),
        (['train.accelerator=tpu'], 'train.accelerator=tpu, '),
    ],
)
def test_train(folder, capsys, arguments, message):
    pytest.importorskip('lightning', reason="training needs pip install 'kd6d_ros[train]'")
    refused(['train', 'recipe.yaml', *arguments], message, capsys)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['bench', '--bag', 'file.txt', '--bundle', DEMO, '--out', 'file.txt'], '--out file.txt: is a file'),
        (['bench', '--bag', 'b', '--bundle', DEMO, '--out', 'o', '--json', 'no/x'], 'the folder no does not exist'),
        (['info', DEMO, '--json', 'set'], '--json set: is a folder'),
        (['estimate', '--bundle', DEMO, '--dataset', 'set', '--out', 'r.csv', '--overlays', 'file.txt'],
         '--overlays file.txt: is a file'),
        (['synth', '--models', 'set', '--out', 'file.txt', '--images', '1'], '--out file.txt: is a file'),
        (['export', '--checkpoint', 'c.pt', '--out', 'my-mug'], "'my-mug' cannot be the name of a bundle"),
        (['export', '--checkpoint', 'c.pt', '--out', 'mug', '--name', 'a/b'], "'a/b' cannot be the name of a bundle"),
    ],
)  # fmt: skip
def test_other_commands(folder, capsys, arguments, message):
    refused(arguments, message, capsys)


def test_a_camera_of_infinite_width(folder, capsys):
    trimesh = pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")
    Path('models').mkdir()
    trimesh.creation.box((0.1, 0.06, 0.04)).export('models/brick.ply')
    arguments = ['synth', '--models', 'models', '--out', 'o', '--images', '1', '--camera', 'camera.json']
    refused(arguments, 'camera.json: not a BOP camera.json', capsys)
