"""Loss values against plain loops, and the defined result when nothing is positive."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.networks.keypoint_network import CellGrid, KeypointOutput  # noqa: E402
from kd6d_ros.training.dataset import Batch  # noqa: E402
from kd6d_ros.training.losses import focal_loss, keypoint_losses, ray_distance, surface_loss  # noqa: E402
from kd6d_ros.training.recipe import LossRecipe  # noqa: E402
from kd6d_ros.training.surface_targets import BACKGROUND, UNKNOWN  # noqa: E402


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


def losses(output, batch, recipe):
    return keypoint_losses(output, batch, recipe, torch.tensor(float(batch.positive_cell.numel())))


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
        torch.zeros(1, 0, dtype=torch.int8), torch.zeros(1, 0, 3), None,
    )  # fmt: skip
    return KeypointOutput(logits, keypoints, grid), batch


def test_corner_terms_have_the_value_of_the_definition():
    output, batch = make_batch(3)
    parts = losses(output, batch, LossRecipe(beta=0.02))
    flat = 5 / 50  # error of each coordinate over the size of the object
    assert float(parts.keypoints_2d) == pytest.approx(flat - 0.01, rel=1e-5)
    assert float(parts.corner_error) == pytest.approx(flat * 2**0.5, rel=1e-5)
    parts.total.backward()
    touched = output.keypoints.grad.abs().sum((0, 3, 4))
    assert touched[2, 1] > 0
    assert touched.sum() == touched[2, 1]  # only the positive cell and class


def test_several_processes_divide_by_what_all_of_them_saw():
    """Two processes with 1 and 3 positive cells: the mean of their losses is that of one process with all 4."""
    (first, one), (second, three) = make_batch(1), make_batch(3)
    shared = torch.tensor(2.0)
    halves = [keypoint_losses(o, b, LossRecipe(), shared) for o, b in ((first, one), (second, three))]
    both = [torch.cat(pair) for pair in zip(first[:2], second[:2], strict=True)]
    names = ('image', 'score', 'positive_image', 'positive_cell', 'positive_class', 'corners_px', 'corners_m',
             'diameter', 'size_px', 'intrinsics')  # fmt: skip
    moved = three._replace(positive_image=three.positive_image + 1)
    batch = one._replace(**{name: torch.cat([getattr(one, name), getattr(moved, name)]) for name in names})
    whole = losses(KeypointOutput(*both, first.grid), batch, LossRecipe())
    for name in ('score', 'keypoints_3d', 'keypoints_2d'):
        mean = sum(getattr(half, name) for half in halves) / 2
        assert getattr(whole, name).item() == pytest.approx(mean.item(), rel=1e-5)


def test_no_positive_cells_give_zero_corner_loss_and_gradient():
    output, batch = make_batch(0)
    parts = losses(output, batch, LossRecipe())
    parts.total.backward()
    assert parts.keypoints_3d.item() == 0
    assert output.keypoints.grad.abs().sum() == 0
    assert output.logits.grad.abs().sum() > 0  # negatives still teach


SURFACE_CLASSES = torch.tensor([[0, 1, BACKGROUND, UNKNOWN], [1, UNKNOWN, BACKGROUND, BACKGROUND]], dtype=torch.int8)


def make_surface(certainty=12.0):
    """Two images of 2 x 2 cells and two classes, and a network that answers them perfectly."""
    output, batch = make_batch(3)
    points = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    points[SURFACE_CLASSES < 0] = 0
    surface = torch.full((2, 2, 4, 4), 0.3)  # points of other classes and of cells without one are anything
    surface[:, :, 3] = -certainty
    for image, cell in torch.nonzero(SURFACE_CLASSES >= 0).tolist():
        own = int(SURFACE_CLASSES[image, cell])
        surface[image, own, :3, cell] = points[image, cell]
        surface[image, own, 3, cell] = certainty
    surface = surface.reshape(2, 2, 4, 2, 2).requires_grad_()
    return output._replace(surface=surface), batch._replace(surface_class=SURFACE_CLASSES, surface_point=points)


def test_a_perfect_surface_costs_nothing_and_teaches_nothing():
    output, batch = make_surface(certainty=30.0)
    loss = surface_loss(output, batch, 0.02)
    assert loss.item() == pytest.approx(0, abs=1e-9)
    loss.backward()
    assert output.surface.grad.abs().max() < 1e-9


def test_surface_loss_matches_plain_loops():
    output, batch = make_surface()
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 2, 4, 4)).astype(np.float32)
    output = output._replace(surface=torch.tensor(values).reshape(2, 2, 4, 2, 2))
    mask, point, cells = 0.0, 0.0, 0
    for image in range(2):
        for cell in range(4):
            truth = int(SURFACE_CLASSES[image, cell])
            for index in range(2):
                p = 1 / (1 + np.exp(-float(values[image, index, 3, cell])))
                if truth != UNKNOWN:
                    mask -= np.log(p if truth == index else 1 - p)
            if truth >= 0:
                gap = np.abs(values[image, truth, :3, cell] - batch.surface_point[image, cell].numpy())
                point += np.where(gap < 0.02, gap**2 / 0.04, gap - 0.01).mean()
                cells += 1
    assert surface_loss(output, batch, 0.02).item() == pytest.approx(mask / 8 + 2 * point / cells, rel=1e-5)


def test_surface_cells_without_a_known_answer_teach_nothing():
    output, batch = make_surface(certainty=0.0)
    surface_loss(output, batch, 0.02).backward()
    taught = output.surface.grad.flatten(3).abs().sum(2)  # (image, class, cell)
    unknown = SURFACE_CLASSES == UNKNOWN
    assert (taught.transpose(1, 2)[unknown] == 0).all()
    assert (taught.transpose(1, 2)[~unknown] > 0).all()
    worse = output.surface.detach().clone().flatten(3)
    before = surface_loss(output, batch, 0.02).item()
    worse[0, :, :, 3] = 100.0
    worse[1, :, :, 1] = -100.0
    assert surface_loss(output._replace(surface=worse.reshape(2, 2, 4, 2, 2)), batch, 0.02).item() == before


def test_the_points_of_other_classes_get_no_gradient():
    output, batch = make_surface()
    moved = (output.surface.detach() + 0.1).requires_grad_()
    surface_loss(output._replace(surface=moved), batch, 0.02).backward()
    points = moved.grad.flatten(3)[:, :, :3].abs().sum(2)
    own = torch.stack([index == SURFACE_CLASSES for index in range(2)], 1)
    assert (points[own] > 0).all()
    assert (points[~own] == 0).all()


def test_without_known_cells_the_surface_still_learns_its_masks():
    output, batch = make_surface(certainty=0.0)
    batch = batch._replace(surface_class=torch.full((2, 4), BACKGROUND, dtype=torch.int8))
    loss = surface_loss(output, batch, 0.02)
    assert loss.item() == pytest.approx(2 * np.log(2), rel=1e-6)  # two classes at one half
    loss.backward()
    grad = output.surface.grad.flatten(3)
    assert (grad[:, :, 3] > 0).all()
    assert (grad[:, :, :3] == 0).all()


@pytest.mark.parametrize('positives', [0, 3])
def test_a_network_without_the_branch_has_no_surface_loss(positives):
    output, batch = make_batch(positives)
    loss = surface_loss(output, batch, 0.02)
    assert loss.item() == 0
    loss.backward()  # part of the graph, as distributed training asks for
    assert (output.logits.grad == 0).all()
    parts = losses(output, batch, LossRecipe(surface=5.0))
    assert parts.surface.item() == 0
    assert parts.total.item() == losses(output, batch, LossRecipe(surface=0.0)).total.item()


@pytest.mark.parametrize('positives', [0, 3])
def test_the_weight_of_the_surface_counts_with_and_without_positive_cells(positives):
    output, batch = make_surface(certainty=0.5)
    _, other = make_batch(positives)
    batch = other._replace(surface_class=batch.surface_class, surface_point=batch.surface_point)
    off = losses(output, batch, LossRecipe(surface=0.0))
    on = losses(output, batch, LossRecipe(surface=3.0))
    value = surface_loss(output, batch, LossRecipe().beta).item()
    assert value > 0
    assert on.surface.item() == pytest.approx(value)
    assert on.total.item() - off.total.item() == pytest.approx(3 * value, rel=1e-4)
    on.total.backward()
    assert output.surface.grad.abs().sum() > 0
