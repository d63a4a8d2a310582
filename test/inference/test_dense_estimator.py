"""The robot side of a dense bundle without a network: rendered code maps in, poses out, through the whole estimator."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from code_books import box_codes, box_model
from code_engine import CodeEngine
from painted_codes import network_spec

from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.geometry.transforms import rotation_angle
from kd6d_ros.inference import gates
from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec
from kd6d_ros.inference.covariance import COLUMNS, CovarianceModel
from kd6d_ros.inference.engines.fake import coordinate_image
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.evidence import FEATURES
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.inference.workspace import Workspace
from kd6d_ros.types import Detection, RigidTransform

LENS = (-0.28, 0.07, 0.001, -0.0005, 0.0)


@pytest.fixture(scope='module')
def dense():
    """Two objects of one shape, so that only the class tells them apart."""
    models = tuple(replace(box_model(name, obj_id), mesh=None) for name, obj_id in (('box', 1), ('other', 2)))
    books = tuple(replace(box_codes()[0], name=item.name, obj_id=item.obj_id) for item in models)
    return Bundle('dense', models, network_spec((320, 256)), DecodeSpec(0.5, 1000), kind='dense', books=books)


@pytest.fixture
def engine(dense, camera, monkeypatch):
    return CodeEngine(dense, camera, monkeypatch)


def at(x, y, z, rotation=(0.4, 0.8, 0.2)):
    return RigidTransform(cv2.Rodrigues(np.array(rotation, dtype=float))[0], np.array([x, y, z], dtype=float))


def any_pose(rng):
    return at(*rng.uniform([-0.1, -0.07, 0.4], [0.1, 0.07, 1.0]), rng.normal(size=3) * 1.5)


def gap(estimate, truth):
    """Difference [m], [deg]."""
    apart = np.linalg.norm(estimate.cam_from_obj.translation - truth.translation)
    return apart, np.degrees(rotation_angle(estimate.cam_from_obj.rotation, truth.rotation))


def assert_exact(estimate, truth):
    shift, turn = gap(estimate, truth)
    assert shift < 1e-3
    assert turn < 0.5


def box_of(model, camera, pose):
    pixels = project(camera, pose.apply(model.keypoints))
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def robot(dense, engine, **settings):
    return PoseEstimator(dense, engine, EstimatorSettings(**settings))


@pytest.mark.parametrize('lens', [(), LENS], ids=['pinhole', 'distorted'])
def test_perfect_code_maps_give_the_pose(dense, camera, image, monkeypatch, lens):
    """Within 1 mm and 0.5 degrees: from a detector's box, by itself, and tracked."""
    if lens:
        camera = make_camera(camera.matrix, 640, 480, 'plumb_bob', lens)
    engine = CodeEngine(dense, camera, monkeypatch)
    estimator, rng = robot(dense, engine), np.random.default_rng(3)
    for number in range(3):
        truth = any_pose(rng)
        engine.scene = [('box', truth)]
        estimator.reset()
        (found,) = estimator.estimate(image, camera, float(number))
        assert estimator.report.mode == 'frame'
        assert_exact(found, truth)
        (found,) = estimator.estimate(image, camera, number + 0.03)
        assert estimator.report.mode == 'tracked'
        assert_exact(found, truth)
        box = box_of(dense.objects[0], camera, truth) + rng.uniform(-6, 6, 4)
        (found,) = estimator.estimate(image, camera, number + 0.06, [Detection('box', 0.9, box)])
        assert_exact(found, truth)
        assert found.score == pytest.approx(0.95, abs=1e-6)
        assert found.inliers > 0.95 * found.correspondences
    assert {shape[1:] for shape in engine.runs} == {(256, 320, 3), (128, 128, 3)}


def test_one_look_at_the_whole_frame_finds_several_objects(dense, camera, image, engine):
    truths = {'box': at(-0.12, 0.0, 0.7), 'other': at(0.12, 0.02, 0.8, (1.0, -0.5, 0.3))}
    engine.scene = list(truths.items())
    found = robot(dense, engine).estimate(image, camera, 0.0)
    assert [shape[0] for shape in engine.runs] == [1, 2]
    assert {item.object_name for item in found} == set(truths)
    for item in found:
        assert_exact(item, truths[item.object_name])


def test_two_instances_of_one_object_are_told_apart(dense, camera, image, engine):
    truths = [at(-0.12, 0.0, 0.7), at(0.12, 0.02, 0.8, (1.0, -0.5, 0.3))]
    engine.scene = [('box', truth) for truth in truths]
    estimator = robot(dense, engine, objects=('box',), max_instances=2)
    for stamp in (0.0, 0.1):
        found = sorted(estimator.estimate(image, camera, stamp), key=lambda item: item.cam_from_obj.translation[0])
        assert len(found) == 2
        for item, truth in zip(found, truths, strict=True):
            assert_exact(item, truth)


def test_an_object_that_is_cut_in_two_by_something_before_it_is_one(dense, camera, image, engine):
    truth = at(0.02, 0.0, 0.6)
    engine.scene = [('box', truth)]

    def bar(maps):
        mask = maps.mask.copy()
        middle = mask.shape[1] // 2
        mask[:, middle - 4 : middle + 4] = 0.02
        return replace(maps, mask=mask)

    engine.spoil = bar
    box = box_of(dense.objects[0], camera, truth)
    (found,) = robot(dense, engine).estimate(image, camera, 0.0, [Detection('box', 0.9, box)])
    assert_exact(found, truth)


def test_wrong_bits_cost_inliers_and_not_the_pose(dense, camera, image, engine):
    truth = at(0.02, 0.0, 0.6)
    engine.scene = [('box', truth)]
    rng = np.random.default_rng(0)

    def third_lost(maps):
        lost = rng.random(maps.mask.shape) < 0.33
        return replace(maps, code=np.where(lost, rng.random(maps.code.shape), maps.code).astype(np.float32))

    engine.spoil = third_lost
    (found,) = robot(dense, engine).estimate(image, camera, 0.0)
    shift, turn = gap(found, truth)
    assert shift < 3e-3
    assert turn < 0.5
    assert 0.55 < found.inliers / found.correspondences < 0.8


def unsure(maps):
    return replace(maps, mask=np.where(maps.mask > 0.5, 0.55, 0.0).astype(np.float32))


def scattered(maps):
    return replace(maps, code=np.random.default_rng(0).random(maps.code.shape, dtype=np.float32))


def six_cells(maps):
    mask = np.zeros_like(maps.mask)
    mask[:2, :3] = 0.9
    return replace(maps, mask=mask)


def nothing(maps):
    return replace(maps, mask=np.zeros_like(maps.mask))


@pytest.mark.parametrize(
    ('spoil', 'reasons'),
    [
        (unsure, {gates.SCORE}),
        (scattered, {gates.RATIO, gates.NO_POSE, gates.INLIERS}),
        (six_cells, {gates.NO_CELLS}),
        (nothing, {gates.NO_CELLS}),
    ],
)
def test_what_no_pose_can_be_trusted_on_is_refused_with_its_reason(dense, camera, image, engine, spoil, reasons):
    truth = at(0.02, 0.0, 0.6)
    engine.scene, engine.spoil = [('box', truth)], spoil
    estimator = robot(dense, engine)
    box = box_of(dense.objects[0], camera, truth)
    assert estimator.estimate(image, camera, 0.0, [Detection('box', 0.9, box)]) == []
    assert {item.reason for item in estimator.report.rejections} <= reasons
    assert estimator.report.rejections
    assert estimator.estimate(image, camera, 1.0) == []  # nor is it found in the whole frame


def test_the_other_gates_hold_as_well(dense, camera, image, engine):
    truth = at(0.02, 0.0, 0.6)
    engine.scene = [('box', truth)]
    for settings, reason in (
        ({'max_distance': 0.5}, gates.TOO_FAR),
        ({'min_distance': 0.7}, gates.TOO_NEAR),
        ({'min_inliers': 5000}, gates.INLIERS),
        ({'min_score': 0.97}, gates.SCORE),
    ):
        estimator = robot(dense, engine, **settings)
        box = box_of(dense.objects[0], camera, truth)
        assert estimator.estimate(image, camera, 0.0, [Detection('box', 0.9, box)]) == []
        assert {item.reason for item in estimator.report.rejections} == {reason}
    estimator = robot(dense, engine)
    estimator.workspace = Workspace(np.full(3, 0.3), np.full(3, 0.4), RigidTransform.identity())
    assert estimator.estimate(image, camera, 0.0) == []
    assert gates.WORKSPACE in {item.reason for item in estimator.report.rejections}


def test_a_least_mask_probability_can_be_asked_for(dense, camera, image, engine):
    engine.scene = [('box', at(0.02, 0.0, 0.6))]
    strict = robot(dense, engine, score_threshold=0.96)
    assert strict.estimate(image, camera, 0.0) == []
    assert len(robot(dense, engine, score_threshold=0.9).estimate(image, camera, 0.0)) == 1


def test_cells_beyond_the_most_are_left_out_all_over_the_object(dense, camera, image, monkeypatch):
    few = replace(dense, decode=replace(dense.decode, cells_per_object=60))
    engine = CodeEngine(few, camera, monkeypatch, [('box', at(0.02, 0.0, 0.6))])
    estimator = PoseEstimator(few, engine, keep_evidence=True)
    (found,) = estimator.estimate(image, camera, 0.0)
    assert found.correspondences == 60
    shift, turn = gap(found, engine.scene[0][1])
    assert shift < 3e-3
    assert turn < 0.5
    # The area that was seen does not shrink with the cells that are used.
    area = estimator.report.evidence[0].features[FEATURES.index('seen_area')]
    whole = PoseEstimator(dense, engine, keep_evidence=True)
    whole.estimate(image, camera, 0.0)
    assert area == pytest.approx(whole.report.evidence[0].features[FEATURES.index('seen_area')], abs=0.15)


def test_without_a_frame_size_it_needs_boxes_and_says_so(dense, camera, image, engine):
    engine.scene = [('box', at(0.02, 0.0, 0.6))]
    blind = replace(dense, network=replace(dense.network, frame_size=None))
    estimator = PoseEstimator(blind, engine)
    assert not estimator.can_find
    assert robot(dense, engine).can_find
    assert estimator.estimate(image, camera, 0.0) == []
    assert (estimator.report.mode, engine.runs) == ('idle', [])


def test_the_evidence_tells_good_maps_from_bad_ones(dense, camera, image, engine):
    truth = at(0.02, 0.0, 0.6)
    engine.scene = [('box', truth)]
    estimator = PoseEstimator(dense, engine, keep_evidence=True)
    estimator.estimate(image, camera, 0.0)
    (good,) = estimator.report.evidence
    rng = np.random.default_rng(0)

    def worse(maps):
        lost = rng.random(maps.mask.shape) < 0.3
        return replace(maps, code=np.where(lost, 0.2 + 0.6 * rng.random(maps.code.shape), maps.code))

    engine.spoil = worse
    estimator.reset()
    estimator.estimate(image, camera, 0.0)
    (bad,) = estimator.report.evidence
    for evidence in (good, bad):
        assert np.isfinite(evidence.features).all()
        assert np.linalg.eigvalsh(evidence.hessian).min() > 0
    more = dict(zip(FEATURES, bad.features - good.features, strict=True))
    assert more['corner_spread'] > 0.5  # how unsure the codes are
    assert more['inlier_ratio'] < -0.1
    assert np.trace(bad.hessian) < np.trace(good.hessian)


def test_a_calibrated_bundle_gives_covariances(dense, camera, image, engine):
    engine.scene = [('box', at(0.02, 0.0, 0.6))]
    size = len(COLUMNS)
    law = CovarianceModel(np.zeros(size), np.ones(size), np.log([0.001, 0.004, 0.01]), np.zeros((3, size)), {}, 1.0)
    (found,) = PoseEstimator(replace(dense, covariance=law.record()), engine).estimate(image, camera, 0.0)
    assert found.covariance.shape == (6, 6)
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    assert found.covariance[2, 2] ** 0.5 == pytest.approx(0.004, rel=0.3)


def test_the_same_image_gives_the_same_pose(dense, camera, engine):
    image = coordinate_image(camera)
    engine.scene = [('box', at(0.05, -0.03, 0.8))]
    poses = []
    for _ in range(2):
        (found,) = robot(dense, engine).estimate(image, camera, 0.0)
        poses.append(found.cam_from_obj.matrix())
    np.testing.assert_array_equal(poses[0], poses[1])
