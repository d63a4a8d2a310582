"""Which cells become positives, and which windows are drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd6d_ros.data.detector_boxes import LEAST_IOU, jitter_box
from kd6d_ros.inference.allocation import allocate_cells
from kd6d_ros.inference.decode import box_iou
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.recipe import AssignmentRecipe
from kd6d_ros.training.targets import IGNORE, LabelledObject, assign_cells, window_cells

SPEC = NetworkSpec('darknet_tiny_h', (16, 32, 64), 64, 1, classes=2)


def labelled(class_index, label, box):
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]] * 2, np.float32)
    return LabelledObject(class_index, label, corners, np.zeros((8, 3), np.float32), 0.1)


def test_cells_follow_the_network_grid():
    torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
    from kd6d_ros.networks.keypoint_network import KeypointNetwork

    grid = KeypointNetwork(SPEC)(torch.zeros(1, 3, 128, 128)).grid
    cells = window_cells(SPEC, 128)
    np.testing.assert_array_equal(cells.level, grid.level.numpy())
    assert np.abs(cells.pixel - grid.centre.numpy()).max() <= 0.5


def test_positives_lie_in_the_mask_and_follow_the_allocation():
    labels = np.zeros((128, 128), np.uint8)
    labels[20:110, 10:100] = 1
    item = labelled(1, 1, (10, 20, 100, 110))
    cells = window_cells(SPEC, 128)
    recipe = AssignmentRecipe(cells_per_object=10)
    targets = assign_cells(labels, [item], cells, SPEC, recipe, np.random.default_rng(0))
    at = cells.pixel[targets.cell]
    assert (labels[at[:, 1], at[:, 0]] == 1).all()
    wanted = allocate_cells(90, SPEC.anchor_sizes, 10)
    got = np.bincount(cells.level[targets.cell], minlength=3)
    available = np.bincount(cells.level[labels[cells.pixel[:, 1], cells.pixel[:, 0]] == 1], minlength=3)
    np.testing.assert_array_equal(got, np.minimum(wanted, available))
    inside = labels[cells.pixel[:, 1], cells.pixel[:, 0]] == 1
    assert set(targets.score[inside, 1]) == {1, IGNORE}
    assert (targets.score[inside, 0] == 0).all()  # the other class learns that it is not there
    assert (targets.score[~inside] == 0).all()


def test_two_objects_keep_their_own_cells():
    labels = np.zeros((128, 128), np.uint8)
    labels[:, :64], labels[:, 64:] = 1, 2
    objects = [labelled(0, 1, (0, 0, 63, 127)), labelled(1, 2, (64, 0, 127, 127))]
    cells = window_cells(SPEC, 128)
    targets = assign_cells(labels, objects, cells, SPEC, AssignmentRecipe(), np.random.default_rng(1))
    x = cells.pixel[targets.cell, 0]
    assert (x[targets.owner == 0] < 64).all()
    assert (x[targets.owner == 1] >= 64).all()
    assert (targets.score[targets.cell, targets.owner] == 1).all()


def test_a_sliver_still_gets_one_cell():
    labels = np.zeros((128, 128), np.uint8)
    labels[60:64, 60:64] = 1
    item = labelled(0, 1, (30, 30, 90, 90))
    targets = assign_cells(labels, [item], window_cells(SPEC, 128), SPEC, AssignmentRecipe(), np.random.default_rng(0))
    assert len(targets.cell) == 1


def test_an_object_that_misses_its_own_level_uses_cells_inside_it_of_another():
    labels = np.zeros((128, 128), np.uint8)
    labels[:, 34:46] = 1  # a column that holds centres at stride 16 only
    item = labelled(0, 1, (-200, -200, 300, 300))  # whose size asks for strides 32 and 64
    cells = window_cells(SPEC, 128)
    targets = assign_cells(labels, [item], cells, SPEC, AssignmentRecipe(sharpness=8.0), np.random.default_rng(0))
    assert targets.cell.size
    assert (labels[cells.pixel[targets.cell, 1], cells.pixel[targets.cell, 0]] == 1).all()


def test_an_empty_window_has_no_positives():
    labels = np.zeros((128, 128), np.uint8)
    targets = assign_cells(labels, [], window_cells(SPEC, 128), SPEC, AssignmentRecipe(), np.random.default_rng(0))
    assert targets.cell.size == 0
    assert (targets.score == 0).all()


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(4, 300), st.floats(4, 300))
def test_jittered_boxes_overlap_enough(seed, width, height):
    box = np.array([50.0, 60.0, 50 + width, 60 + height])
    assert box_iou(box, jitter_box(box, np.random.default_rng(seed))) >= LEAST_IOU


@given(st.floats(1, 2000), st.integers(1, 100))
def test_allocation_is_never_empty_and_near_the_total(size, total):
    count = allocate_cells(size, (64, 128, 256), total)
    assert count.sum() >= 1
    assert abs(count.sum() - total) <= 2


def test_allocation_without_the_stride_8_level_is_renormalised():
    # a 60-pixel object: 8 cells at stride 16 and 2 at stride 32
    np.testing.assert_array_equal(allocate_cells(60, (64, 128, 256), 10), [8, 2, 0])
    np.testing.assert_array_equal(allocate_cells(171, (32, 64, 128, 256, 512), 10), [0, 1, 5, 4, 0])
