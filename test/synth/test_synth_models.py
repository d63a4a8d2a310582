"""The models folder of a rendered set: complete enough to score poses with, whatever the meshes came as."""

from __future__ import annotations

import numpy as np
import pytest

trimesh = pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")

from kd6d_ros.data.bop_evaluation import load_evaluation_objects  # noqa: E402
from kd6d_ros.data.bop_lists import read_models_info  # noqa: E402
from kd6d_ros.data.objects import load_objects  # noqa: E402
from kd6d_ros.data.scenes.recipe import SynthRecipe  # noqa: E402
from kd6d_ros.data.synth import SynthJob  # noqa: E402
from kd6d_ros.data.synth_models import write_models  # noqa: E402
from kd6d_ros.evaluation.records import Estimate, EvaluationTarget, GroundTruth  # noqa: E402
from kd6d_ros.evaluation.scores import score_targets  # noqa: E402
from kd6d_ros.geometry.cameras import make_camera  # noqa: E402
from kd6d_ros.geometry.ply import read_ply  # noqa: E402
from kd6d_ros.types import RigidTransform  # noqa: E402

CAMERA = make_camera([500.0, 0, 320, 0, 500, 240, 0, 0, 1], 640, 480)
POSE = RigidTransform(np.eye(3), [0.0, 0.0, 0.7])


@pytest.fixture
def written(tmp_path):
    """Objects of a plain folder (an STL without colours, a PLY with them; metres), and what is written of them."""
    source = tmp_path / 'meshes'
    source.mkdir()
    trimesh.creation.box((0.1, 0.06, 0.04)).export(source / 'brick.stl')
    wedge = trimesh.creation.cone(0.04, 0.12, sections=24)
    wedge.visual.vertex_colors = np.tile([200, 40, 40, 255], (len(wedge.vertices), 1))
    wedge.export(source / 'wedge.ply')
    models = tuple(load_objects(source))
    job = SynthJob(tmp_path / 'set', 1, SynthRecipe(), CAMERA, models, (), ())
    write_models(source, job)
    return models, job.out / 'models'


def test_poses_can_be_scored_with_the_meshes_of_a_plain_folder(written):
    models, folder = written
    found = load_evaluation_objects(folder, read_models_info(folder), [model.obj_id for model in models])
    for model in models:
        np.testing.assert_allclose(found[model.obj_id].vertices, model.mesh.vertices, atol=1e-7)
        assert found[model.obj_id].diameter == pytest.approx(model.diameter)
    truth = [EvaluationTarget(0, 0, model.obj_id, 1, CAMERA, (GroundTruth(POSE, 1.0),)) for model in models]
    moved = RigidTransform(np.eye(3), [0.0, 0.0, 0.7 + 0.11 * models[1].diameter])
    guesses = [Estimate(0, 0, model.obj_id, 1.0, pose) for model, pose in zip(models, (POSE, moved), strict=True)]
    assert [score.hit_add for score in score_targets(truth, guesses, found)] == [True, False]


def test_codes_of_the_plain_folder_are_those_of_the_set(written, tmp_path):
    """Training compares the codes with the set's own meshes: another file, rounded to millimetres in float32."""
    pytest.importorskip('scipy', reason="code maps need pip install 'kd6d_ros[synth]'")
    from kd6d_ros.data.code_maps import load_books
    from kd6d_ros.data.codes import make_codes
    from kd6d_ros.inference.code_files import write_codes

    models, folder = written
    for model in models:
        write_codes(tmp_path / 'codes', make_codes(model, per_leaf=1)[0])
    assert [book.name for book in load_books(tmp_path / 'codes', load_objects(folder))] == ['brick', 'wedge']


def test_the_meshes_keep_their_colours(written):
    models, folder = written
    colours = {model.name: read_ply(folder / f'obj_{model.obj_id:06d}.ply').colours for model in models}
    np.testing.assert_array_equal(np.unique(colours['wedge'], axis=0), [[200, 40, 40]])
    assert sorted(path.name for path in folder.iterdir()) == [
        'models_info.json',
        'obj_000001.ply',
        'obj_000002.ply',
        'objects.yaml',
    ]
