"""The whole robot side without a network: the fake engine sees given objects at given poses."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from kd6d_ros.errors import BundleError, CameraError, ConfigError, ImageError
from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.inference import gates
from kd6d_ros.inference.engines.fake import FakeEngine, coordinate_image
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.outline_fit import OutlineFit, fit_outline
from kd6d_ros.inference.outlines import Outlines
from kd6d_ros.inference.records import STAGES
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import Detection, Mesh, RigidTransform


def at(x, y, z, rotation=(0.4, 0.8, 0.2)):
    return RigidTransform(cv2.Rodrigues(np.array(rotation, dtype=float))[0], np.array([x, y, z], dtype=float))


def add(estimate, truth, model):
    return np.linalg.norm(estimate.apply(model.keypoints) - truth.apply(model.keypoints), axis=1).mean()


def box_of(bundle, camera, name, pose):
    pixels = project(camera, pose.apply(bundle.object(name).keypoints))
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def estimator(bundle, engine, **settings):
    return PoseEstimator(bundle, engine, EstimatorSettings(**settings))


@pytest.mark.parametrize('name', ['mug', 'off', 'brick'])
def test_finds_and_then_tracks(bundle, camera, image, fake, name):
    truth = at(0.05, 0.02, 0.7)
    fake.scene = [(name, truth)]
    fake.noise_px = 0.3
    robot = estimator(bundle, fake, objects=(name,))
    model = bundle.object(name)
    for step in range(3):
        poses = robot.estimate(image, camera, step / 30)
        assert [p.instance_id for p in poses] == [f'{name}_0']
        assert add(poses[0].cam_from_obj, truth, model) < 0.02 * model.diameter
        assert poses[0].score == pytest.approx(0.87, abs=0.05)
        assert poses[0].inliers == poses[0].correspondences
        assert 0 < poses[0].reprojection_error_px < 1.5
        assert robot.report.mode == ('frame' if step == 0 else 'tracked')
    assert [r.mode for r in robot.report.regions] == ['tracked']
    assert fake.runs == [(1, 480, 640, 3), (1, 128, 128, 3), (1, 128, 128, 3), (1, 128, 128, 3)]


LENSES = {
    'plumb_bob': (-0.28, 0.07, 0.001, -0.0005, 0.0),
    'rational_polynomial': (0.4, -0.1, 0.0002, 0.0001, 0.01, 0.7, -0.05, 0.02),
    'equidistant': (0.02, -0.01, 0.003, -0.001),
}


@pytest.mark.parametrize('lens', sorted(LENSES))
def test_distorted_images(bundle, camera, lens):
    camera = make_camera(camera.matrix, 640, 480, lens, LENSES[lens])
    truth = at(-0.18, -0.12, 0.6)
    robot = estimator(bundle, FakeEngine(bundle, camera, [('off', truth)]), objects=['off'])
    for step in range(2):
        pose = robot.estimate(coordinate_image(camera), camera, step / 30)[0]
        assert add(pose.cam_from_obj, truth, bundle.object('off')) < 0.01 * 0.16


@pytest.mark.parametrize(('noise', 'outliers'), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.25)])
def test_recovers_many_poses_under_noise_and_outliers(bundle, camera, image, noise, outliers):
    rng = np.random.default_rng(0)
    errors = []
    for seed in range(25):
        z = rng.uniform(0.4, 1.0)
        truth = at(rng.uniform(-0.2, 0.2) * z, rng.uniform(-0.15, 0.15) * z, z, rng.uniform(-2, 2, 3))
        engine = FakeEngine(bundle, camera, [('mug', truth)], noise, outliers, seed=seed)
        poses = estimator(bundle, engine, objects=['mug']).estimate(image, camera, 0.0)
        assert len(poses) == 1
        errors.append(add(poses[0].cam_from_obj, truth, bundle.object('mug')) / 0.17)
    assert np.mean(np.array(errors) < 0.1) >= 0.95
    assert np.median(errors) < 0.01 + 0.03 * noise


def test_detections_are_measured_then_measured_again(bundle, camera, image, fake):
    truth = at(0.05, 0.02, 0.7)
    fake.scene = [('mug', truth)]
    box = box_of(bundle, camera, 'mug', truth) + np.array([0, 5, -10, -2])
    robot = estimator(bundle, fake)
    detections = [
        Detection('mug', 0.9, box),
        Detection('unknown', 0.9, box),
        Detection('mug', 0.8, np.array([5, 5, 5, 9.0])),
        Detection('mug', 0.7, np.array([np.nan, 5, 50, 90])),
    ]
    poses = robot.estimate(image, camera, 0.0, detections)
    assert len(poses) == 1
    assert add(poses[0].cam_from_obj, truth, bundle.object('mug')) < 0.002
    assert robot.report.mode == 'detections'
    assert [r.mode for r in robot.report.regions] == ['detections', 'measure']
    once = estimator(bundle, fake, refine_crops=0)
    assert len(once.estimate(image, camera, 0.0, detections)) == 1
    assert [r.mode for r in once.report.regions] == ['detections']


@pytest.mark.parametrize(('limit', 'reason'), [(10.0, gates.TOO_MANY), (0.9, gates.TOO_FAR)])
def test_a_spare_detection_is_too_many_only_where_it_would_be_published(bundle, camera, image, fake, limit, reason):
    fake.scene = [('mug', at(-0.15, 0.02, 0.7)), ('mug', at(0.25, -0.1, 1.0))]
    robot = estimator(bundle, fake, max_distance=limit)
    poses = robot.estimate(
        image, camera, 0.0, [Detection('mug', 0.9, box_of(bundle, camera, *mug)) for mug in fake.scene]
    )
    assert len(poses) == 1
    assert robot.report.counts() == {reason: 1}


@pytest.mark.parametrize(
    ('scores', 'instances', 'limit', 'measured'),
    [
        ((0.9, 0.5, 0.2), 1, 10.0, 1),  # the first one's score times that of its cells is more than the second's
        ((0.9, 0.85, 0.2), 1, 10.0, 2),  # 0.85 might win, were its cells perfect
        ((0.0, 0.0, 0.0), 1, 10.0, 3),  # a detector without scores
        ((0.9, 0.5, 0.2), 1, 0.5, 3),  # no pose of the first one that the gates let pass
        ((0.9, 0.5, 0.48), 2, 10.0, 3),  # of two instances the weaker one is to be beaten
        ((0.9, 0.5, 0.2), 2, 10.0, 2),
    ],
)
def test_spare_boxes_that_cannot_win_are_not_measured(bundle, camera, image, fake, scores, instances, limit, measured):
    fake.scene = [('mug', at(-0.2, 0.02, 0.7)), ('mug', at(0.25, -0.1, 1.0)), ('mug', at(0.02, 0.1, 0.9))]
    robot = estimator(bundle, fake, max_instances=instances, max_distance=limit, refine_crops=0)
    boxes = [box_of(bundle, camera, *mug) for mug in fake.scene]
    robot.estimate(image, camera, 0.0, [Detection('mug', *item) for item in zip(scores, boxes, strict=True)])
    assert len(robot.report.regions) == measured


def test_a_search_measures_a_second_place_where_the_first_is_refused(bundle, camera, image, fake):
    """Two mugs, of which the gates allow one: with one place it is found or not, as the cells' support has it."""
    near, far = at(-0.15, 0.02, 0.7), at(0.25, -0.1, 1.0)
    fake.scene = [('mug', near), ('mug', far)]
    found = {}
    for places in (1, 2):
        for truth, limits in ((near, {'max_distance': 0.9}), (far, {'min_distance': 0.9})):
            robot = estimator(bundle, fake, objects=('mug',), search_places=places, track=False, **limits)
            poses = robot.estimate(image, camera, 0.0)
            found[places] = found.get(places, 0) + len(poses)
            for pose in poses:
                assert add(pose.cam_from_obj, truth, bundle.object('mug')) < 0.002
    assert found == {1: 1, 2: 2}


def test_a_second_place_is_one_too_many_where_both_are_good(bundle, camera, image, fake):
    fake.scene = [('mug', at(-0.15, 0.02, 0.7)), ('mug', at(0.25, -0.1, 1.0))]
    robot = estimator(bundle, fake, objects=('mug',), track=False)
    assert len(robot.estimate(image, camera, 0.0)) == 1
    assert robot.report.counts() == {gates.TOO_MANY: 1}


LOOSE = {
    'min_score': 0.0, 'min_inliers': 4, 'min_inlier_ratio': 0.0, 'max_reprojection_error_px': 100.0,
    'max_reprojection_error_relative': 0.5,
}  # fmt: skip


def worse_at(fake, monkeypatch, place, **worse):
    """The engine's attributes `worse` hold for the object at `place` only."""
    usual = {name: getattr(fake, name) for name in worse}
    cells = fake._cells

    def changed(index, pose, *rest):
        for name, value in (worse if pose is place else usual).items():
            setattr(fake, name, value)
        return cells(index, pose, *rest)

    monkeypatch.setattr(fake, '_cells', changed)


@pytest.mark.parametrize(('scores', 'first_wins'), [((0.9, 0.5), True), ((0.5, 0.9), False), ((0.0, 0.0), True)])
def test_scores_and_not_agreement_say_which_place_shows_the_object(
    monkeypatch, bundle, camera, image, fake, scores, first_wins
):
    """A place that shows something else can agree with itself perfectly; it has a lower score, of the detector, or
    where that gives none, of the network."""
    first, second = at(-0.15, 0.02, 0.7), at(0.25, -0.1, 1.0)
    fake.scene = [('mug', first), ('mug', second)]
    fake.score = 0.9 if any(scores) else 0.5
    worse_at(fake, monkeypatch, first, noise_px=4.0, score=0.9)
    boxes = [Detection('mug', s, box_of(bundle, camera, *mug)) for s, mug in zip(scores, fake.scene, strict=True)]
    for times in (0, 1):
        robot = estimator(bundle, fake, **LOOSE, refine_crops=times)
        (pose,) = robot.estimate(image, camera, 0.0, boxes)
        nearest = min((first, second), key=lambda truth: add(pose.cam_from_obj, truth, bundle.object('mug')))
        assert nearest is (first if first_wins else second)


def test_of_two_measurements_of_one_instance_the_one_that_agrees_is_kept(monkeypatch, bundle, camera, image, fake):
    truth = at(0.05, 0.02, 0.7)
    fake.scene = [('mug', truth)]
    one, calls = fake._one, []

    def noisy_first(picture, allowed):
        calls.append(len(calls))
        fake.noise_px = 6.0 if calls[-1] == 0 else 0.0
        return one(picture, allowed)

    monkeypatch.setattr(fake, '_one', noisy_first)
    box = box_of(bundle, camera, 'mug', truth)
    robot = estimator(bundle, fake, **LOOSE, refine_crops=0)
    (pose,) = robot.estimate(image, camera, 0.0, [Detection('mug', 0.9, box), Detection('mug', 0.8, box + 3)])
    assert calls == [0, 1]
    assert add(pose.cam_from_obj, truth, bundle.object('mug')) < 0.002
    assert robot.report.counts() == {gates.DUPLICATE: 1}


def test_a_wrong_rough_pose_does_not_send_the_next_crop_astray(monkeypatch, bundle, camera, image, fake):
    truth = at(0.05, 0.02, 0.7)
    fake.scene = [('mug', truth)]
    robot = estimator(bundle, fake, **LOOSE, objects=('mug',), track=False, search_places=1)
    solve = robot._measurer._reader.solve

    def far_off(cells, found, crop, *rest):
        result, predictions = solve(cells, found, crop, *rest)
        if crop.width == 640:
            result = replace(result, cam_from_obj=at(-0.3, 0.15, 2.0))
        return result, predictions

    monkeypatch.setattr(robot._measurer._reader, 'solve', far_off)
    (pose,) = robot.estimate(image, camera, 0.0)
    assert add(pose.cam_from_obj, truth, bundle.object('mug')) < 0.002
    measured = [np.array(region.box) for region in robot.report.regions if region.mode == 'measure']
    np.testing.assert_allclose(measured, [box_of(bundle, camera, 'mug', truth)], atol=3)


def test_an_empty_list_of_detections_means_nothing_to_measure(bundle, camera, image, fake):
    fake.scene = [('mug', at(0, 0, 0.7))]
    robot = estimator(bundle, fake)
    assert robot.estimate(image, camera, 0.0, []) == []
    assert fake.runs == []


def test_a_huge_box_costs_no_time_and_one_outside_is_refused(bundle, camera, image, fake):
    robot = estimator(bundle, fake)
    robot.estimate(image, camera, 0.0, [Detection('mug', 0.9, np.array([-1e7, -1e7, 1e7, 1e7]))])
    assert robot.report.regions[0].box == (-640, -480, 1280, 960)
    assert robot.report.stages['preprocess'] < 0.5
    assert robot.estimate(image, camera, 0.1, [Detection('mug', 0.9, np.array([700.0, 0, 800, 90]))]) == []
    assert robot.report.counts() == {gates.OUTSIDE: 1}


def test_a_wrong_detection_gives_no_pose_and_a_reason(bundle, camera, image, fake):
    fake.scene = [('mug', at(0.15, 0.1, 0.7))]
    robot = estimator(bundle, fake)
    assert robot.estimate(image, camera, 0.0, [Detection('mug', 0.9, np.array([10, 10, 60, 60.0]))]) == []
    assert robot.report.counts() == {gates.NO_CELLS: 1}
    assert str(robot.report.rejections[0]).startswith('mug: no cell above the score threshold 0')


def test_two_instances_keep_their_ids(bundle, camera, image, fake):
    robot = estimator(bundle, fake, objects=['mug'], max_instances=2)
    for step in range(6):
        left, right = at(-0.15 + 0.01 * step, 0, 0.7), at(0.15 - 0.01 * step, 0.02, 0.8, (1, 0, 0.5))
        fake.scene = [('mug', left), ('mug', right)]
        poses = robot.estimate(image, camera, step / 30)
        assert len(poses) == 2
        ids = {p.instance_id: p.cam_from_obj for p in poses}
        if step == 0:
            first = {k: v.translation[0] > 0 for k, v in ids.items()}
        assert set(ids) == {'mug_0', 'mug_1'}
        for key, on_the_right in first.items():
            truth = right if on_the_right else left
            assert add(ids[key], truth, bundle.object('mug')) < 0.005


def test_several_objects_at_once(bundle, camera, image, fake):
    fake.scene = [('mug', at(-0.12, 0, 0.7)), ('off', at(0.0, 0.05, 0.8, (0, 0, 0))), ('brick', at(0, -0.1, 0.6))]
    robot = estimator(bundle, fake)
    for step in range(2):
        poses = robot.estimate(image, camera, step / 30)
        assert {p.instance_id for p in poses} == {'mug_0', 'off_0', 'brick_0'}
    assert robot.report.mode == 'tracked'
    assert fake.runs[-1] == (3, 128, 128, 3)


def test_a_symmetric_object_does_not_jump(bundle, camera, image, fake):
    """The network may answer with either of two equivalent poses; the published one is continuous."""
    turn = bundle.object('brick').symmetries.discrete[0]
    robot = estimator(bundle, fake, objects=['brick'])
    last = None
    for step in range(8):
        truth = at(0.01 * step, 0, 0.6, (0.4, 0.8 + 0.02 * step, 0.2))
        fake.scene = [('brick', truth @ turn if step % 2 else truth)]
        pose = robot.estimate(image, camera, step / 30)[0]
        assert pose.instance_id == 'brick_0'
        if last is not None:
            angle = np.degrees(np.linalg.norm(cv2.Rodrigues(pose.cam_from_obj.rotation @ last.T)[0]))
            assert angle < 5
        last = pose.cam_from_obj.rotation


def test_out_of_view_then_back_keeps_the_id_until_the_timeout(bundle, camera, image, fake):
    robot = estimator(bundle, fake, objects=['mug'], tracking_timeout_s=0.5)
    seen = [('mug', at(0, 0, 0.7))]
    fake.scene = seen
    assert robot.estimate(image, camera, 10.0)[0].instance_id == 'mug_0'
    fake.scene = []
    assert robot.estimate(image, camera, 10.1) == []
    assert robot.report.mode == 'tracked+frame'
    assert robot.report.counts() == {gates.NO_CELLS: 1}
    fake.scene = seen
    assert robot.estimate(image, camera, 10.2)[0].instance_id == 'mug_0'
    fake.scene = []
    assert robot.estimate(image, camera, 10.3) == []
    assert robot.estimate(image, camera, 10.8) == []
    assert robot.report.mode == 'frame'


def test_a_tracked_object_that_jumped_is_found_in_the_same_frame(bundle, camera, image, fake):
    robot = estimator(bundle, fake, objects=['mug'])
    fake.scene = [('mug', at(-0.2, 0, 0.7))]
    robot.estimate(image, camera, 0.0)
    truth = at(0.2, 0.1, 0.7)
    fake.scene = [('mug', truth)]
    poses = robot.estimate(image, camera, 1 / 30)
    assert robot.report.mode == 'tracked+frame'
    assert add(poses[0].cam_from_obj, truth, bundle.object('mug')) < 0.005


def test_the_only_instance_keeps_its_id_wherever_it_turns_up(bundle, camera, image, fake):
    robot = estimator(bundle, fake, objects=['mug'])
    for step, x in enumerate((-0.25, 0.25, -0.25)):
        fake.scene = [('mug', at(x, 0, 0.7))]
        assert [p.instance_id for p in robot.estimate(image, camera, step / 30)] == ['mug_0']


def test_an_id_is_free_again_after_the_timeout(bundle, camera, image, fake):
    robot = estimator(bundle, fake, objects=['mug'], max_instances=2, tracking_timeout_s=0.2, search_period_s=0)
    left, right = ('mug', at(-0.15, 0, 0.7)), ('mug', at(0.15, 0, 0.7))
    fake.scene = [left, right]
    ids = {p.cam_from_obj.translation[0] > 0: p.instance_id for p in robot.estimate(image, camera, 0.0)}
    fake.scene = [right]
    for step in range(1, 5):
        assert [p.instance_id for p in robot.estimate(image, camera, step / 10)] == [ids[True]]
    fake.scene = [left, right]
    again = {p.cam_from_obj.translation[0] > 0: p.instance_id for p in robot.estimate(image, camera, 0.5)}
    assert again == ids


def test_views_and_read_only_images_are_taken(bundle, camera, image, fake):
    fake.scene = [('mug', at(0, 0, 0.7))]
    bgr = np.ascontiguousarray(image[..., ::-1])
    bgr.setflags(write=False)
    expected = estimator(bundle, fake, objects=['mug']).estimate(image, camera, 0.0)[0]
    for view in (bgr[..., ::-1], np.flipud(np.flipud(image))):
        pose = estimator(bundle, fake, objects=['mug']).estimate(view, camera, 0.0)[0]
        assert (pose.cam_from_obj.matrix() == expected.cam_from_obj.matrix()).all()


def test_fast_motion_is_followed_by_velocity(bundle, camera, image, fake):
    """2 m/s at 0.7 m moves the object by half its size per image; from the third image on it is expected."""
    robot = estimator(bundle, fake, objects=['mug'], find=True)
    modes = []
    for step in range(6):
        fake.scene = [('mug', at(-0.2 + step * 2 / 30, 0, 0.7))]
        assert len(robot.estimate(image, camera, step / 30)) == 1
        modes.append(robot.report.mode)
    assert modes[2:] == ['tracked'] * 4


def test_without_search_a_lost_object_is_waited_for_where_it_was(bundle, camera, image, fake):
    robot = estimator(bundle, fake, objects=['mug'], find=False)
    truth = at(0, 0, 0.7)
    fake.scene = [('mug', truth)]
    assert robot.estimate(image, camera, 0.0) == []
    assert robot.report.mode == 'idle'
    assert len(robot.estimate(image, camera, 0.1, [Detection('mug', 1.0, box_of(bundle, camera, 'mug', truth))])) == 1
    fake.scene = []
    assert robot.estimate(image, camera, 0.2) == []
    fake.scene = [('mug', truth)]
    assert robot.estimate(image, camera, 0.3)[0].instance_id == 'mug_0'
    assert robot.report.mode == 'tracked'


def test_a_bundle_without_frame_size_never_searches(bundle, camera, image, fake):
    bundle = replace(bundle, network=replace(bundle.network, frame_size=None))
    robot = estimator(bundle, fake)
    assert not robot.can_find
    assert robot.estimate(image, camera, 0.0) == []
    assert fake.runs == []


def test_missing_objects_are_searched_now_and_then_while_another_is_tracked(bundle, camera, image, fake):
    fake.scene = [('mug', at(0, 0, 0.7))]
    robot = estimator(bundle, fake, objects=['mug', 'off'], search_period_s=0.5)
    modes = []
    for step in range(21):
        robot.estimate(image, camera, step / 20)
        modes.append(robot.report.mode)
    assert [i for i, mode in enumerate(modes) if mode != 'tracked'] == [0, 10, 20]


def test_time_repeated_is_ignored_and_time_going_back_starts_anew(bundle, camera, image, fake):
    robot = estimator(bundle, fake, objects=['mug'])
    fake.scene = [('mug', at(0, 0, 0.7))]
    assert len(robot.estimate(image, camera, 5.0)) == 1
    assert robot.estimate(image, camera, 5.0) == []
    assert robot.report.mode == 'ignored'
    assert robot.report.note == 'stamp repeated: image ignored'
    assert len(robot.estimate(image, camera, 1.0)) == 1
    assert robot.report.mode == 'frame'
    assert robot.report.note == 'time went back: all instances dropped'
    robot.reset()
    assert len(robot.estimate(image, camera, 1.0)) == 1
    assert robot.report.mode == 'frame'


def test_the_same_images_give_the_same_poses(bundle, camera, image):
    def run():
        truth = at(0.03, 0.01, 0.6)
        engine = FakeEngine(bundle, camera, [('mug', truth)], noise_px=2.0, outliers=0.2)
        robot = estimator(bundle, engine, objects=['mug'])
        return [robot.estimate(image, camera, k / 30)[0].cam_from_obj.matrix() for k in range(4)]

    assert all((a == b).all() for a, b in zip(run(), run(), strict=True))


GATES = [
    ({'min_score': 0.95}, at(0, 0, 0.7), gates.SCORE),
    ({'min_inliers': 81}, at(0, 0, 0.7), gates.INLIERS),
    ({'max_distance': 0.6}, at(0, 0, 0.7), gates.TOO_FAR),
    ({'min_distance': 0.8}, at(0, 0, 0.7), gates.TOO_NEAR),
    ({'min_visible': 0.9}, at(-0.4, 0, 0.7), gates.OUTSIDE),
]


@pytest.mark.parametrize(('settings', 'truth', 'reason'), GATES, ids=[g[2] for g in GATES])
def test_gates_refuse_with_a_reason(bundle, camera, image, fake, settings, truth, reason):
    fake.scene = [('mug', truth)]
    robot = estimator(bundle, fake, objects=['mug'], **settings)
    assert robot.estimate(image, camera, 0.0) == []
    assert reason in robot.report.counts()
    rejection = next(r for r in robot.report.rejections if r.reason == reason)
    assert rejection.object_name == 'mug'
    assert rejection.limit == pytest.approx(next(iter(settings.values())))


def test_the_bundle_s_score_gates_unless_the_settings_say_one(bundle, camera, image):
    # The fake engine scores a perfect pose around 0.9.
    strict = replace(bundle, decode=replace(bundle.decode, min_score=0.95))
    for made, settings, passes in ((bundle, {}, True), (strict, {}, False), (strict, {'min_score': 0.5}, True)):
        robot = estimator(made, FakeEngine(made, camera, [('mug', at(0, 0, 0.7))]), objects=['mug'], **settings)
        assert bool(robot.estimate(image, camera, 0.0)) is passes
        assert passes or all(item.limit == 0.95 for item in robot.report.rejections)


def test_inconsistent_corners_are_refused_by_reprojection_or_inliers(bundle, camera, image):
    engine = FakeEngine(bundle, camera, [('mug', at(0, 0, 0.7))], noise_px=12.0)
    robot = estimator(bundle, engine, objects=['mug'])
    assert robot.estimate(image, camera, 0.0) == []
    assert set(robot.report.counts()) <= {gates.RATIO, gates.INLIERS, gates.REPROJECTION, gates.NO_POSE}
    assert robot.report.rejections


def test_nan_passes_no_gate(bundle, camera):
    box = np.array([100.0, 100, 200, 200])
    good = gates.Candidate(bundle.object('mug'), at(0, 0, 0.7), 0.9, 80, 80, 1.0, box, box, 'tracked')
    settings = EstimatorSettings()
    assert gates.check(good, settings, camera) is None
    assert gates.check(replace(good, rms=float('nan')), settings, camera).reason == gates.REPROJECTION
    assert gates.check(replace(good, score=float('nan')), settings, camera).reason == gates.SCORE
    far = replace(good, box=np.array([np.nan, 0, 1, 1]))
    assert gates.check(far, settings, camera).reason == gates.NOT_FINITE
    behind = replace(good, cam_from_obj=at(0, 0, 0.03))
    assert gates.check(behind, settings, camera).reason == gates.BEHIND


def test_stages_are_measured(bundle, camera, image, fake):
    fake.scene = [('mug', at(0, 0, 0.7))]
    robot = estimator(bundle, fake, objects=['mug'])
    robot.estimate(image, camera, 0.0)
    stages = robot.report.stages
    assert set(stages) == set(STAGES)
    assert stages.pop('outline') == 0  # not asked for
    assert all(value > 0 for value in stages.values())
    assert sum(value for key, value in stages.items() if key != 'total') <= stages['total']


def test_bad_input_is_refused_in_one_line(bundle, camera, image, fake):
    robot = estimator(bundle, fake)
    with pytest.raises(ImageError, match=r'expected a uint8 RGB array \(height, width, 3\), got uint8 \(480, 640\)'):
        robot.estimate(image[..., 0], camera, 0.0)
    with pytest.raises(ImageError, match=r'got float64'):
        robot.estimate(image.astype(float), camera, 0.0)
    with pytest.raises(ImageError, match=r'got NoneType'):
        robot.estimate(None, camera, 0.0)
    with pytest.raises(CameraError, match=r'image is 320x480 but the camera is 640x480: use the camera_info'):
        robot.estimate(image[:, :320], camera, 0.0)
    with pytest.raises(ConfigError, match=r'stamp: expected a finite time in seconds, got nan'):
        robot.estimate(image, camera, float('nan'))
    with pytest.raises(ConfigError, match=r"no object 'cup': it knows mug, off, brick"):
        estimator(bundle, fake, objects=['cup'])


BLOCK = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
                  [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip
"""Triangles of a box whose corners are in the order of keypoints."""


def painted(camera, model, pose):
    """A red object before green noise."""
    rng = np.random.default_rng(0)
    picture = rng.normal((60, 150, 70), 15, (camera.height, camera.width, 3))
    own = np.zeros((camera.height, camera.width), np.uint8)
    for triangle in project(camera, pose.apply(model.keypoints))[BLOCK]:
        cv2.fillConvexPoly(own, np.round(triangle * 16).astype(np.int32), 1, cv2.LINE_8, 4)
    picture[own > 0] = rng.normal((190, 60, 50), 15, (int(own.sum()), 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_the_outline_corrects_a_distance(monkeypatch, bundle, camera, image, fake):
    """The network sees the coordinate image, with the mug a tenth too far; the outline is that of the true mug."""
    truth = at(0.02, -0.01, 0.7)
    model = bundle.object('mug')
    fake.scene = [('mug', RigidTransform(truth.rotation, truth.translation * 1.1))]
    outlines = Outlines(bundle, ['mug'], {'mug': Mesh(model.keypoints, BLOCK)})
    plain = estimator(bundle, fake, objects=('mug',))
    fitted = PoseEstimator(bundle, fake, EstimatorSettings(objects=('mug',), fit_outline=True), outlines=outlines)
    seen = painted(camera, model, truth)
    inner = fit_outline_with(seen)
    monkeypatch.setattr('kd6d_ros.inference.outlines.fit_outline', inner)
    # The fake network is sure of its wrong pose: its corners fit one another perfectly.
    monkeypatch.setattr('kd6d_ros.inference.outlines.SAME_ERROR', 1e9)
    for robot, most in ((plain, None), (fitted, 0.01)):
        (pose,) = robot.estimate(image, camera, 0.0)
        off = abs(pose.cam_from_obj.translation[2] / 0.7 - 1)
        assert off == pytest.approx(0.1, abs=0.01) if most is None else off < most
        assert robot.report.poses == 1
    assert robot.report.stages['outline'] > 0
    # What is tracked is the fitted pose.
    (region,) = [item.box for item in robot.report.regions if item.mode == 'measure']
    robot.estimate(image, camera, 0.03)
    (tracked,) = [item.box for item in robot.report.regions if item.mode == 'tracked']
    assert (tracked[2] - tracked[0]) > 1.05 * (region[2] - region[0])


def fit_outline_with(picture):
    """``fit_outline`` that looks at `picture` instead of the image of the frame."""

    def fit(model, image, *rest):
        return fit_outline(model, picture, *rest)

    return fit


def test_a_fitted_pose_meets_the_gates_too(monkeypatch, bundle, camera, image, fake):
    truth = at(0.02, -0.01, 0.7)
    fake.scene = [('mug', truth)]
    outlines = Outlines(bundle, ['mug'], {'mug': Mesh(bundle.object('mug').keypoints, BLOCK)})
    far = RigidTransform(truth.rotation, truth.translation * 1.2)
    monkeypatch.setattr('kd6d_ros.inference.outlines.fit_outline', lambda *_: OutlineFit(far, 0.9))
    settings = EstimatorSettings(objects=('mug',), fit_outline=True, max_distance=0.8)
    robot = PoseEstimator(bundle, fake, settings, outlines=outlines)
    assert robot.estimate(image, camera, 0.0) == []
    assert [item.reason for item in robot.report.rejections] == [gates.TOO_FAR]


def test_no_outline_without_a_mesh(bundle, fake):
    with pytest.raises(BundleError, match=r"'fake' carries no mesh of 'mug', which fit_outline needs: give a folder"):
        estimator(bundle, fake, fit_outline=True)


def test_of_two_measurements_the_one_that_fits_the_image_is_published(monkeypatch, bundle, camera, image, fake):
    """The second crop's pose is taken on the network's word; its outline agrees less than that of the first one."""
    truth = at(0.02, -0.01, 0.7)
    fake.scene, fake.noise_px = [('mug', truth)], 1.0
    outlines = Outlines(bundle, ['mug'], {'mug': Mesh(bundle.object('mug').keypoints, BLOCK)})
    box = box_of(bundle, camera, 'mug', truth) + np.array([-30, -10, 10, 30])
    fits = []

    def fit(agreements):
        def fit_outline(model, picture, camera, pose, *rest):
            fits.append(pose)
            return None if agreements[len(fits) - 1] is None else OutlineFit(pose, agreements[len(fits) - 1])

        return fit_outline

    # The one that is kept, usually the second, is fitted first.
    for agreements, taken in (((0.6, 0.9), 1), ((0.7, 0.5), 0), ((None, 0.6), 1), ((0.6, None), 0), ((None, None), 0)):
        fits.clear()
        monkeypatch.setattr('kd6d_ros.inference.outlines.fit_outline', fit(agreements))
        settings = EstimatorSettings(objects=('mug',), fit_outline=True)
        robot = PoseEstimator(bundle, fake, settings, outlines=outlines)
        (pose,) = robot.estimate(image, camera, 0.0, [Detection('mug', 0.9, box)])
        assert len(fits) == 2
        assert np.linalg.norm(fits[0].translation - fits[1].translation) > 1e-5
        np.testing.assert_allclose(pose.cam_from_obj.matrix(), fits[taken].matrix(), atol=1e-9)


def test_a_good_fit_is_not_contested(monkeypatch, bundle, camera, image, fake):
    truth = at(0.02, -0.01, 0.7)
    fake.scene, fake.noise_px, fits = [('mug', truth)], 1.0, []
    outlines = Outlines(bundle, ['mug'], {'mug': Mesh(bundle.object('mug').keypoints, BLOCK)})

    def fit_outline(model, picture, camera, pose, *rest):
        fits.append(pose)
        return OutlineFit(pose, 0.85)

    monkeypatch.setattr('kd6d_ros.inference.outlines.fit_outline', fit_outline)
    robot = PoseEstimator(bundle, fake, EstimatorSettings(objects=('mug',), fit_outline=True), outlines=outlines)
    assert len(robot.estimate(image, camera, 0.0, [Detection('mug', 0.9, box_of(bundle, camera, 'mug', truth))])) == 1
    assert len(fits) == 1


def test_one_measurement_has_no_rival(monkeypatch, bundle, camera, image, fake):
    fake.scene = [('mug', at(0.02, -0.01, 0.7))]
    outlines, fits = Outlines(bundle, ['mug'], {'mug': Mesh(bundle.object('mug').keypoints, BLOCK)}), []
    monkeypatch.setattr('kd6d_ros.inference.outlines.fit_outline', lambda *args: fits.append(args))
    settings = EstimatorSettings(objects=('mug',), fit_outline=True, refine_crops=0)
    robot = PoseEstimator(bundle, fake, settings, outlines=outlines)
    assert len(robot.estimate(image, camera, 0.0, [Detection('mug', 0.9, box_of(bundle, camera, *fake.scene[0]))])) == 1
    assert len(fits) == 1
