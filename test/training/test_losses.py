"""Loss values against plain loops, and the defined result when nothing is positive."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.networks.keypoint_network import CellGrid, KeypointOutput  # noqa: E402
from kd6d_ros.training.dataset import Batch  # noqa: E402
from kd6d_ros.training.losses import focal_loss, keypoint_losses, ray_distance  # noqa: E402
from kd6d_ros.training.recipe import LossRecipe  # noqa: E402


def test_focal_loss_matches_the_published_formula():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(5, 4)), rng.integers(-1, 2, (5, 4))
    expected = 0.0
    for x, t in zip(logits.ravel(), target.ravel(), strict=True):
        p = 1 / (1 + np.exp(-x))
        if t == 1:
            expected -= 0.25 * (1 - p) ** 2 * np.log(p)
        elif t == 0:
            expected -= 0.75 * p**2 * np.log(1 - p)
    got = focal_loss(torch.tensor(logits), torch.tensor(target), 0.25, 2.0)
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_ray_distance_is_perpendicular_and_zero_at_the_true_pixel():
    intrinsics = torch.tensor([[300.0, 310.0, 64.0, 60.0]])
    corner = torch.tensor([[[0.05, -0.02, 0.8]] * 8])
    pixel = torch.stack([300 * corner[..., 0] / 0.8 + 64, 310 * corner[..., 1] / 0.8 + 60], -1)
    assert ray_distance(pixel, corner, intrinsics).abs().max() < 1e-6
    moved = ray_distance(pixel + torch.tensor([3.0, 0.0]), corner, intrinsics)
    # 3 px at 0.8 m and 300 px focal length is 8 mm; the perpendicular is a little shorter
    assert moved.norm(dim=-1)[0, 0].item() == pytest.approx(0.008, rel=0.01)


def make_batch(positives):
    keypoints = torch.zeros(1, 4, 2, 8, 2, requires_grad=True)
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    grid = CellGrid(torch.zeros(4, 2), torch.ones(4), torch.zeros(4, dtype=torch.long))
    long = torch.zeros(positives, dtype=torch.long)
    batch = Batch(
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 4, 2, dtype=torch.int8),
        long, long + 2, long + 1, torch.full((positives, 8, 2), 5.0),
        torch.tensor([0.0, 0.0, 1.0]).expand(positives, 8, 3), torch.full((positives,), 0.2),
        torch.full((positives,), 50.0), torch.tensor([[100.0, 100.0, 5.0, 5.0]]).expand(positives, 4),
    )  # fmt: skip
    return KeypointOutput(logits, keypoints, grid), batch


def test_corner_terms_have_the_value_of_the_definition():
    output, batch = make_batch(3)
    parts = keypoint_losses(output, batch, LossRecipe(beta=0.02))
    flat = 5 / 50  # error of each coordinate over the size of the object
    assert float(parts.keypoints_2d) == pytest.approx(flat - 0.01, rel=1e-5)
    assert float(parts.corner_error) == pytest.approx(flat * 2**0.5, rel=1e-5)
    parts.total.backward()
    touched = output.keypoints.grad.abs().sum((0, 3, 4))
    assert touched[2, 1] > 0
    assert touched.sum() == touched[2, 1]  # only the positive cell and class


def test_no_positive_cells_give_zero_corner_loss_and_gradient():
    output, batch = make_batch(0)
    parts = keypoint_losses(output, batch, LossRecipe())
    parts.total.backward()
    assert parts.keypoints_3d.item() == 0
    assert output.keypoints.grad.abs().sum() == 0
    assert output.logits.grad.abs().sum() > 0  # negatives still teach
