"""Parts of an image in several threads: the same answers and the same report as in one."""

import threading
import time

import cv2
import numpy as np
import pytest

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.select import make_engine
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.measure import Frame
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.inference.side_by_side import SideBySide
from kd6d_ros.types import RigidTransform


@pytest.fixture
def scene():
    turns = [cv2.Rodrigues(np.array(vector))[0] for vector in ((0.4, 0.8, 0.2), (1.0, 0, 0.5), (0.1, -0.7, 0.3))]
    places = [(-0.15, 0.02, 0.7), (0.02, -0.05, 0.8), (0.2, 0.05, 0.9)]
    return [
        (name, RigidTransform(turn, np.array(place)))
        for name, turn, place in zip(('mug', 'off', 'brick'), turns, places, strict=True)
    ]


def work(frame, part):
    """The later a part, the sooner it is done."""
    with frame.timed('pnp'):
        time.sleep(0.02 * (4 - part))
    frame.reject(f'part {part}', 'refused', part, 0.0, 'measure')
    frame.look('measure', f'part {part}', np.zeros(4))
    return part * part, threading.current_thread().name


@pytest.mark.parametrize('threads', [1, 2, 8])
def test_answers_and_reports_come_in_the_order_of_the_parts(image, camera, threads):
    frame = Frame(image, camera)
    start = time.perf_counter()
    answers = SideBySide(threads).map(frame, work, range(4))
    wall = time.perf_counter() - start
    assert [answer for answer, _ in answers] == [0, 1, 4, 9]
    assert [item.object_name for item in frame.rejections] == [f'part {i}' for i in range(4)]
    assert [item.object_name for item in frame.regions] == [f'part {i}' for i in range(4)]
    assert 0 < frame.stages['pnp'] <= wall
    assert ({name for _, name in answers} == {threading.current_thread().name}) == (threads == 1)


def test_one_part_and_none_stay_in_the_thread_that_asks(image, camera):
    frame, two = Frame(image, camera), SideBySide(2)
    assert two.map(frame, work, [3]) == [(9, threading.current_thread().name)]
    assert two.map(frame, work, []) == []


def test_an_error_in_a_part_is_the_error_of_the_image(image, camera):
    def fail(frame, part):
        if part == 2:
            raise EngineError('this one')
        return part

    with pytest.raises(EngineError, match='this one'):
        SideBySide(2).map(Frame(image, camera), fail, range(4))


def test_the_network_answers_several_threads_as_one(write, onnx_file):
    """Two sessions, one for a crop alone and one for crops beside others, both made before the first image."""
    bundle = write(engines={'fp32': onnx_file})
    engine = make_engine(bundle, threads=2)
    engine.warm_up()
    made = dict(engine._sessions)
    assert sorted(key for key in made if key[0] == 128) == [(128, 128, 1), (128, 128, 2)]
    images = np.stack([np.full((128, 128, 3), 16 * i, np.uint8) for i in range(16)])
    classes = np.ones((16, 3), bool)
    expected = [cells.score for cells in engine.run(images, classes)]
    together = threading.Barrier(4)
    scores = [None] * 16

    def some(first):
        together.wait()
        for i in range(first, 16, 4):
            scores[i] = engine.run(images[i : i + 1], classes[i : i + 1])[0].score

    threads = [threading.Thread(target=some, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.array(scores), np.array(expected), atol=1e-6)
    assert engine._sessions == made
    assert engine._running == 0


def test_several_objects_give_the_same_poses_and_the_same_report(bundle, camera, image, fake, scene):
    fake.scene, fake.noise_px, fake.outliers = scene, 1.0, 0.2
    answers = []
    for threads in (1, 3):
        fake.side_by_side = threads
        robot = PoseEstimator(bundle, fake, EstimatorSettings(min_score=0.3, min_visible=0.9))
        poses = [pose for step in range(3) for pose in robot.estimate(image, camera, step / 10)]
        report = robot.report
        answers.append(([(p.instance_id, *p.cam_from_obj.matrix().ravel(), p.score) for p in poses], report))
    assert len(answers[0][0]) >= 6
    assert answers[0][0] == answers[1][0]
    assert answers[0][1].rejections == answers[1][1].rejections
    assert answers[0][1].regions == answers[1][1].regions
    assert answers[1][1].stages['pnp'] > 0
    assert sum(value for key, value in answers[1][1].stages.items() if key != 'total') <= answers[1][1].stages['total']
