"""The compiled loops against the arrays that say the same, against OpenCV and against NumPy."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted_bracket import TRUTH, K, at, bracket_mesh, hidden, painted, turned, wrong

from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference import outline_arrays, outline_fit, robust
from kd6d_ros.inference.inner_loops import best_loops
from kd6d_ros.inference.loops import colours, numba_loops, reprojection, small_matrices
from kd6d_ros.inference.loops import outline as outline_loops
from kd6d_ros.inference.outline import OutlineModel
from kd6d_ros.inference.outline_view import colour_odds, look
from kd6d_ros.inference.pnp_surface import Correspondences
from kd6d_ros.types import RigidTransform

needs_numba = pytest.mark.skipif(not numba_loops.AVAILABLE, reason=numba_loops.DESCRIPTION)


def correspondences(rng, count=120, corners=16, outliers=0.2):
    """Points around the origin as a camera sees them, with noise and wrong ones; and the truth."""
    points = rng.normal(0, 0.05, (count, 3))
    truth = turned(*rng.normal(0, 1, 3)), np.array([0.02, 0.03, 0.6])
    moved = points @ truth[0].T + truth[1]
    rays = moved[:, :2] / moved[:, 2:] + rng.normal(0, 0.003, (count, 2))
    wrong_ones = rng.random(count) < outliers
    rays[wrong_ones] += rng.normal(0, 0.05, (wrong_ones.sum(), 2))
    return Correspondences(points, corners, rays, rng.random(count), np.array([570.0, 575.0]), 3.0), truth


@needs_numba
@given(st.integers(0, 10**6), st.floats(0.0, 0.6), st.sampled_from([1.0, 0.3, 0.12, -1.0]))
@settings(max_examples=60, deadline=None)
def test_poses_are_those_of_the_arrays(seed, turn, nearer):
    """Also from starts that put points or corners behind the camera."""
    rng = np.random.default_rng(seed)
    problem, (rotation, translation) = correspondences(rng)
    start = turned(*rng.normal(0, turn, 3)) @ rotation, translation * [1, 1, nearer]
    expected = robust.minimise(problem, start, 6.0, 1e-4)
    found = reprojection.minimise(problem, start, 6.0, 1e-4)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


@needs_numba
def test_the_pose_is_the_right_one():
    problem, truth = correspondences(np.random.default_rng(5), 300, outliers=0.1)
    start = turned(0.1, -0.1, 0.05) @ truth[0], truth[1] * 1.08
    rotation, translation = reprojection.minimise(problem, start, 3.0, 1e-6)
    np.testing.assert_allclose(rotation, truth[0], atol=0.01)
    np.testing.assert_allclose(translation, truth[1], atol=0.004)


@needs_numba
def test_a_corner_behind_the_camera_ends_it_at_the_start():
    problem, truth = correspondences(np.random.default_rng(1))
    start = truth[0], np.array([0.0, 0.0, 0.001])
    rotation, translation = reprojection.minimise(problem, start, 3.0, 1e-6)
    np.testing.assert_array_equal(rotation, start[0])
    np.testing.assert_array_equal(translation, start[1])


@needs_numba
@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_equations_are_solved(seed):
    rng = np.random.default_rng(seed)
    matrix, vector = rng.normal(size=(6, 6)), rng.normal(size=6)
    matrix[:, 2] *= 10.0 ** rng.integers(-3, 4)
    found = vector.copy()
    assert small_matrices.solve(matrix.copy(), found)
    np.testing.assert_allclose(matrix @ found, vector, atol=1e-6)


@needs_numba
@pytest.mark.parametrize('matrix', [np.zeros((6, 6)), np.full((6, 6), np.nan), np.diag([1.0, 1, 1, 1, 1, 0])])
def test_equations_without_an_answer_say_so(matrix):
    assert not small_matrices.solve(matrix.copy(), np.ones(6))


@needs_numba
@given(st.tuples(*3 * [st.floats(-1.5, 1.5)]), st.tuples(*3 * [st.floats(-1.5, 1.5)]))
@settings(max_examples=60, deadline=None)
def test_rotations_are_those_of_opencv(vector, other):
    vector, other = np.array(vector), np.array(other)
    rotation, start = cv2.Rodrigues(vector)[0], cv2.Rodrigues(other)[0]
    np.testing.assert_allclose(small_matrices.turn_by(vector), rotation, atol=1e-12)
    between = small_matrices.turn_between(small_matrices.turn_by(vector), start)
    np.testing.assert_allclose(cv2.Rodrigues(between)[0] @ start, rotation, atol=1e-7)


@needs_numba
@pytest.mark.parametrize('inside', [True, False])
def test_distances_are_those_of_opencv(inside):
    rng = np.random.default_rng(4)
    for _ in range(10):
        picture = np.zeros((70, 90), np.uint8)
        for _ in range(3):
            cv2.circle(picture, tuple(int(v) for v in rng.integers(0, 70, 2)), int(rng.integers(2, 25)), 255, -1)
        expected = cv2.distanceTransform(picture if inside else 255 - picture, cv2.DIST_L2, 3)
        np.testing.assert_allclose(colours.distances(picture, inside) / 65536.0, expected, atol=1e-3)


def view_of(masked=True, pose=TRUTH, size=110.0):
    camera = make_camera(K, 640, 480)
    image, own = painted(bracket_mesh(), TRUTH, camera)
    image, mask = hidden(image, own, camera) if masked else (image, None)
    return look(image, camera, pose.translation[:2] / pose.translation[2], size, mask)


@needs_numba
def test_outlines_are_those_of_the_arrays():
    model, rng = OutlineModel(bracket_mesh()), np.random.default_rng(2)
    matrix = np.array([[500.0, 0, 80.0], [0, 510.0, 90.0], [0, 0, 1]])
    for _ in range(30):
        pose = turned(*rng.normal(0, 1.5, 3)), np.array([*rng.normal(0, 0.05, 2), rng.uniform(0.3, 0.9)])
        expected = model.seen(*pose, matrix, (170, 170), outline_arrays.LINES)
        points, pixels, normals, silhouette = outline_loops._seen(model.arrays, *pose, matrix, 170)
        np.testing.assert_array_equal(silhouette, expected.silhouette)
        np.testing.assert_allclose(points, expected.points, atol=1e-12)
        np.testing.assert_allclose(pixels, expected.pixels, atol=1e-9)
        np.testing.assert_allclose(normals, expected.normals, atol=1e-9)


@needs_numba
@pytest.mark.parametrize('place', [(0, 0, 0.02), (0, 0, -0.5), (900.0, 0, 0.5)])
def test_no_outline_where_there_is_none(place):
    found = outline_loops._seen(
        OutlineModel(bracket_mesh()).arrays, np.eye(3), np.array(place, dtype=float), np.diag([500.0, 500.0, 1.0]), 100
    )
    assert [len(part) for part in found[:3]] == [0, 0, 0]
    assert not found[3].any()


@needs_numba
@pytest.mark.parametrize('masked', [True, False])
@pytest.mark.parametrize('gap', [1.0, 6.0, 30.0])
def test_odds_of_colours_are_those_of_the_arrays(masked, gap):
    """A gap of 30 pixels leaves nothing deep inside of the silhouette, so that all of it counts."""
    view, model = view_of(masked), OutlineModel(bracket_mesh())
    silhouette = model.seen(TRUTH.rotation, TRUTH.translation, view.matrix, (view.side, view.side), 160).silhouette
    expected = colour_odds(view, silhouette, gap, 40.0)
    mask = view.mask if masked else np.zeros((1, 1), np.float32)
    known, found = colours.odds(silhouette, view.colours, mask, masked, gap, 40.0)
    assert known
    np.testing.assert_allclose(found, expected, atol=1e-5)


@needs_numba
def test_too_few_pixels_have_no_odds():
    view = view_of()
    silhouette = np.zeros((view.side, view.side), np.uint8)
    silhouette[40:43, 40:43] = 255
    assert colour_odds(view, silhouette, 1.0, 20.0) is None
    assert not colours.odds(silhouette, view.colours, view.mask, True, 1.0, 20.0)[0]


def fits(model, view, start, hold):
    pose = start.rotation.copy(), start.translation.copy()
    return outline_loops.fitted(model, view, pose, hold), outline_arrays.fitted(model, view, pose, hold)


@needs_numba
@pytest.mark.parametrize('masked', [True, False])
def test_fits_are_those_of_the_arrays(masked):
    """Whatever they start from: near, far off and where hardly anything of the object is in the view."""
    model, rng = OutlineModel(bracket_mesh()), np.random.default_rng(8)
    taken = 0
    for scale in (0.3, 1.0, 1.0, 1.0, 3.0, 3.0):
        start = RigidTransform(
            turned(*rng.normal(0, 0.06 * scale, 3)) @ TRUTH.rotation,
            TRUTH.translation * (1 + 0.05 * scale * rng.normal()),
        )
        view = view_of(masked, start)
        found, expected = fits(model, view, start, outline_fit._loose(start.translation, 110.0 / K[0, 0]))
        assert (found is None) == (expected is None)
        if found is not None:
            taken += 1
            np.testing.assert_allclose(found[0][0], expected[0][0], atol=1e-5)
            np.testing.assert_allclose(found[0][1], expected[0][1], atol=1e-6)
            assert found[1] == pytest.approx(expected[1], abs=1e-4)
    assert taken >= 3


@needs_numba
def test_a_start_beside_the_object_is_no_fit_either_way():
    model = OutlineModel(bracket_mesh())
    start = at(TRUTH.rotation, 0.3, 0.2, 0.62)
    view = view_of(True, start)
    assert fits(model, view, start, outline_fit._loose(start.translation, 0.2)) == (None, None)


SCRIPT = """
import sys, types
{before}
import numpy as np
sys.path[:0] = {paths!r}
from painted_bracket import *
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.inner_loops import best_loops
from kd6d_ros.inference.outline import OutlineModel
from kd6d_ros.inference.outline_fit import fit_outline
camera = make_camera(K, 640, 480)
image, _ = painted(bracket_mesh(), TRUTH, camera)
found = fit_outline(OutlineModel(bracket_mesh()), image, camera, wrong(), 110.0, loops=best_loops())
print(best_loops().description)
print(*found.pose.translation)
"""


@pytest.mark.parametrize(
    ('before', 'told'),
    [
        ("sys.modules['numba'] = None", 'NumPy (Numba is not installed)'),
        (
            'import importlib.abc\n'
            'class Broken(importlib.abc.MetaPathFinder):\n'
            '    def find_spec(self, name, path=None, target=None):\n'
            "        if name == 'numba': raise SystemError('initialization of _internal failed')\n"
            'sys.meta_path.insert(0, Broken())',
            'NumPy (Numba does not load: initialization of _internal failed)',
        ),
    ],
)
def test_without_numba_arrays_give_the_same_pose(before, told, request):
    paths = [str(request.path.parent), str(request.config.rootpath)]
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT.format(before=before, paths=paths)], capture_output=True, text=True, check=True
    )
    description, translation = done.stdout.splitlines()
    assert description == told
    camera = make_camera(K, 640, 480)
    image, _ = painted(bracket_mesh(), TRUTH, camera)
    here = outline_fit.fit_outline(OutlineModel(bracket_mesh()), image, camera, wrong(), 110.0, loops=best_loops())
    np.testing.assert_allclose([float(word) for word in translation.split()], here.pose.translation, atol=1e-6)


@needs_numba
def test_other_sources_are_compiled_anew(tmp_path, monkeypatch):
    """Numba itself looks at the file of a function only, not at those of the functions that it calls."""
    monkeypatch.setenv('KD6D_CACHE', str(tmp_path))
    here = numba_loops.Path(numba_loops.__file__).parent
    room = tmp_path / 'inference' / 'loops'
    room.mkdir(parents=True)
    for path in here.glob('*.py'):
        (room / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(numba_loops, '__file__', str(room / 'numba_loops.py'))
    first = numba_loops._sources()
    (room / 'rim.py').write_text('# changed\n')
    assert numba_loops._sources() != first


@needs_numba
def test_machine_code_of_others_is_not_loaded(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.setenv('KD6D_CACHE', str(tmp_path))
    numba_loops._cache.cache_clear()
    try:
        assert numba_loops._cache() is None
    finally:
        numba_loops._cache.cache_clear()


def test_a_process_without_the_outline_does_without_numba():
    """A second of start and 140 MB that only the outline is worth."""
    script = 'import sys, kd6d_ros.inference.estimator; print("numba" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert done.stdout == 'False\n'
