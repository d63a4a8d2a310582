"""Losses of the dense network: masks, and the bits of the surface codes weighted by how well each is known.

A bit that is still wrong for about a quarter of the pixels gets the most weight; one that is learnt, and one that is
guessed because the coarser ones before it are not learnt yet, gets less. So the network learns from coarse to fine.

Two things differ from the released code of ZebraPose. Bits are learnt where the true mask is, not where the network's
own mask is, which is empty at first. The mask's loss is the cross-entropy instead of the L1 distance of its
probability, which is least for 0 or 1 even where the network cannot know; points are weighed with this probability.

Reference: Su et al., "ZebraPose", CVPR 2022, eq. 4 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kd6d_ros.inference.surface_codes import PLACES
from kd6d_ros.training.surface_targets import UNKNOWN

if TYPE_CHECKING:
    from kd6d_ros.networks.dense_network import DenseOutput
    from kd6d_ros.training.dataset import Batch

STEEPNESS = 3.0
HALF = 0.51


class CodePixels(NamedTuple):
    """The P pixels of a batch that have a code: class (P,), logits and true bits (P, 16)."""

    owner: Tensor
    logits: Tensor
    bits: Tensor


def bit_weights(errors: Tensor) -> Tensor:
    """Weights of bits whose shares of wrong pixels are `errors`, any shape."""
    return torch.exp(STEEPNESS * torch.minimum(errors, HALF - errors))


def mask_loss(output: DenseOutput, batch: Batch) -> Tensor:
    """Binary cross-entropy, summed over classes and averaged over pixels; those of which nothing is known are left
    out."""
    classes = batch.surface_class.long()
    index = torch.arange(output.mask.shape[1], device=classes.device)
    truth = (classes[:, None] == index[:, None]).float()
    each = F.binary_cross_entropy_with_logits(output.mask.flatten(2), truth, reduction='none').sum(1)
    return (each * (classes != UNKNOWN)).mean()


def code_pixels(output: DenseOutput, batch: Batch) -> CodePixels:
    """The pixels on objects."""
    assert batch.code is not None
    classes = batch.surface_class.long()
    image, pixel = torch.nonzero(classes >= 0, as_tuple=True)
    owner = classes[image, pixel]
    places = torch.as_tensor(PLACES, device=owner.device)
    bits = (batch.code[image, pixel].long()[:, None] & places > 0).float()
    return CodePixels(owner, output.code.flatten(3)[image, owner, :, pixel], bits)


def code_loss(pixels: CodePixels, weights: Tensor, amount: Tensor) -> Tensor:
    """Cross-entropy of the bits with weights (P, 16), summed and divided by `amount`: the sum of the weights, or its
    mean over several processes."""
    each = F.binary_cross_entropy_with_logits(pixels.logits, pixels.bits, reduction='none')
    return (weights * each).sum() / amount.clamp_min(1e-6)


@torch.no_grad()
def wrong_bits(pixels: CodePixels, classes: int) -> tuple[Tensor, Tensor]:
    """How many bits are wrong (C, 16), and of how many pixels (C,), by class."""
    wrong = ((pixels.logits > 0) != (pixels.bits > 0)).float()
    errors, count = wrong.new_zeros(classes, wrong.shape[1]), wrong.new_zeros(classes)
    return errors.index_add_(0, pixels.owner, wrong), count.index_add_(0, pixels.owner, torch.ones_like(wrong[:, 0]))


@torch.no_grad()
def leading_bits(pixels: CodePixels) -> Tensor:
    """Mean number of bits before the first wrong one (scalar), 0 without pixels."""
    right = ((pixels.logits > 0) == (pixels.bits > 0)).float()
    return right.cumprod(1).sum() / max(len(right), 1)
