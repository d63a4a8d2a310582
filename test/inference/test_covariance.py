"""Covariance of a pose: geometry against finite differences, frame against sampling, file against nonsense."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.errors import BundleError
from kd6d_ros.geometry.cameras import project
from kd6d_ros.inference.bundle import load_bundle, set_covariance, write_bundle
from kd6d_ros.inference.covariance import (
    COLUMNS,
    GROUP_OF_AXIS,
    CovarianceModel,
    after_symmetry,
    columns,
    ray_axes,
    ray_geometry,
    read_model,
    record_of,
    scaled,
    with_record,
)
from kd6d_ros.inference.engines.fake import FakeEngine
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.evidence import FEATURES, LEAST, CodePredictions, Predictions, disagreement, gather
from kd6d_ros.inference.outlines import Outlines
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.inference.surface import SurfaceCloud
from kd6d_ros.types import Detection, Mesh, RigidTransform

POSE = RigidTransform(cv2.Rodrigues(np.array([0.4, -0.7, 0.3]))[0], [0.06, -0.04, 0.5])


def model(weights=None, offset=(-7.0, -5.0, -4.0), objects=None, coupling=1.0):
    size = len(COLUMNS)
    given = np.zeros((3, size)) if weights is None else np.asarray(weights)
    return CovarianceModel(np.zeros(size), np.ones(size), np.array(offset), given, objects or {}, coupling)


def predictions(points, camera, noise=0.0, cells=6, surface=None, seed=0):
    rng = np.random.default_rng(seed)
    pixels = project(camera, POSE.apply(points))[None] + noise * rng.normal(size=(cells, 8, 2))
    return Predictions(points, pixels, np.full(cells, 0.8), surface, 3.0, 64.0)


def turned(pose, step):
    """The pose moved by (6,) translation and left rotation vector."""
    turn = cv2.Rodrigues(np.asarray(step[3:], float))[0]
    return RigidTransform(turn @ pose.rotation, pose.translation + step[:3])


def test_the_hessian_is_that_of_the_reprojection_error(camera, objects):
    points = objects[0].keypoints
    given = predictions(points, camera)
    found = gather(given, POSE, camera, 100.0, 1.0, 1.0)
    truth = project(camera, POSE.apply(points))

    def cost(step):
        moved = project(camera, turned(POSE, step).apply(points))
        return (
            0.5 * 0.03 * (np.repeat(given.scores, 8) * ((moved - truth) ** 2).sum(1)[None].repeat(6, 0).ravel()).sum()
        )

    size, step = 6, 1e-4
    numeric = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            a, b = np.eye(size)[i] * step, np.eye(size)[j] * step
            numeric[i, j] = (cost(a + b) - cost(a - b) - cost(b - a) + cost(-a - b)) / (4 * step**2)
    scale = np.sqrt(np.outer(np.diag(numeric), np.diag(numeric)))
    np.testing.assert_allclose(found.hessian / scale, numeric / scale, atol=2e-3)


def test_the_features_say_what_they_are_called(camera, objects):
    points = objects[0].keypoints
    exact = gather(predictions(points, camera), POSE, camera, 100.0, 0.8, 0.5)
    assert len(exact.features) == len(FEATURES)
    named = dict(zip(FEATURES, np.exp(exact.features), strict=True))
    assert named['corner_spread'] == named['corner_bias'] == pytest.approx(LEAST)
    assert (named['inlier_ratio'], named['cell_score']) == (pytest.approx(0.8), pytest.approx(0.8))
    assert named['visible_share'] == pytest.approx(0.5)
    many = gather(predictions(points, camera, noise=2.0, cells=400), POSE, camera, 100.0, 0.8, 0.5)
    noisy = dict(zip(FEATURES, np.exp(many.features), strict=True))
    assert noisy['corner_spread'] == pytest.approx(2.0 * np.sqrt(2) / 100, rel=0.05)
    assert noisy['corner_bias'] < 0.1 * noisy['corner_spread']
    on = points[:1] + np.linspace(0, 1, 30)[:, None] * (points[-1:] - points[:1])
    pixels = project(camera, POSE.apply(on)) + np.array([0.6, 0.8])
    cloud = SurfaceCloud(on, pixels, np.ones(30))
    seen = gather(predictions(points, camera, surface=cloud), POSE, camera, 100.0, 0.8, 0.5)
    named = dict(zip(FEATURES, np.exp(seen.features), strict=True))
    assert named['surface_residual'] == pytest.approx(0.01, rel=1e-6)
    assert named['seen_area'] == pytest.approx(30 * 64.0 / 100.0**2)


def test_across_and_along_the_ray_are_told_apart(camera, objects):
    evidence = gather(predictions(objects[0].keypoints, camera, noise=1.0), POSE, camera, 100.0, 1.0, 1.0)
    found = model().predict(evidence, POSE, 'mug')
    axes = ray_axes(POSE.translation)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[2], POSE.translation / np.linalg.norm(POSE.translation))
    deviation = np.sqrt(np.diag(axes @ found[:3, :3] @ axes.T))
    assert np.sqrt(deviation[0] * deviation[1]) == pytest.approx(np.exp(-7.0))
    assert deviation[2] == pytest.approx(np.exp(-5.0))
    turn = np.sqrt(np.diag(found[3:, 3:]))
    assert np.exp(np.log(turn).mean()) == pytest.approx(np.exp(-4.0))
    wider = model(objects={'mug': np.array([0.0, 1.0, 0.0])}).predict(evidence, POSE, 'mug')
    wide = np.sqrt((axes @ wider[:3, :3] @ axes.T)[2, 2])
    assert wide == pytest.approx(np.exp(-4.0))


def test_a_side_that_is_measured_worse_has_a_larger_covariance(camera, objects):
    evidence = gather(predictions(objects[0].keypoints, camera, noise=1.0), POSE, camera, 100.0, 1.0, 1.0)
    seen_from = POSE.inverse().translation
    towards = seen_from / np.linalg.norm(seen_from)
    views = np.zeros((3, 3))
    views[1] = towards
    law = replace(model(), views={'mug': views})
    axes = ray_axes(POSE.translation)
    along = [np.sqrt((axes @ law.predict(evidence, POSE, name)[:3, :3] @ axes.T)[2, 2]) for name in ('mug', 'can')]
    np.testing.assert_allclose(along, np.exp([-4.0, -5.0]))


numbers = st.floats(-3, 3)


@given(st.lists(numbers, min_size=36, max_size=36), st.lists(numbers, min_size=3, max_size=3),
       st.lists(st.floats(-12, 2), min_size=3, max_size=3))  # fmt: skip
@settings(deadline=None)
def test_every_covariance_is_symmetric_and_positive(entries, place, size):
    factor = np.array(entries).reshape(6, 6)
    hessian = factor @ factor.T + 1e-3 * np.eye(6)
    geometry = ray_geometry(hessian, np.array(place))
    assert geometry is not None
    out = scaled(geometry[0], np.exp(size))
    np.testing.assert_array_equal(out, out.T)
    assert np.linalg.eigvalsh(out)[0] > -1e-12 * np.trace(out)
    group = [np.exp(np.log(np.sqrt(np.diag(out)))[g == GROUP_OF_AXIS].mean()) for g in range(3)]
    np.testing.assert_allclose(group, np.exp(size), rtol=1e-6)


def test_the_scatter_of_independent_errors_is_that_of_the_pose(camera, objects):
    """Where every residual is independent, the sandwich is the covariance of the solution."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-0.05, 0.05, (400, 3))
    truth = project(camera, POSE.apply(points))
    steps, sizes = [], []
    for _ in range(200):
        deviation = np.where(points[:, :1] > 0, 1.2, 0.1)  # uneven, so that the Hessian alone cannot know
        pixels = truth + deviation * rng.normal(size=truth.shape)
        given = replace(
            predictions(objects[0].keypoints, camera, surface=SurfaceCloud(points, pixels, np.ones(400))),
            scores=np.full(6, 1e-9),
            threshold=1e6,
        )
        evidence = gather(given, POSE, camera, 100.0, 1.0, 1.0)
        spread, turn = ray_geometry(evidence.hessian, POSE.translation)
        sizes.append(columns(evidence, spread, turn)[-3:])
        # One Gauss-Newton step from the true pose, by finite differences of the cost.
        steps.append(turn @ _step(camera, points, pixels))
    deviations = np.log(np.std(steps, axis=0))
    wanted = [deviations[group == GROUP_OF_AXIS].mean() for group in range(3)]
    np.testing.assert_allclose(np.mean(sizes, axis=0), wanted, atol=0.1)


def _step(camera, points, pixels):
    base, step = project(camera, POSE.apply(points)), 1e-6
    jacobian = np.stack([(project(camera, turned(POSE, row).apply(points)) - base) / step for row in np.eye(6) * step])
    return np.linalg.lstsq(jacobian.reshape(6, -1).T, (pixels - base).ravel(), rcond=None)[0]


def test_coupling_weakens_what_position_and_rotation_have_in_common(camera, objects):
    evidence = gather(predictions(objects[0].keypoints, camera, noise=1.0), POSE, camera, 100.0, 1.0, 1.0)
    whole, loose = (model(coupling=value).predict(evidence, POSE, 'mug') for value in (1.0, 0.9))
    np.testing.assert_allclose(loose[:3, :3], whole[:3, :3], atol=1e-15)
    np.testing.assert_allclose(loose[3:, 3:], whole[3:, 3:], atol=1e-15)
    np.testing.assert_allclose(loose[:3, 3:], 0.9 * whole[:3, 3:], atol=1e-15)


def test_a_hessian_without_inverse_gives_no_covariance(camera, objects):
    evidence = gather(predictions(objects[0].keypoints, camera), POSE, camera, 100.0, 1.0, 1.0)
    for wrong in (np.zeros((6, 6)), np.full((6, 6), np.nan), -np.eye(6)):
        blind = replace(evidence, hessian=wrong)
        assert model().predict(blind, POSE, 'mug') is None


def test_the_symmetric_equivalent_has_the_covariance_of_its_own_origin():
    rng = np.random.default_rng(1)
    factor = np.diag([2e-3, 1e-3, 5e-3, 0.02, 0.03, 0.01]) @ rng.normal(size=(6, 6))
    covariance, moved = factor @ factor.T / 6, np.array([0.05, -0.1, 0.2])
    steps = rng.multivariate_normal(np.zeros(6), covariance * 1e-4, 20000)  # small: the map is then linear
    other = steps.copy()
    for row in range(len(steps)):
        other[row, :3] += cv2.Rodrigues(steps[row, 3:])[0] @ moved - moved
    found = after_symmetry(covariance * 1e-4, moved)
    scale = np.sqrt(np.outer(np.diag(found), np.diag(found)))
    np.testing.assert_allclose(np.cov(other.T) / scale, found / scale, atol=0.04)


def test_the_estimator_gives_covariances_to_a_calibrated_bundle(bundle, camera, image):
    truth = RigidTransform(POSE.rotation, [0.05, 0.02, 0.6])
    corners = project(camera, truth.apply(bundle.object('mug').keypoints))
    box = [Detection('mug', 0.9, np.concatenate([corners.min(0), corners.max(0)]))]
    engine = FakeEngine(bundle, camera, [('mug', truth)], noise_px=1.0)
    one = EstimatorSettings(track=False, find=False)
    plain = PoseEstimator(bundle, engine, one)
    assert plain.estimate(image, camera, 0.0, box)[0].covariance is None
    assert plain.report.evidence == ()
    known = replace(bundle, covariance=model().record())
    robot = PoseEstimator(known, engine, one, keep_evidence=True)
    (pose,) = robot.estimate(image, camera, 0.0, box)
    assert len(robot.report.evidence) == 1
    np.testing.assert_allclose(pose.covariance, pose.covariance.T)
    assert np.linalg.eigvalsh(pose.covariance)[0] > 0
    assert np.sqrt(np.diag(pose.covariance)[:3]).max() < 0.05
    # Nothing was calibrated on poses that are fitted to outlines.
    mesh = Mesh(bundle.object('mug').keypoints, np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5]]))
    fitted = replace(one, fit_outline=True, objects=('mug',))
    other = PoseEstimator(known, engine, fitted, outlines=Outlines(bundle, ['mug'], {'mug': mesh}))
    assert other.estimate(image, camera, 0.0, box)[0].covariance is None


def test_a_precision_with_errors_of_its_own_has_a_record_of_its_own(bundle, camera, image):
    truth = RigidTransform(POSE.rotation, [0.05, 0.02, 0.6])
    corners = project(camera, truth.apply(bundle.object('mug').keypoints))
    box = [Detection('mug', 0.9, np.concatenate([corners.min(0), corners.max(0)]))]
    wider = replace(model(), offset=model().offset + np.log(2.0))
    covariance = with_record(with_record(None, 'fp32', model().record()), 'int8-cpu', wider.record())
    size = {}
    for precision in ('fp32', 'fp16', 'int8-cpu', 'int8'):
        engine = FakeEngine(bundle, camera, [('mug', truth)], noise_px=1.0)
        engine.precision = precision
        robot = PoseEstimator(
            replace(bundle, covariance=covariance), engine, EstimatorSettings(track=False, find=False)
        )
        size[precision] = np.trace(robot.estimate(image, camera, 0.0, box)[0].covariance)
    assert size['fp16'] == size['fp32']
    assert size['int8-cpu'] == pytest.approx(4 * size['fp32'])
    assert size['int8'] == size['int8-cpu']  # rounds alike


def test_records_of_precisions_stand_beside_each_other():
    first, second, third = ({**model().record(), 'calibrated_on': number} for number in range(3))
    alone = with_record(None, 'int8-cpu', first)
    assert alone == first  # the only one counts for all
    assert record_of(alone, 'fp32') == first
    both = with_record(with_record(None, 'fp32', first), 'int8-cpu', second)
    assert record_of(both, 'fp32')['calibrated_on'] == 0
    assert record_of(both, 'int8-cpu') == second
    renewed = with_record(both, 'fp32', third)
    assert record_of(renewed, 'fp16')['calibrated_on'] == 2
    assert record_of(renewed, 'int8-cpu') == second


@pytest.fixture
def stored(tmp_path, network, objects, plain_file):
    from kd6d_ros.inference.bundle_records import DecodeSpec

    folder = tmp_path / 'mug'
    write_bundle(folder, name='mug', objects=objects, network=network, decode=DecodeSpec(),
                 engines={'fp32': plain_file}, licence='Apache-2.0', origin='tests')  # fmt: skip
    return folder


def test_a_covariance_goes_into_a_bundle_and_comes_back(stored):
    weights = np.random.default_rng(0).normal(size=(3, len(COLUMNS)))
    wanted = replace(
        model(weights, objects={'mug': np.array([0.1, 0.2, -0.3])}), views={'mug': np.arange(9.0).reshape(3, 3)}
    )
    before = {path.name: path.read_bytes() for path in stored.iterdir() if path.name != 'bundle.yaml'}
    set_covariance(stored, model().record())
    manifest = stored / 'bundle.yaml'
    manifest.write_text(manifest.read_text().replace('kind: log_linear', 'kind: of_another_version'))
    with pytest.raises(BundleError, match='does not know'):
        load_bundle(stored)
    set_covariance(stored, {**wanted.record(), 'calibrated_on': {'poses': 2000}})
    again = read_model(load_bundle(stored).covariance, 'bundle')
    np.testing.assert_allclose(again.weights, weights, atol=1e-6)
    np.testing.assert_allclose(again.objects['mug'], [0.1, 0.2, -0.3])
    np.testing.assert_allclose(again.views['mug'], np.arange(9.0).reshape(3, 3))
    assert {path.name: path.read_bytes() for path in stored.iterdir() if path.name != 'bundle.yaml'} == before


@pytest.mark.parametrize(('change', 'said'), [
    ({'kind': 'other'}, 'does not know'),
    ({'columns': ['a']}, 'does not know'),
    ({'offset': [1.0, 2.0]}, 'offset: expected 3 finite numbers'),
    ({'weights': 'many'}, f'weights: expected 3 x {len(COLUMNS)} finite numbers'),
    ({'mean': [float('nan')] * len(COLUMNS)}, f'mean: expected {len(COLUMNS)} finite numbers'),
    ({'scale': [0.0] * len(COLUMNS)}, 'scale must be positive'),
    ({'coupling': 1.5}, 'coupling must be 0 to 1'),
    ({'coupling': 'tight'}, 'coupling: expected a finite number'),
    ({'objects': {'mug': [1]}}, 'objects.mug: expected 3 finite numbers'),
    ({'objects': {'cup': [0.0, 0.0, 0.0]}}, "'cup' is not an object"),
    ({'views': {'mug': [0.0, 0.0, 0.0]}}, 'views.mug: expected 3 x 3 finite numbers'),
    ({'views': [1.0]}, 'views must map names of objects to numbers'),
    ({'views': {'cup': np.zeros((3, 3)).tolist()}}, "'cup' is not an object"),
    ({'precisions': [1]}, 'precisions must map names of precisions to records'),
    ({'precisions': {'int8': 1}}, 'precisions must map names of precisions to records'),
    ({'precisions': {'int8': {'kind': 'other'}}}, 'int8: the covariance is of a kind'),
])  # fmt: skip
def test_a_covariance_that_cannot_be_meant_is_refused(stored, change, said):
    before = (stored / 'bundle.yaml').read_bytes()
    with pytest.raises(BundleError, match=r'covariance|object') as caught:
        set_covariance(stored, {**model().record(), **change})
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)
    assert (stored / 'bundle.yaml').read_bytes() == before
    assert sorted(path.name for path in stored.iterdir()) == ['bundle.yaml', 'model_fp32.onnx']


def test_disagreement_is_a_share_of_the_largest_cost(bundle, camera):
    """0 for what the predictions say, 1 far from it, more the farther; surface points count beside corners."""
    model, truth = bundle.object('mug'), RigidTransform(np.eye(3), np.array([0.05, 0.0, 0.7]))
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.05, 0.05, (60, 3))
    cloud = SurfaceCloud(points, project(camera, truth.apply(points)), np.ones(60))
    pixels = np.repeat(project(camera, truth.apply(model.keypoints))[None], 10, axis=0)
    for surface in (None, cloud):
        predictions = Predictions(model.keypoints, pixels, np.ones(10), surface, 5.0, 4.0)
        moved = [
            RigidTransform(np.eye(3), truth.translation + np.array([shift, 0, 0]))
            for shift in (0, 0.002, 0.005, 0.02, 1.0)
        ]
        found = [disagreement(predictions, pose, camera) for pose in moved]
        assert found[0] == pytest.approx(0, abs=1e-9)
        assert found == sorted(found)
        assert found[-1] == pytest.approx(1, abs=1e-3)
    codes = CodePredictions(cloud, 0.9, 5.0, 4.0)
    assert disagreement(codes, truth, camera) == pytest.approx(0, abs=1e-9)
    # Half of the surface points elsewhere: half of the cost that they can have.
    half = replace(cloud, pixels=np.where(np.arange(60)[:, None] < 30, cloud.pixels, cloud.pixels + 1e4))
    assert disagreement(replace(codes, surface=half), truth, camera) == pytest.approx(0.5, abs=1e-3)
