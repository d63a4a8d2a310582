"""Multiply-adds (MACs) of a network, part by part.

Counted are the convolutions and matrix products of one forward pass, as is usual; normalisation, activations and
upsampling are not. PyTorch's counter gives FLOPs; one multiply-add is two of them.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import torch
from torch.utils.flop_counter import FlopCounterMode

from kd6d_ros.networks.make_network import AnyNetwork


@dataclass(frozen=True)
class Macs:
    """Multiply-adds of one image in each part of the network, 0 for a part that it does not have."""

    backbone: int
    pyramid: int
    head: int
    surface: int
    decoder: int

    @property
    def total(self) -> int:
        return int(sum(astuple(self)))


def count_macs(network: AnyNetwork, width: int, height: int) -> Macs:
    """Multiply-adds for one image of `width` x `height` network px, multiples of ``spec.input_multiple``.

    The network computes one black image for it, in evaluation mode, and is left as it was.
    """
    was_training = network.training
    network.eval()
    image = torch.zeros((1, 3, height, width), device=network.mean.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(was_training)
    flops = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    root = type(network).__name__
    return Macs(**{part.name: flops.get(f'{root}.{part.name}', 0) // 2 for part in fields(Macs)})
