"""The Lightning module of a dense network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kd6d_ros.errors import ConfigError
from kd6d_ros.inference.surface_codes import BITS
from kd6d_ros.networks.dense_network import DenseNetwork, DenseOutput
from kd6d_ros.training.checkpoint import DenseCheckpoint
from kd6d_ros.training.code_targets import fingerprints
from kd6d_ros.training.dense_losses import (
    bit_weights,
    code_loss,
    code_pixels,
    leading_bits,
    mask_loss,
    wrong_bits,
)
from kd6d_ros.training.module import PoseModule, mean_over_processes
from kd6d_ros.training.validation import Validation, validate

if TYPE_CHECKING:
    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.training.data_module import Windows
    from kd6d_ros.training.dataset import Batch
    from kd6d_ros.training.recipe import Recipe

MEMORY = 0.95
"""Share of a bit's error rate that stays from one step to the next."""


class DenseModule(PoseModule):
    """Trains a ``DenseNetwork`` to say the codes of `books`, one per class."""

    network: DenseNetwork
    bit_errors: Tensor

    def __init__(self, recipe: Recipe, books: tuple[CodeBook, ...]) -> None:
        super().__init__(recipe, DenseNetwork(recipe.network))
        self.books = books
        self.register_buffer('bit_errors', torch.full((recipe.network.classes, BITS), 0.5))

    def objective(self, output: DenseOutput, batch: Batch) -> Tensor:
        pixels = code_pixels(output, batch)
        weights = bit_weights(self.bit_errors)[pixels.owner]
        code = code_loss(pixels, weights, mean_over_processes(weights.sum()[None])[0])
        mask = mask_loss(output, batch)
        self._remember(*wrong_bits(pixels, len(self.bit_errors)))
        total = self.recipe.loss.mask * mask + self.recipe.loss.code * code
        parts = {'total': total, 'mask': mask, 'code': code}
        self.log_dict({f'train/{name}': value.detach() for name, value in parts.items()})
        bits = leading_bits(pixels)
        self.log('train/leading_bits', bits)
        self.log('leading_bits', bits, prog_bar=True, logger=False, on_step=True, on_epoch=False)
        return total

    @torch.no_grad()
    def _remember(self, wrong: Tensor, count: Tensor) -> None:
        """Error rates move towards those of this batch, over all processes; classes that are not in it stay."""
        shared = mean_over_processes(torch.cat([wrong, count[:, None]], 1))
        seen = shared[:, -1:] > 0
        rate = shared[:, :-1] / shared[:, -1:].clamp_min(1e-6)
        self.bit_errors.copy_(torch.where(seen, MEMORY * self.bit_errors + (1 - MEMORY) * rate, self.bit_errors))

    def poses_held_out(self, data: Windows) -> Validation:
        network: DenseNetwork = self.average.network  # type: ignore[assignment]
        count = self.recipe.train.validation_crops
        return validate(network, self.recipe, data.objects, data.pack, list(data.validation), count, self.books)

    def portable(self, network: DenseNetwork, data: Windows, facts: dict[str, Any]) -> DenseCheckpoint:
        return DenseCheckpoint(network, self.recipe, data.objects, facts, self.books)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint['codes'] = fingerprints(self.books)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get('codes') != fingerprints(self.books):
            raise ConfigError(
                f'data.codes: {self.recipe.data.codes} holds other codes than those that the run began with; bring '
                'them back, or start again in a new folder'
            )
