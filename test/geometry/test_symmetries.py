"""Symmetric equivalents: discretised as BOP does, nearest in closed form, one canonical representative."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.geometry import symmetries as sym
from kd6d_ros.geometry.transforms import (
    look_at,
    nearest_rotation,
    random_rotation,
    rotation_angle,
    rotation_from_vector,
    transform_distance,
)
from kd6d_ros.types import ContinuousSymmetry, RigidTransform, Symmetries

seeds = st.integers(0, 2**32 - 1)


def turn(axis, degrees, offset=(0, 0, 0)):
    rotation = rotation_from_vector(np.asarray(axis, dtype=float) * np.radians(degrees))
    return RigidTransform(rotation, np.asarray(offset) - rotation @ np.asarray(offset))


def around(axis, offset=(0, 0, 0)):
    return ContinuousSymmetry(np.asarray(axis, dtype=float), np.asarray(offset, dtype=float))


# The measured half turns of LM-O's eggbox and glue (translations in metres), which do not quite close.
EGGBOX = RigidTransform.from_matrix(
    [[-0.999964, -0.00333777, -0.0077452, 0.232611e-3], [0.00321462, -0.999869, 0.0158593, 0.694388e-3],
     [-0.00779712, 0.0158338, 0.999844, -0.0792063e-3], [0, 0, 0, 1]]
)  # fmt: skip
GLUE = RigidTransform.from_matrix(
    [[-0.999633, 0.026679, 0.00479336, -0.262139e-3], [-0.0266744, -0.999644, 0.00100504, -0.197966e-3],
     [0.00481847, 0.000876815, 0.999988, 0.0321652e-3], [0, 0, 0, 1]]
)  # fmt: skip

CASES = {
    'none': Symmetries(),
    'half_turn': Symmetries((turn([0, 0, 1], 180, [0.03, -0.02, 0]),)),
    'four_fold': Symmetries(tuple(turn([0, 1, 0], a, [0.01, 0, 0.02]) for a in (90, 180, 270))),
    'box': Symmetries(tuple(turn(axis, 180) for axis in np.eye(3))),
    'bottle': Symmetries((), (around([0, 0, 1], [0.02, 0.01, 0.5]),)),
    'tilted_axis': Symmetries((), (around([1, 2, -0.5], [0.1, 0, 0]),)),
    'can': Symmetries((turn([1, 0, 0], 180, [0, 0.05, 0.1]),), (around([0, 0, 1], [0.04, 0.05, 0]),)),
    'sphere': Symmetries((), (around([0, 0, 1], [0, 0, 0.1]), around([1, 0, 0], [0, 0, 0.1]))),
}


def random_pose(rng):
    translation = np.array([*rng.uniform(-0.3, 0.3, 2), rng.uniform(0.4, 2.0)])
    return RigidTransform(random_rotation(rng), translation)


def random_symmetry(rng, symmetries):
    """A random product of the object's symmetries."""
    out = RigidTransform.identity()
    for _ in range(3):
        options = [RigidTransform.identity(), *symmetries.discrete]
        out = out @ options[rng.integers(len(options))]
        for continuous in symmetries.continuous:
            out = out @ sym.rotation_about(continuous, rng.uniform(-np.pi, np.pi))
    return out


def test_counts_follow_bop():
    assert len(sym.symmetry_transforms(CASES['none'])) == 1
    assert len(sym.symmetry_transforms(CASES['four_fold'])) == 4
    assert len(sym.symmetry_transforms(CASES['bottle'])) == 315  # ceil(pi / 0.01)
    assert len(sym.symmetry_transforms(CASES['can'])) == 630
    assert len(sym.symmetry_transforms(CASES['bottle'], max_sym_disc_step=0.1)) == 32


@pytest.mark.parametrize('case', CASES)
def test_the_identity_comes_first(case):
    first = sym.symmetry_transforms(CASES[case])[0]
    np.testing.assert_allclose(first.matrix(), np.eye(4), atol=1e-12)


def test_combination_is_continuous_after_discrete():
    transforms = sym.symmetry_transforms(CASES['can'])
    flip, axis = CASES['can'].discrete[0], CASES['can'].continuous[0]
    expected = sym.rotation_about(axis, 2 * np.pi * 7 / 315) @ flip
    np.testing.assert_allclose(transforms[315 + 7].matrix(), expected.matrix(), atol=1e-12)


def test_rotation_about_leaves_the_axis_in_place():
    axis = around([0, 3, 0], [0.2, 0, -0.1])
    moved = sym.rotation_about(axis, 1.1).apply([[0.2, 5.0, -0.1], [0.2, 0, -0.1]])
    np.testing.assert_allclose(moved, [[0.2, 5.0, -0.1], [0.2, 0, -0.1]], atol=1e-12)
    quarter = sym.rotation_about(around([0, 0, 1], [1, 0, 0]), np.pi / 2).apply([[2, 0, 0]])
    np.testing.assert_allclose(quarter, [[1, 1, 0]], atol=1e-12)


@given(st.sampled_from(sorted(CASES)), seeds)
def test_nearest_undoes_any_symmetry(case, seed):
    rng = np.random.default_rng(seed)
    pose, symmetries = random_pose(rng), CASES[case]
    moved = pose @ random_symmetry(rng, symmetries)
    back = sym.nearest_equivalent(moved, pose, symmetries)
    np.testing.assert_allclose(back.matrix(), pose.matrix(), atol=1e-6)


@given(st.sampled_from(sorted(CASES)), seeds)
def test_nearest_beats_every_discretised_equivalent(case, seed):
    rng = np.random.default_rng(seed)
    pose, reference, symmetries = random_pose(rng), random_pose(rng), CASES[case]
    found = sym.nearest_equivalent(pose, reference, symmetries)
    best = rotation_angle(found.rotation, reference.rotation)
    for transform in sym.symmetry_transforms(symmetries, 0.2):
        other = rotation_angle((pose @ transform).rotation, reference.rotation)
        assert best <= other + 2e-6


@given(st.sampled_from(sorted(CASES)), seeds)
def test_nearest_is_an_equivalent(case, seed):
    rng = np.random.default_rng(seed)
    pose, symmetries = random_pose(rng), CASES[case]
    found = sym.nearest_equivalent(pose, random_pose(rng), symmetries)
    left = pose.inverse() @ found
    again = sym.nearest_equivalent(left, RigidTransform.identity(), symmetries)
    np.testing.assert_allclose(again.matrix(), np.eye(4), atol=1e-6)


def test_nearest_keeps_objects_without_symmetry():
    pose = random_pose(np.random.default_rng(0))
    assert sym.nearest_equivalent(pose, RigidTransform.identity(), Symmetries()) is pose
    assert sym.canonical_pose(pose, Symmetries()) is pose


@given(st.sampled_from(sorted(CASES)), seeds)
def test_canonical_is_the_same_for_all_equivalents(case, seed):
    rng = np.random.default_rng(seed)
    pose, symmetries = random_pose(rng), CASES[case]
    wanted = sym.canonical_pose(pose, symmetries)
    runner_up = _second_best(pose, symmetries)
    for _ in range(4):
        other = sym.canonical_pose(pose @ random_symmetry(rng, symmetries), symmetries)
        if runner_up > 1e-4:
            np.testing.assert_allclose(other.matrix(), wanted.matrix(), atol=1e-5)


def _second_best(pose, symmetries):
    """How much farther the second-nearest discrete class is; 0 on the set where the label jumps."""
    if symmetries.continuous and not symmetries.discrete:
        return 1.0
    reference = RigidTransform(
        sym._rotation_to(pose.apply(sym.symmetry_centre(symmetries)[None])[0]) @ sym.REFERENCE_VIEW, np.zeros(3)
    )
    angles = []
    for flip in (RigidTransform.identity(), *symmetries.discrete):
        one = Symmetries((), symmetries.continuous)
        found = sym.nearest_equivalent(pose @ flip, reference, one)
        angles.append(rotation_angle(found.rotation, reference.rotation))
    angles.sort()
    return angles[1] - angles[0] if len(angles) > 1 else 1.0


@pytest.mark.parametrize('flip', [EGGBOX, GLUE], ids=['eggbox', 'glue'])
def test_canonical_with_measured_half_turns(flip):
    symmetries = Symmetries((RigidTransform(nearest_rotation(flip.rotation), flip.translation),))
    rng = np.random.default_rng(5)
    worst_angle, worst_shift, jumps = 0.0, 0.0, 0
    for _ in range(300):
        pose = random_pose(rng)
        a = sym.canonical_pose(pose, symmetries)
        b = sym.canonical_pose(pose @ symmetries.discrete[0], symmetries)
        shift, angle = transform_distance(a, b)
        jumps += angle > 0.5
        if angle < 0.5:
            worst_angle, worst_shift = max(worst_angle, angle), max(worst_shift, shift)
    # The measured turn is off from a half turn by up to 2 degrees, so applying it twice is not the identity.
    assert jumps <= 6
    assert worst_angle < np.radians(4.0)
    assert worst_shift < 0.002


def test_canonical_pose_moves_with_the_line_of_sight():
    """What a crop shows decides: turning the camera about its centre turns the label along."""
    rng = np.random.default_rng(8)
    for case in ('half_turn', 'four_fold', 'can', 'bottle'):
        pose = random_pose(rng)
        centred = RigidTransform(pose.rotation, [0, 0, 1.0])
        centre = centred.apply(sym.symmetry_centre(CASES[case])[None])[0]
        on_axis = RigidTransform(sym._rotation_to(centre).T, np.zeros(3)) @ centred
        label = sym.canonical_pose(on_axis, CASES[case])
        for direction in ([0.3, 0.2, 1.0], [-0.4, 0.1, 1.0]):
            camera_turn = RigidTransform(sym._rotation_to(np.array(direction)), np.zeros(3))
            moved = sym.canonical_pose(camera_turn @ on_axis, CASES[case])
            np.testing.assert_allclose(moved.matrix(), (camera_turn @ label).matrix(), atol=1e-6)


def test_labels_of_a_bottle_do_not_jump_around_a_table():
    """Cameras on a dense path over the upper half-sphere, object standing: neighbouring labels stay close."""
    symmetries = Symmetries((), (around([0, 0, 1]),))
    largest = 0.0
    for elevation in np.radians([5, 20, 45, 70, 85]):
        previous = None
        for azimuth in np.radians(np.arange(0, 361, 1.0)):
            eye = 0.8 * np.array(
                [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
            )
            label = sym.canonical_pose(look_at(eye, [0, 0, 0]), symmetries)
            if previous is not None:
                largest = max(largest, rotation_angle(previous.rotation, label.rotation))
            previous = label
    # Walking around an object of revolution does not change what is seen, so the label stays the same.
    assert largest < 1e-6


def test_labels_of_a_bottle_move_smoothly_with_the_view():
    symmetries = Symmetries((), (around([0, 0, 1]),))
    rng = np.random.default_rng(2)
    for _ in range(200):
        pose = random_pose(rng)
        nudge = rng.normal(size=3) * 1e-4
        step = RigidTransform(rotation_from_vector(nudge), np.zeros(3))
        centre = RigidTransform(np.eye(3), pose.translation)
        nudged = centre @ step @ centre.inverse() @ pose
        a, b = sym.canonical_pose(pose, symmetries), sym.canonical_pose(nudged, symmetries)
        view = sym._rotation_to(pose.translation) @ sym.REFERENCE_VIEW
        opposite = np.arccos(np.clip(-(view[:, 2] @ pose.rotation[:, 2]), -1, 1))
        if opposite > 0.2:
            assert rotation_angle(a.rotation, b.rotation) < np.linalg.norm(nudge) * (1 + 2 / opposite) + 1e-6


@pytest.mark.parametrize('case', ['half_turn', 'four_fold', 'box', 'can'])
def test_the_symmetry_centre_stays_in_place(case):
    centre = sym.symmetry_centre(CASES[case])
    for transform in sym.symmetry_transforms(CASES[case], 0.5):
        np.testing.assert_allclose(transform.apply(centre[None])[0], centre, atol=1e-9)


def test_ties_are_broken_by_translation():
    """A translational pattern: equal rotations, so the nearer one counts."""
    step = RigidTransform(np.eye(3), [0.1, 0, 0])
    pose = RigidTransform(np.eye(3), [0, 0, 1.0])
    reference = RigidTransform(np.eye(3), [0.09, 0, 1.0])
    found = sym.nearest_equivalent(pose, reference, Symmetries((step,)))
    np.testing.assert_allclose(found.translation, [0.1, 0, 1.0])


def test_cases_are_groups():
    """The test objects themselves are consistent: products of listed symmetries are listed again."""
    for name, case in CASES.items():
        if case.continuous:
            continue
        members = sym.symmetry_transforms(case)
        for a, b in itertools.product(members, members):
            gap = min(np.abs((a @ b).matrix() - c.matrix()).max() for c in members)
            assert gap < 1e-9, name
