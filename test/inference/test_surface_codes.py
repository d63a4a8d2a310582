"""Decoding of surface codes, and files of codes that somebody damaged."""

import os
from dataclasses import replace

import numpy as np
import pytest
from code_books import box_codes, box_model

from kd6d_ros.errors import CodesError, ShapeError
from kd6d_ros.inference.code_files import check_fits, code_file, read_codes, write_codes
from kd6d_ros.inference.surface_codes import HARD_BITS, LEAVES, bits_of


@pytest.fixture(scope='module')
def book():
    return box_codes()[0]


def test_certain_bits_give_the_leaf(book):
    codes = np.random.default_rng(0).integers(LEAVES, size=500)
    np.testing.assert_array_equal(book.decode(codes), book.points[codes])
    np.testing.assert_allclose(book.expected(bits_of(codes).astype(float)), book.points[codes], atol=1e-7)


def test_bits_that_say_nothing_give_the_middle_of_their_region(book):
    codes = np.random.default_rng(1).integers(LEAVES, size=50)
    for known in (HARD_BITS, 13):
        probability = bits_of(codes).astype(float)
        probability[:, known:] = 0.5
        size = 1 << (16 - known)
        middle = book.points.reshape(-1, size, 3).mean(1)[codes // size]
        np.testing.assert_allclose(book.expected(probability), middle, atol=1e-6)


def test_the_mean_is_that_over_all_leaves_of_the_region(book):
    rng = np.random.default_rng(2)
    probability = rng.random((20, 16))
    leaves = bits_of(np.arange(64))[:, HARD_BITS:]
    soft = probability[:, None, HARD_BITS:]
    weight = np.where(leaves > 0, soft, 1 - soft).prod(2)
    region = ((probability[:, :HARD_BITS] > 0.5) @ (2 ** np.arange(9, -1, -1))) * 64
    expected = (book.points[region[:, None] + np.arange(64)] * weight[..., None]).sum(1)
    np.testing.assert_allclose(book.expected(probability), expected, atol=1e-6)


def test_no_pixels_and_wrong_shapes(book):
    assert book.expected(np.zeros((0, 16))).shape == (0, 3)
    with pytest.raises(ShapeError, match=r'expected shape \(N, 16\)'):
        book.expected(np.zeros((3, 15)))


def test_files_come_back_as_they_were(book, tmp_path):
    path = write_codes(tmp_path, book)
    assert [p.name for p in tmp_path.iterdir()] == ['box.codes.npz']
    assert path == code_file(tmp_path, 'box')
    again = read_codes(path)
    np.testing.assert_array_equal(again.points, book.points)
    for field in ('name', 'obj_id', 'diameter', 'mesh_sha256', 'samples', 'seed'):
        assert getattr(again, field) == getattr(book, field)
    check_fits(path, again, box_model())


DAMAGE = {
    'rows': ({'grid': lambda grid: np.random.default_rng(0).permutation(grid)}, 'the rows were mixed up'),
    'a scale': ({'step_m': lambda step: 1000 * step}, 'does not fit its diameter'),
    'a diameter in mm': ({'diameter_m': lambda value: 1000 * value}, r'diameter_m is 161\.'),
    'NaN': ({'low_m': lambda low: low * np.nan}, 'must be finite'),
    'a short table': ({'grid': lambda grid: grid[:-1]}, r'grid: expected shape \(65536, 3\)'),
    'a wide table': ({'grid': lambda grid: grid.astype(np.uint32)}, 'grid: expected uint16'),
    'floats': ({'grid': lambda grid: grid.astype(np.float32)}, "grid: expected shape .* of kind 'u', got float32"),
    'a newer file': ({'version': lambda version: version + 1}, 'has version 2, this kd6d_ros reads 1'),
    'a path for a name': ({'name': lambda name: '../box'}, 'not of the right form'),
    'no hash': ({'mesh_sha256': lambda value: ''}, 'not of the right form'),
    'a missing array': ({'seed': None}, 'other arrays than expected'),
}


@pytest.mark.parametrize('what', DAMAGE)
def test_a_damaged_file_is_refused_in_one_line(book, tmp_path, what):
    changes, message = DAMAGE[what]
    path = write_codes(tmp_path, book)
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored.files}
    for key, change in changes.items():
        value = arrays.pop(key)
        if change is not None:
            arrays[key] = change(value)
    with path.open('wb') as file:
        np.savez_compressed(file, **arrays)
    with pytest.raises(CodesError, match=message) as caught:
        read_codes(path)
    assert str(path) in str(caught.value)
    assert 'kd6d codes' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_what_is_no_archive_is_refused(book, tmp_path):
    with pytest.raises(CodesError, match='no such file; make it with'):
        read_codes(tmp_path / 'mug.codes.npz')
    path = write_codes(tmp_path, book)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    spoilt = bytearray(whole)
    for place in rng.integers(len(whole), size=40):
        spoilt[place] ^= 0xFF
    big = tmp_path / 'big.codes.npz'
    for content in (b'', b'codes', whole[: len(whole) // 2], bytes(spoilt), os.urandom(1000)):
        big.write_bytes(content)
        with pytest.raises(CodesError):
            read_codes(big)
    big.write_bytes(b'0' * (3 << 20))
    with pytest.raises(CodesError, match='over the limit of 2 MiB'):
        read_codes(big)


def test_pickles_are_refused(book, tmp_path):
    path = write_codes(tmp_path, book)
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored.files}
    arrays['name'] = np.array({'a': 1}, dtype=object)
    with path.open('wb') as file:
        np.savez_compressed(file, **arrays)
    with pytest.raises(CodesError, match='not an archive of plain arrays'):
        read_codes(path)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'name': 'mug'}, "expected 1 'mug'"),
        ({'obj_id': 7}, "expected 7 'box'"),
        ({'diameter': 0.17}, 'another size or place'),
        ({'keypoints': box_model().keypoints + 0.01}, 'another size or place'),
    ],
)
def test_codes_of_another_object_are_refused(book, tmp_path, change, message):
    with pytest.raises(CodesError, match=message):
        check_fits(tmp_path / 'x', book, replace(box_model(), **change))
