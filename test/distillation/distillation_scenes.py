"""Small batches and network outputs for tests of the distillation terms."""

from __future__ import annotations

import torch

from kd6d_ros.networks.keypoint_network import KeypointNetwork, KeypointOutput
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.dataset import Batch, Instances

SPEC = NetworkSpec('darknet_tiny_h', (16, 32, 64), 32, 1, classes=2)
SIZE = 128
BOXES = ((0, 0, (8, 8, 72, 72)), (0, 1, (80, 40, 127, 120)), (1, 1, (0, 0, 127, 127)))
"""Image, class and mask (x0 y0 x1 y1) of three instances in two images."""


def grid(spec=SPEC):
    """Cells of a window of SIZE pixels without running a backbone."""
    sizes = [(-(-SIZE // stride),) * 2 for stride in spec.strides]
    return KeypointNetwork.grid(type('Named', (), {'spec': spec})(), sizes, torch.device('cpu'))


def make_output(seed=0, spec=SPEC, images=2, dtype=torch.float32):
    """Random scores, corners around the cells; differentiable leaves."""
    generator = torch.Generator().manual_seed(seed)
    cells = grid(spec)
    count = len(cells.level)
    logits = torch.randn(images, count, spec.classes, generator=generator, dtype=torch.float64)
    corners = 64 + 20 * torch.randn(images, count, spec.classes, 8, 2, generator=generator, dtype=torch.float64)
    return KeypointOutput(logits.to(dtype).requires_grad_(), corners.to(dtype).requires_grad_(), cells)


def make_instances(boxes=BOXES, images=2):
    at_pixel = torch.full((images, SIZE // 4, SIZE // 4), -1, dtype=torch.int16)
    for index, (image, _, (x0, y0, x1, y1)) in enumerate(boxes):
        at_pixel[image, -(-y0 // 4) : y1 // 4 + 1, -(-x0 // 4) : x1 // 4 + 1] = index
    return Instances(
        torch.tensor([b[0] for b in boxes], dtype=torch.long), torch.tensor([b[1] for b in boxes], dtype=torch.long),
        torch.tensor([float(max(x1 - x0, y1 - y0)) for _, _, (x0, y0, x1, y1) in boxes]),
        torch.zeros(len(boxes), 0, dtype=torch.long), torch.tensor([[0.002, 0.003]] * images), at_pixel,
    )  # fmt: skip


def make_batch(cells_of=((0, 1, 9), (14, 15), (3, 20, 40, 70)), boxes=BOXES, images=2, spec=SPEC):
    """A batch whose instances have the positive cells named by `cells_of`."""
    instances = make_instances(boxes, images)
    image = [boxes[i][0] for i, cells in enumerate(cells_of) for _ in cells]
    chosen = [boxes[i][1] for i, cells in enumerate(cells_of) for _ in cells]
    cell = [c for cells in cells_of for c in cells]
    longest = max((len(cells) for cells in cells_of), default=0)
    table, start = torch.full((len(cells_of), longest), -1), 0
    for row, cells in enumerate(cells_of):
        table[row, : len(cells)] = torch.arange(start, start + len(cells))
        start += len(cells)
    size = torch.tensor([float(instances.size_px[i]) for i, cells in enumerate(cells_of) for _ in cells])
    none = torch.zeros(0)
    return Batch(
        torch.zeros(images, 3, SIZE, SIZE, dtype=torch.uint8),
        torch.zeros(images, len(grid(spec).level), spec.classes, dtype=torch.int8),
        *(torch.tensor(values, dtype=torch.long) for values in (image, cell, chosen)),
        none, none, none, size, none, none, none, instances._replace(positives=table),
    )  # fmt: skip
