"""The shared records: checked when made, read-only afterwards."""

import numpy as np
import pytest

from kd6d_ros.errors import ShapeError
from kd6d_ros.types import RigidTransform, Symmetries, frozen_array


def test_rigid_transform_copies_and_freezes():
    rotation, translation = np.eye(3), np.zeros(3)
    transform = RigidTransform(rotation, translation)
    rotation[0, 0] = 5
    translation[0] = 5
    np.testing.assert_array_equal(transform.matrix(), np.eye(4))
    with pytest.raises(ValueError, match='read-only'):
        transform.translation[0] = 1


@pytest.mark.parametrize(
    ('rotation', 'translation', 'message'),
    [
        (np.eye(2), np.zeros(3), r'rotation: expected shape \(3, 3\), got \(2, 2\)'),
        (np.eye(3), np.zeros((3, 1)), r'translation: expected shape \(3,\), got \(3, 1\)'),
        (np.eye(3), [0, np.nan, 1], 'translation: contains NaN'),
        (np.full((3, 3), np.inf), np.zeros(3), 'rotation: contains NaN or infinite'),
        (np.eye(3) * 1.01, np.zeros(3), 'not a proper orthonormal matrix'),
        (np.diag([1.0, 1.0, -1.0]), np.zeros(3), 'not a proper orthonormal matrix'),
    ],
)
def test_improper_transforms_are_refused(rotation, translation, message):
    with pytest.raises(ShapeError, match=message):
        RigidTransform(rotation, translation)


def test_composition_reads_right_to_left():
    a_from_b = RigidTransform([[0, -1, 0], [1, 0, 0], [0, 0, 1]], [1, 0, 0])
    b_from_c = RigidTransform(np.eye(3), [0, 2, 0])
    np.testing.assert_allclose((a_from_b @ b_from_c).apply([[0, 0, 0]]), [[-1, 0, 0]])
    np.testing.assert_allclose(a_from_b.inverse().apply([[-1, 0, 0]]), [[0, 2, 0]])
    np.testing.assert_array_equal(RigidTransform.from_matrix(a_from_b.matrix()).matrix(), a_from_b.matrix())


def test_symmetries_are_false_when_empty():
    assert not Symmetries()
    assert Symmetries((RigidTransform.identity(),))


def test_frozen_array_takes_any_length_where_asked():
    assert frozen_array([1, 2, 3], (-1,), 'x').shape == (3,)
    with pytest.raises(ShapeError, match='x: expected shape'):
        frozen_array([[1]], (-1,), 'x')
