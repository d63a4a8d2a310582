"""The network as the robot runs it: raw pixels in, pre-selected cells out, all in one graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from kd6d_ros.inference.engines.network_io import CODE_OUTPUTS
from kd6d_ros.networks.dense_network import DenseNetwork
from kd6d_ros.networks.deployed_dense import DeployedDense
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.make_network import AnyNetwork

INPUTS = ('image', 'classes')
OUTPUTS = ('class_index', 'score', 'level', 'centre', 'keypoints')
SURFACE = 'surface'


class DeployedGraph(nn.Module):
    """image (N, H, W, 3) uint8 RGB and classes (N, C) bool to the M best cells of each image.

    Returns class_index (N, M) int64, score (N, M) float32 in [0, 1] (best first, 0 for classes that were not
    asked for), level (N, M) int64, centre (N, M, 2) and keypoints (N, M, 8, 2) float32 network px.
    M is always max_cells, so that every shape is fixed: a small crop is filled up with cells of score 0.
    A network with a surface branch adds surface (N, C, 4, H / 8, W / 8) float32.
    """

    def __init__(self, network: KeypointNetwork, max_cells: int) -> None:
        super().__init__()
        self.network, self.max_cells = network, max_cells

    def forward(self, image: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
        output = self.network(image.permute(0, 3, 1, 2).float())
        score = torch.sigmoid(output.logits) * classes[:, None, :].float()
        flat = score.flatten(1)
        best, index = functional.pad(flat, (0, self.max_cells)).topk(self.max_cells, dim=1)
        index = index.clamp(max=flat.shape[1] - 1)
        count = self.network.spec.classes
        cell, class_index = index // count, index % count
        keypoints = output.keypoints.flatten(1, 2).flatten(2)
        picked = keypoints.gather(1, index[..., None].expand(-1, -1, keypoints.shape[2]))
        grid = output.grid
        cells = (class_index, best, grid.level[cell], grid.centre[cell], picked.unflatten(2, (8, 2)))
        return cells if output.surface is None else (*cells, output.surface)


def deployed(network: AnyNetwork, max_cells: int) -> DeployedGraph | DeployedDense:
    """The graph of a network of either kind, in evaluation mode; max_cells: of a keypoint network."""
    graph = DeployedDense(network) if isinstance(network, DenseNetwork) else DeployedGraph(network, max_cells)
    return graph.eval()


def output_names(network: AnyNetwork) -> tuple[str, ...]:
    """Names of what ``deployed`` returns."""
    if isinstance(network, DenseNetwork):
        return CODE_OUTPUTS
    return (*OUTPUTS, SURFACE) if network.surface else OUTPUTS
