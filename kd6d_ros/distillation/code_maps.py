"""What distillation compares of networks that say a surface code for every pixel: their maps, averaged over squares of
pixels, instance by instance.

A cell of a pooled map is a point with the probabilities of its 16 bits as coordinates and that of the mask as mass.
Pooling is for the costs, which grow with the square of the number of points.

Reference: Guo et al., "Knowledge Distillation for 6D Pose Estimation by Aligning Distributions of Local
Predictions", CVPR 2023, sec. 3.3 (dense predictions); the size of the squares is not given there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kd6d_ros.distillation.clouds import LEAST_MASS, Clouds
from kd6d_ros.inference.surface_codes import BITS

if TYPE_CHECKING:
    from kd6d_ros.networks.dense_network import DenseOutput
    from kd6d_ros.training.dataset import Instances


class CodeMaps(NamedTuple):
    """Pooled maps of I instances, G cells each, row by row: mass (I, G) and code (I, G, 16), probabilities; ``placed``
    ones have two coordinates more."""

    mass: Tensor
    code: Tensor

    def of(self, rows: Tensor) -> CodeMaps:
        """Those of some instances."""
        return CodeMaps(self.mass[rows], self.code[rows])

    def at(self, cells: Tensor) -> CodeMaps:
        """Some cells of all instances."""
        return CodeMaps(self.mass[:, cells], self.code[:, cells])


def pooled_maps(output: DenseOutput, instances: Instances, side: int) -> CodeMaps:
    """The maps of each instance's object in its window, averaged over squares so that side x side of them are left;
    differentiable. The maps' width is a multiple of `side`."""
    where = instances.image, instances.class_index
    square = output.mask.shape[-1] // side
    mass = F.avg_pool2d(torch.sigmoid(output.mask[where].float())[:, None], square)
    code = F.avg_pool2d(torch.sigmoid(output.code[where].float()), square)
    return CodeMaps(mass.flatten(1), code.flatten(2).transpose(1, 2))


def cells_of(instances: Instances, side: int) -> Tensor:
    """(I, side * side) bool: cells that do not show more of another instance of the same object than of this one.
    A network has one map per object, so two of one object in one window share it."""
    at_pixel = instances.at_pixel[instances.image].long()
    index = torch.arange(len(instances.image), device=at_pixel.device)[:, None, None]
    own = at_pixel == index
    alike = instances.class_index[at_pixel.clamp_min(0)] == instances.class_index[:, None, None]
    other = alike & (at_pixel >= 0) & ~own
    shares = F.adaptive_avg_pool2d(torch.stack([own, other], 1).float(), side)
    return (shares[:, 1] <= shares[:, 0]).flatten(1)


def placed(maps: CodeMaps, cells: Tensor, side: int, weight: float) -> CodeMaps:
    """Maps of `cells` (G,) out of side x side with two further coordinates (I, G, 18): the place of each cell. The
    width of the whole map is `weight` times the longest distance of two codes."""
    at = torch.stack([cells.div(side, rounding_mode='floor'), cells % side], 1)
    place = ((at + 0.5) / side * (weight * BITS**0.5)).to(maps.code)
    return CodeMaps(maps.mass, torch.cat([maps.code, place.expand(len(maps.code), -1, -1)], 2))


def thinned_cells(side: int, every: int, step: int) -> Tensor:
    """Numbers of the cells of a map of side x side of which every `every`-th is taken in both directions; in `every`^2
    steps in a row each cell is taken once."""
    row, column = divmod(step % every**2, every)
    return torch.arange(side * side).reshape(side, side)[row::every, column::every].flatten()


def taught_cells(theirs: CodeMaps, usable: Tensor, threshold: float) -> Tensor:
    """(I, G) bool: cells of `usable` where the teacher sees the object, and what it says is finite."""
    finite = torch.isfinite(theirs.code).all(2)
    return usable & finite & (theirs.mass > threshold)


def held_cells(mine: CodeMaps, seen: Tensor, usable: Tensor, threshold: float) -> Tensor:
    """(I, G) bool: what the student's clouds are made of: the cells that the teacher has `seen`, and of those of
    `usable` all where the student sees the object itself. What both think empty is left out, which saves most of the
    time."""
    return seen | (usable & ~(mine.mass.detach() <= threshold))


def code_clouds(mine: CodeMaps, theirs: CodeMaps, held: Tensor, seen: Tensor) -> tuple[Clouds, Clouds]:
    """The clouds of student and teacher of their cells `held` and `seen` (I, G), one cluster of 16 coordinates each.

    Masses are shares of the teacher's sum, so that the terms neither grow with the object's size in the window nor with
    the number of cells.
    """
    count = int(held.sum(1).max()) if len(held) else 0
    cell = held.float().topk(count, dim=1).indices
    seen, held = seen.gather(1, cell), held.gather(1, cell)
    nothing = mine.mass.new_zeros(())
    target = torch.where(seen, theirs.mass.gather(1, cell), nothing)
    source = torch.where(held, mine.mass.gather(1, cell).clamp(LEAST_MASS, 1 - LEAST_MASS), nothing)
    place = cell[..., None].expand(-1, -1, mine.code.shape[2])
    points = [
        torch.where(used[..., None], maps.code.gather(1, place), nothing)[:, :, None]
        for used, maps in ((held, mine), (seen, theirs))
    ]
    unit = target.sum(1, keepdim=True).clamp_min(LEAST_MASS)
    return Clouds(source / unit, points[0]), Clouds(target / unit, points[1])
