"""The dense network as the robot runs it: raw pixels in, probabilities of the wanted objects' code maps out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd6d_ros.networks.dense_network import DenseNetwork

NEVER = -1e4
"""Mask logit of an object that was not asked for."""


class DeployedDense(nn.Module):
    """image (N, H, W, 3) uint8 RGB and classes (N, C) bool to one code map of each image.

    Returns, with h and w the input's size over ``code_stride``, class_index (N, h, w) int64: the object, of those asked
    for, that a cell shows most likely; mask (N, h, w) float32 in [0, 1]: how likely, 0 where none was asked for; code
    (N, 16, h, w) float32 in [0, 1]: probability of each bit of that object. The size of the answer does not grow with
    the number of objects, and a whole frame says in one run where each of them is.
    """

    def __init__(self, network: DenseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.network(image.permute(0, 3, 1, 2).float())
        wanted = torch.where(classes[:, :, None, None], output.mask, NEVER)
        best, index = wanted.max(1)
        bits = output.code.shape[2]
        chosen = index[:, None, None].expand(-1, 1, bits, -1, -1)
        code = output.code.gather(1, chosen)[:, 0]
        return index, torch.sigmoid(best), torch.sigmoid(code)
