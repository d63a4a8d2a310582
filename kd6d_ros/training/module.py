"""The Lightning modules: losses, optimiser with one cycle, and an average of the weights that is kept."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor, nn

from kd6d_ros.errors import TrainingError
from kd6d_ros.networks.keypoint_network import KeypointNetwork, KeypointOutput
from kd6d_ros.networks.make_network import AnyNetwork
from kd6d_ros.training.checkpoint import AnyCheckpoint, Checkpoint
from kd6d_ros.training.dataset import Batch
from kd6d_ros.training.losses import keypoint_losses
from kd6d_ros.training.recipe import Recipe
from kd6d_ros.training.validation import Validation, validate

if TYPE_CHECKING:
    from kd6d_ros.training.data_module import Windows


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear from 0.02 to 1 over `warmup` of the steps, then cosine to 0.002."""
    rise = max(int(warmup * steps), 1)
    if step < rise:
        return 0.02 + 0.98 * step / rise
    progress = min((step - rise) / max(steps - rise, 1), 1.0)
    return 0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * progress))


def mean_over_processes(amounts: Tensor) -> Tensor:
    """`amounts` (n,) averaged over all processes of the run, which all have to ask."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return amounts
    shared = amounts.detach().clone()
    torch.distributed.all_reduce(shared)
    return shared / torch.distributed.get_world_size()


class AveragedWeights(nn.Module):
    """Exponential moving average of a network: parameters and buffers, started with a short horizon."""

    updates: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer('updates', torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + int(self.updates)) / (10 + int(self.updates)))
        mine, theirs = self.network.state_dict(), network.state_dict()
        for key, value in mine.items():
            if value.dtype.is_floating_point:
                value.lerp_(theirs[key].to(value.dtype), 1 - decay)
            else:
                value.copy_(theirs[key])


def parameter_groups(network: AnyNetwork, lr: float, backbone_lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: the backbone at `backbone_lr` times `lr`, no decay for biases and normalisation."""
    backbone = {id(p) for p in network.backbone.parameters()}
    groups = []
    for inside, factor in ((True, backbone_lr), (False, 1.0)):
        part = [p for p in network.parameters() if p.requires_grad and (id(p) in backbone) == inside]
        groups += [
            {'params': [p for p in part if p.ndim > 1], 'lr': factor * lr, 'weight_decay': weight_decay},
            {'params': [p for p in part if p.ndim <= 1], 'lr': factor * lr, 'weight_decay': 0.0},
        ]
    return groups


class PoseModule(L.LightningModule):
    """Trains a network on window batches; `average.network` is what is kept. Subclasses say what is minimised, how
    well it does, and what a checkpoint of it is."""

    network: Any  # each subclass has its own kind

    def __init__(self, recipe: Recipe, network: AnyNetwork) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = network
        self.average = AveragedWeights(network, recipe.optimiser.ema)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        image = batch.image.contiguous(memory_format=torch.channels_last)
        loss = self.objective(self.network(image), batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f'loss became NaN at step {self.global_step}; lower optimiser.lr or use train.precision=32-true'
            )
        return loss

    def objective(self, output: Any, batch: Batch) -> Tensor:
        """What is minimised (scalar), of the network's output for a batch."""
        raise NotImplementedError(f'{type(self).__name__} has no objective')

    def poses_held_out(self, data: Windows) -> Validation:
        """Poses on held-out frames with the averaged weights."""
        raise NotImplementedError(f'{type(self).__name__} has no validation')

    def portable(self, network: Any, data: Windows, facts: dict[str, Any]) -> AnyCheckpoint:
        """What is kept of the run: `network` (CPU, float32) with what belongs to it."""
        raise NotImplementedError(f'{type(self).__name__} has no checkpoint')

    def facts(self) -> dict[str, Any]:
        """What a checkpoint of this run says beside the usual."""
        return {}

    def helpers(self) -> list[nn.Parameter]:
        """What is trained beside the network and left behind with the run."""
        return []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.average.update(self.network)

    @property
    def _fused(self) -> bool:
        """Whether one kernel updates all weights: half the optimiser's time on a CPU, but not with loss scaling."""
        return not self.recipe.train.precision.startswith('16')

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """By norm; Lightning refuses fused optimisers even where no loss is scaled."""
        if not self._fused:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            weights = [weight for group in optimizer.param_groups for weight in group['params']]
            nn.utils.clip_grad_norm_(weights, gradient_clip_val)

    def configure_optimizers(self) -> Any:
        settings = self.recipe.optimiser
        groups = parameter_groups(self.network, settings.lr, settings.backbone_lr, settings.weight_decay)
        if helpers := self.helpers():
            groups.append({'params': helpers, 'lr': settings.lr, 'weight_decay': settings.weight_decay})
        optimiser = torch.optim.AdamW(groups, lr=settings.lr, fused=self._fused)
        steps = self.recipe.train.steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step, steps, settings.warmup))
        return {'optimizer': optimiser, 'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}


class KeypointModule(PoseModule):
    """Trains a ``KeypointNetwork``."""

    network: KeypointNetwork

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, KeypointNetwork(recipe.network))

    def objective(self, output: KeypointOutput, batch: Batch) -> Tensor:
        positives = mean_over_processes(output.logits.new_tensor([float(batch.positive_cell.numel())]))[0]
        parts = keypoint_losses(output, batch, self.recipe.loss, positives)
        self.log_dict({f'train/{name}': value.detach() for name, value in parts._asdict().items()})
        self.log('corner_error', parts.corner_error, prog_bar=True, logger=False, on_step=True, on_epoch=False)
        return parts.total

    def poses_held_out(self, data: Windows) -> Validation:
        network: KeypointNetwork = self.average.network  # type: ignore[assignment]
        count = self.recipe.train.validation_crops
        return validate(network, self.recipe, data.objects, data.pack, list(data.validation), count)

    def portable(self, network: KeypointNetwork, data: Windows, facts: dict[str, Any]) -> Checkpoint:
        return Checkpoint(network, self.recipe, data.objects, facts)
