"""What the robot's estimator is told about a network in training, and that it reads what the network says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from code_books import box_codes, box_model

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
pytest.importorskip('scipy', reason="surface codes need pip install 'kd6d_ros[train]'")

from kd6d_ros.networks.make_network import make_network  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.bundle_record import bundle_of  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe, SamplingRecipe  # noqa: E402
from kd6d_ros.training.validation import TorchEngine  # noqa: E402

MODEL = replace(box_model('painted_box'), mesh=None)
SIZE = 64


def recipe_of(window_fraction=0.0, **network):
    spec = NetworkSpec('darknet_tiny_h', channels=32, **network)
    data, sampling = DataRecipe('x', codes='y'), SamplingRecipe(window_fraction=window_fraction)
    return Recipe(network=spec, input=InputRecipe(SIZE, frame_size=(640, 480)), data=data, sampling=sampling)


def images():
    return np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)


def test_validation_reads_the_code_maps_that_the_robot_gets():
    torch.manual_seed(0)
    book = replace(box_codes()[0], name='painted_box')
    recipe = recipe_of(kind='dense', decoder='compact')
    network = make_network(recipe.network).eval()
    cells = TorchEngine(network, 0).run(images(), np.ones((2, 1), bool))
    with torch.no_grad():
        output = network(torch.from_numpy(images()).permute(0, 3, 1, 2).float())
    bundle = bundle_of(recipe, (MODEL,), (book,))
    side = SIZE // bundle.network.code_stride
    for row, answer in enumerate(cells):
        assert answer.codes.mask.shape == (side, side)
        np.testing.assert_allclose(answer.codes.mask, torch.sigmoid(output.mask[row, 0]), atol=1e-6)
        np.testing.assert_allclose(answer.codes.code, torch.sigmoid(output.code[row, 0]), atol=1e-6)
    assert (bundle.kind, bundle.books, bundle.decode.score_threshold) == ('dense', (book,), 0.5)


def test_a_dense_network_that_saw_crops_only_does_not_search_frames():
    dense = {'kind': 'dense', 'decoder': 'compact'}
    assert bundle_of(recipe_of(**dense), (MODEL,)).network.frame_size is None
    assert bundle_of(recipe_of(0.2, **dense), (MODEL,)).network.frame_size == (640, 480)
    assert bundle_of(recipe_of(), (MODEL,)).network.frame_size == (640, 480)


def test_a_keypoint_network_has_its_levels_and_its_cells():
    recipe = recipe_of(strides=(16, 32))
    bundle = bundle_of(recipe, (MODEL,), parameters=7)
    assert bundle.kind == 'keypoints'
    assert [level.stride for level in bundle.network.levels] == [16, 32]
    assert (bundle.network.parameters, bundle.decode.cells_per_object) == (7, recipe.assignment.cells_per_object)
    cells = TorchEngine(make_network(recipe.network), bundle.network.max_cells).run(images(), np.ones((2, 1), bool))
    assert [answer.codes for answer in cells] == [None, None]
    assert cells[0].keypoints.shape[1:] == (8, 2)
