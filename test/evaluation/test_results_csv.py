"""BOP result files: millimetres at the edge, exact round trip, one line per mistake with its number."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd6d_ros.errors import DatasetError
from kd6d_ros.evaluation.records import Estimate
from kd6d_ros.evaluation.results_csv import HEADER, read_results, write_results
from kd6d_ros.geometry.transforms import random_rotation
from kd6d_ros.types import RigidTransform

LINE = '2,3,5,0.9,1 0 0 0 1 0 0 0 1,10 -20 750.5,0.12'


def test_units_and_order(tmp_path):
    path = tmp_path / 'r.csv'
    path.write_text(f'{HEADER}\n2,3,5,0.9,0 -1 0 1 0 0 0 0 1,10 -20 750.5,0.12\n')
    (estimate,) = read_results(path)
    assert (estimate.scene_id, estimate.image_id, estimate.obj_id) == (2, 3, 5)
    assert (estimate.score, estimate.seconds) == (0.9, 0.12)
    np.testing.assert_allclose(estimate.cam_from_obj.translation, [0.01, -0.02, 0.7505])
    np.testing.assert_allclose(estimate.cam_from_obj.rotation, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])


def test_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    written = [
        Estimate(i, i * 7, i + 1, rng.random(), RigidTransform(random_rotation(rng), rng.normal(size=3)), 0.25)
        for i in range(20)
    ]
    path = tmp_path / 'r.csv'
    write_results(path, written)
    assert path.read_text().splitlines()[0] == HEADER
    read = read_results(path)
    assert len(read) == 20
    for a, b in zip(written, read, strict=True):
        assert (a.scene_id, a.image_id, a.obj_id, a.seconds) == (b.scene_id, b.image_id, b.obj_id, b.seconds)
        assert a.score == pytest.approx(b.score, abs=1e-9)
        np.testing.assert_allclose(a.cam_from_obj.matrix(), b.cam_from_obj.matrix(), atol=1e-8)
    assert [item.name for item in tmp_path.iterdir()] == ['r.csv']


def test_header_and_blank_lines_are_optional(tmp_path):
    path = tmp_path / 'r.csv'
    path.write_text(f'{LINE}\r\n\r\n{LINE}\r\n')
    assert len(read_results(path)) == 2
    path.write_text('\ufeff' + HEADER + '\n')
    assert read_results(path) == []


def test_rounded_rotations_are_made_exact(tmp_path):
    path = tmp_path / 'r.csv'
    rotation = np.round(random_rotation(np.random.default_rng(1)), 3)
    path.write_text(f'2,3,5,1,{" ".join(map(str, rotation.reshape(-1)))},0 0 500,-1\n')
    found = read_results(path)[0].cam_from_obj.rotation
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found, rotation, atol=2e-3)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('2,3,5,0.9,1 0 0 0 1 0 0 0 1,10 -20 750.5', 'line 3: expected 7 values .*, got 6'),
        ('2,3,5,high,1 0 0 0 1 0 0 0 1,10 -20 750.5,1', 'line 3: could not convert string to float'),
        ('2,3.5,5,0.9,1 0 0 0 1 0 0 0 1,10 -20 750.5,1', 'line 3: invalid literal for int'),
        ('2,3,5,0.9,1 0 0 0 1 0 0 0,10 -20 750.5,1', 'line 3: expected 9 numbers in R and 3 in t, got 8 and 3'),
        ('2,3,5,0.9,1 0 0 0 1 0 0 0 1,10 -20,1', 'got 9 and 2'),
        ('2,3,5,0.9,1 0 0 0 1 0 0 0 1,10 nan 750.5,1', 'line 3: score, R, t or time is NaN'),
        ('2,3,5,nan,1 0 0 0 1 0 0 0 1,10 0 750.5,1', 'line 3: score, R, t or time is NaN'),
        ('2,3,5,0.9,inf 0 0 0 1 0 0 0 1,10 0 750.5,1', 'leave failed poses out'),
        ('2,3,5,0.9,2 0 0 0 2 0 0 0 2,10 0 750.5,1', 'line 3: R is not a rotation'),
        ('2,3,5,0.9,1 0 0 0 1 0 0 0 -1,10 0 750.5,1', 'line 3: R is not a rotation'),
        ('2,3,99,0.9,1 0 0 0 1 0 0 0 1,10 0 750.5,1', 'line 3: unknown object 99; models_info.json has 5, 8'),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, message):
    path = tmp_path / 'r.csv'
    path.write_text(f'{HEADER}\n{LINE}\n{line}\n')
    with pytest.raises(DatasetError, match=message) as caught:
        read_results(path, {8, 5})
    assert '\n' not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match=r'absent\.csv: cannot be read: No such file'):
        read_results(tmp_path / 'absent.csv')
    with pytest.raises(DatasetError, match='cannot be read'):
        read_results(tmp_path)
    path = tmp_path / 'r.csv'
    path.write_text('\n \n')
    with pytest.raises(DatasetError, match='the file is empty; expected the header'):
        read_results(path)
    path.write_bytes(b'\xff\xfe\x00\x81')
    with pytest.raises(DatasetError, match='not a text file'):
        read_results(path)
    monkeypatch.setattr('kd6d_ros.evaluation.results_csv.MAX_FILE_BYTES', 3)
    with pytest.raises(DatasetError, match='result files may have'):
        read_results(path)


def test_nothing_half_written_remains(tmp_path):
    with pytest.raises(DatasetError, match='cannot be written'):
        write_results(tmp_path / 'missing' / 'r.csv', [])
    (tmp_path / 'folder').mkdir()
    with pytest.raises(DatasetError, match='cannot be written'):
        write_results(tmp_path / 'folder', [])
    assert [item.name for item in tmp_path.iterdir()] == ['folder']


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet='0123456789.,- einfaE\n\t"x', max_size=80))
def test_random_text_never_escapes_as_another_error(tmp_path, text):
    path = tmp_path / 'r.csv'
    path.write_text(f'{LINE}\n{text}\n')
    message, estimates = '', []
    try:
        estimates = read_results(path)
    except DatasetError as error:
        message = str(error)
    assert len(message.splitlines()) == (not estimates)
