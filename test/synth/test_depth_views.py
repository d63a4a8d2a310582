"""AR_VSD through `kd6d evaluate`: measured depth from exact ray-box intersection, our renderer for the poses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from kd6d_ros.cli.main import main
from kd6d_ros.data.depth_views import DepthViews
from kd6d_ros.errors import MeshError
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.geometry.transforms import rotation_from_vector
from kd6d_ros.types import RigidTransform

pytestmark = pytest.mark.render
K = [400.0, 0, 79.5, 0, 400.0, 59.5, 0, 0, 1]
CAMERA = make_camera(K, 160, 120)
HALF_MM = np.array([50.0, 30.0, 40.0])
TURN = rotation_from_vector(np.array([0.4, -0.3, 0.2]))
TRUTH = RigidTransform(TURN, np.array([0.01, 0.0, 0.7]))
FACES = '3 0 1 3\n3 0 3 2\n3 4 7 5\n3 4 6 7\n3 0 4 5\n3 0 5 1\n3 2 3 7\n3 2 7 6\n3 0 2 6\n3 0 6 4\n3 1 5 7\n3 1 7 3\n'
LINE = '1,4,3,0.9,{rotation},{translation},0.1\n'


def write_box(path: Path, faces: str = FACES) -> None:
    corners = [HALF_MM * [x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    head = 'ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n'
    head += f'element face {faces.count(chr(10))}\nproperty list uchar int vertex_indices\nend_header\n'
    path.write_text(head + ''.join(f'{x} {y} {z}\n' for x, y, z in corners) + faces)


def box_depth(pose: RigidTransform) -> np.ndarray:
    """Exact depth (120, 160) [m] of the box through pixel centres, 0 where missed."""
    v, u = np.mgrid[0:120, 0:160]
    rays = np.stack([(u - 79.5) / 400, (v - 59.5) / 400, np.ones_like(u, float)], -1)
    origin, direction = -pose.rotation.T @ pose.translation, rays @ pose.rotation
    a, b = ((sign * HALF_MM / 1000 - origin) / direction for sign in (-1, 1))
    near, far = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    return np.where((near < far) & (near > 0), near, 0.0)


@pytest.fixture
def dataset(tmp_path: Path, renderer: object) -> Path:
    root = tmp_path / 'set'
    scene = root / 'test' / '000001'
    for folder in (scene / 'rgb', scene / 'depth', root / 'models'):
        folder.mkdir(parents=True)
    write_box(root / 'models' / 'obj_000003.ply')
    box = {f'{kind}_{axis}': value for kind, value in (('min', -50), ('size', 100)) for axis in 'xyz'}
    (root / 'models' / 'models_info.json').write_text(json.dumps({'3': {'diameter': 141.4, **box}}))
    cv2.imwrite(str(scene / 'rgb' / '000004.png'), np.zeros((120, 160, 3), np.uint8))
    measured = box_depth(TRUTH)
    measured[measured == 0] = 1.2
    cv2.imwrite(str(scene / 'depth' / '000004.png'), np.round(measured * 10_000).astype(np.uint16))
    (scene / 'scene_camera.json').write_text(json.dumps({'4': {'cam_K': K, 'depth_scale': 0.1}}))
    truth = {'obj_id': 3, 'cam_R_m2c': TURN.reshape(-1).tolist(), 'cam_t_m2c': [10, 0, 700]}
    (scene / 'scene_gt.json').write_text(json.dumps({'4': [truth]}))
    (root / 'test_targets_bop19.json').write_text('[{"scene_id": 1, "im_id": 4, "obj_id": 3, "inst_count": 1}]')
    return root


def evaluate(root: Path, translation_mm: str, *extra: str) -> dict:
    rotation = ' '.join(f'{value:.9g}' for value in TURN.reshape(-1))
    (root / 'r.csv').write_text(LINE.format(rotation=rotation, translation=translation_mm))
    out = root / 'out.json'
    arguments = ['--dataset', str(root), '--results', str(root / 'r.csv'), '--json', str(out), *extra]
    assert main(['evaluate', *arguments]) == 0
    return json.loads(out.read_text())['overall']


def test_the_exact_pose_scores_one(dataset: Path) -> None:
    overall = evaluate(dataset, '10 0 700', '--vsd', 'on')
    assert [overall[name] for name in ('ar_vsd', 'ar_mssd', 'ar_mspd', 'ar')] == [1, 1, 1, 1]


def test_a_shift_in_depth_costs_up_to_its_tau(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 25 mm of 141.4 along the ray is 0.177 of the diameter, and slanted faces add to it: wrong at 0.05, 0.1 and 0.15.
    overall = evaluate(dataset, '10 0 725')
    assert 0.2 < overall['ar_vsd'] <= 0.7
    assert 'AR 0.' in capsys.readouterr().out
    assert evaluate(dataset, '10 0 900')['ar_vsd'] == 0.0


def test_without_depth_there_is_no_vsd_and_a_reason(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / 'test' / '000001' / 'depth' / '000004.png').unlink()
    assert evaluate(dataset, '10 0 700')['ar_vsd'] is None
    assert 'no AR: AR_VSD was not computed (scene 1 image 4 has no depth image' in capsys.readouterr().out
    assert main(['evaluate', '--dataset', str(dataset), '--results', str(dataset / 'r.csv'), '--vsd', 'on']) == 2
    assert 'scene 1 image 4 has no depth image' in capsys.readouterr().err
    assert main(['evaluate', '--dataset', str(dataset), '--results', str(dataset / 'r.csv'), '--vsd-delta', '0']) == 2
    assert '--vsd-delta 0: must be above 0' in capsys.readouterr().err


def test_a_mesh_without_faces_is_named(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_box(dataset / 'models' / 'obj_000003.ply', '')
    with pytest.raises(MeshError, match=r'obj_000003\.ply: has no faces'):
        DepthViews(dataset / 'models').mesh(3)


def test_rendered_depth_is_that_of_the_rays(dataset: Path) -> None:
    depth = DepthViews(dataset / 'models').depth(3, TRUTH, CAMERA)
    exact = box_depth(TRUTH)
    both = (depth > 0) & (exact > 0)
    assert both.sum() > 0.97 * max((depth > 0).sum(), (exact > 0).sum())
    # Where a ray only grazes the box the two may see different faces.
    assert np.quantile(np.abs(depth - exact)[both], 0.99) < 2e-4
