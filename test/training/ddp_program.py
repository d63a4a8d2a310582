"""One of several processes that share a step of distillation; writes its gradients. Run by test_distillation.py:

python ddp_program.py RANK PROCESSES INIT_FILE SAMPLES_FOLDER OUT
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from box_scenes import BOX, CAN
from torch.nn.parallel import DistributedDataParallel

from kd6d_ros.distillation.settings import AdlpSettings, DistillationSettings, FeatureSettings, NaiveSettings
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.spec import NetworkSpec
from kd6d_ros.training.checkpoint import Checkpoint
from kd6d_ros.training.dataset import WindowDataset, collate
from kd6d_ros.training.distillation import DistillationModule
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe, SamplingRecipe

STUDENT = NetworkSpec('darknet_tiny_h', (16, 32), 32, 1, classes=2)
RECIPE = Recipe(
    data=DataRecipe('set'), network=STUDENT, input=InputRecipe(96, 1.4, (160, 112)),
    sampling=SamplingRecipe(window_fraction=0.3, crops_per_frame=2, buffer=8),
    distillation=DistillationSettings(
        'teacher.pt', threshold=0.0, adlp=AdlpSettings(weight=1.0, blur=0.05), naive=NaiveSettings(weight=0.5),
        feature=FeatureSettings(weight=1.0),
    ),
)  # fmt: skip
SHARES = {1: (slice(0, 6),), 2: (slice(0, 2), slice(2, 6))}
"""Which samples each process gets: unequal parts, with different numbers of objects and cells."""


def make_module() -> DistillationModule:
    """The same random student and teacher in every process; normalisation by statistics that do not change."""
    torch.manual_seed(3)
    teacher = KeypointNetwork(replace(STUDENT, channels=64))
    for network in (teacher,):
        torch.nn.init.normal_(network.head.offsets.weight, std=0.1)
    module = DistillationModule(RECIPE, Checkpoint(teacher, RECIPE, (BOX, CAN), {}))
    return module.eval()


class Objective(torch.nn.Module):
    def __init__(self, module: DistillationModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch) -> torch.Tensor:
        return self.module.objective(self.module.network(batch.image), batch)


def main() -> None:
    rank, processes, init, folder, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{init}', rank=rank, world_size=processes)
    source = iter(WindowDataset(Path(folder), (BOX, CAN), np.arange(12), RECIPE, 1))
    samples = [next(source) for _ in range(6)]
    module = make_module()
    module.average.requires_grad_(False)
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.__setitem__(name, float(value))
    module.log_dict = lambda values: logged.update({name: float(value) for name, value in values.items()})
    wrapped = DistributedDataParallel(Objective(module))
    wrapped(collate(samples[SHARES[processes][rank]])).backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    torch.save({'gradients': gradients, 'logged': logged}, f'{out}.{rank}')
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
