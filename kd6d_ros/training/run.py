"""One training run: recipe in; ``latest.pt`` and ``final.pt`` (portable weights), ``last.ckpt`` (to resume) out."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kd6d_ros.errors import ConfigError
from kd6d_ros.networks.backbones import parameter_count
from kd6d_ros.training.checkpoint import DenseCheckpoint, save_checkpoint
from kd6d_ros.training.data_module import Windows
from kd6d_ros.training.dense_module import DenseModule
from kd6d_ros.training.distillation import DenseDistillationModule, DistillationModule, UnderTeacher
from kd6d_ros.training.load_teacher import load_teacher
from kd6d_ros.training.module import KeypointModule, PoseModule
from kd6d_ros.training.recipe import Recipe, load_recipe, to_mapping
from kd6d_ros.training.start_weights import check_fixed_weights, recalibrate, start_network, take_weights

CALIBRATION_WINDOWS = 256


class PoseValidation(Callback):
    """Every `validate_every` steps: poses on held-out frames (one JSON line in validation.jsonl) and latest.pt."""

    def __init__(self, recipe: Recipe, data: Windows) -> None:
        self.recipe, self.data = recipe, data
        self.start = time.monotonic()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        due = step % self.recipe.train.validate_every == 0 or step == self.recipe.train.steps
        if due and trainer.is_global_zero:
            self.measure(trainer, module, step)
            save_portable(self.recipe.folder / 'latest.pt', module, self.data, step)

    def measure(self, trainer: Any, module: Any, step: int) -> None:
        result = module.poses_held_out(self.data)
        record = {'step': step, 'seconds': round(time.monotonic() - self.start, 1), **result._asdict()}
        with open(self.recipe.folder / 'validation.jsonl', 'a', encoding='utf-8') as out:
            out.write(json.dumps(record) + '\n')
        print(
            f'\nstep {step}: recall at 0.1 d {100 * result.recall:.1f} % of {result.looked_at} held-out objects '
            f'({100 * result.accepted:.1f} % with a pose)',
            flush=True,
        )
        for logger in trainer.loggers:
            logger.log_metrics({'validation/recall': result.recall, 'validation/accepted': result.accepted}, step)


def train(recipe: Recipe, resume: bool = False) -> Path:
    """Train as `recipe` says, under its teacher if a distillation term is in use; returns the path of ``final.pt``.

    Raises:
        ConfigError: the output folder holds another run, resume finds nothing, the teacher cannot be used, or the
            backbone would keep random weights.
        CodesError: the surface codes of a dense network cannot be used.
        DatasetError: the data cannot be used.
    """
    folder = recipe.folder
    last = folder / 'last.ckpt'
    L.seed_everything(recipe.seed, verbose=False)
    torch.set_float32_matmul_precision('high')
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    data = Windows(recipe)
    module = make_module(recipe, data)
    start = None
    if not resume:  # the checkpoint of a resumed run has its own weights
        start = start_network(recipe)
        check_fixed_weights(module.network, start)
    if not rank_zero_only.rank:  # other processes start later and would find the folder taken
        _claim(folder, recipe, resume)
    if start is not None:
        if start.unfolded:
            recalibrate(start.network, data.some_images(CALIBRATION_WINDOWS))
        for network in (module.network, module.average.network):
            take_weights(network, start.network)
    if resume:
        data.start_step = _resumed_step(last)
    trainer = _trainer(recipe, data)
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer.fit(module, datamodule=data, ckpt_path=str(last) if resume else None, weights_only=True)
    final = folder / 'final.pt'
    if trainer.is_global_zero:
        save_portable(final, module, data, trainer.global_step)
    return final


def make_module(recipe: Recipe, data: Windows) -> PoseModule:
    """What Lightning trains: a plain network of either kind, or a student with its teacher."""
    if not recipe.distillation.used:
        return DenseModule(recipe, data.books) if recipe.network.kind == 'dense' else KeypointModule(recipe)
    teacher = load_teacher(recipe, data.objects, data.books)
    L.seed_everything(recipe.seed, verbose=False)  # the teacher drew numbers: the student starts as a plain one does
    module: UnderTeacher
    if isinstance(teacher, DenseCheckpoint):
        module = DenseDistillationModule(recipe, teacher)
    else:
        module = DistillationModule(recipe, teacher)
    if not recipe.distillation.feature.weight:  # maps are too large to keep
        data.question = module.question()
    return module


def save_portable(path: Path, module: PoseModule, data: Windows, step: int) -> None:
    """Write the averaged weights with what belongs to them."""
    network = copy.deepcopy(module.average.network).cpu().float()
    facts = {**_facts(module.recipe, network, step), **module.facts()}
    save_checkpoint(path, module.portable(network, data, facts))


def _trainer(recipe: Recipe, data: Windows) -> L.Trainer:
    settings, folder = recipe.train, recipe.folder
    keep = ModelCheckpoint(folder, filename='last', every_n_train_steps=settings.validate_every,
                           save_top_k=1, enable_version_counter=False)  # fmt: skip
    return L.Trainer(
        max_steps=settings.steps,
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=settings.strategy,
        precision=settings.precision,  # type: ignore[arg-type]
        gradient_clip_val=recipe.optimiser.clip_norm,
        logger=[TensorBoardLogger(str(folder), name='', version='tensorboard'),
                CSVLogger(str(folder), name='', version=f'csv_{data.start_step:07d}', flush_logs_every_n_steps=50)],
        callbacks=[keep, PoseValidation(recipe, data), TQDMProgressBar(refresh_rate=20)],
        log_every_n_steps=min(50, settings.steps),
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(folder),
    )  # fmt: skip


def _resumed_step(last: Path) -> int:
    try:
        return int(torch.load(last, map_location='cpu', weights_only=True)['global_step'])
    except Exception as err:  # torch raises many kinds for a damaged file
        raise ConfigError(
            f'{last}: damaged ({type(err).__name__}); start again in a new folder, with initial_weights from latest.pt'
        ) from None


def _claim(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse to mix two runs in one folder."""
    progress = [folder / name for name in ('last.ckpt', 'latest.pt', 'final.pt')]
    if resume and not (folder / 'last.ckpt').is_file():
        raise ConfigError(f'{folder}: nothing to resume (no last.ckpt); start without --resume')
    if not resume and any(path.exists() for path in progress):
        raise ConfigError(f'{folder}: already holds a run; continue it with --resume or set out=OTHER_FOLDER')
    if resume:
        _check_same(folder, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(to_mapping(recipe), sort_keys=False)
    (folder / 'recipe.yaml').write_text(text, encoding='utf-8')


def _check_same(folder: Path, recipe: Recipe) -> None:
    """Only the length and the pace of a run may change on the way."""
    before = load_recipe(folder / 'recipe.yaml')
    for group in ('network', 'input', 'assignment', 'data', 'distillation'):
        if getattr(before, group) != getattr(recipe, group):
            raise ConfigError(f'{folder}: the run was started with other {group} settings; use another out folder')


def _facts(recipe: Recipe, network: torch.nn.Module, step: int) -> dict[str, Any]:
    log = recipe.folder / 'validation.jsonl'
    lines = log.read_text(encoding='utf-8').splitlines() if log.is_file() else []
    return {
        'commit': _commit(),
        'parameters': parameter_count(network),
        'steps': step,
        'images_seen': step * recipe.train.batch_size * recipe.train.devices,
        'validation': json.loads(lines[-1]) if lines else {},
        'torch': torch.__version__.split('+')[0],
        'numpy': np.__version__,
    }


def _commit() -> str:
    """Commit of the source tree, '' outside a checkout."""
    command = ['git', '-C', str(Path(__file__).parent), 'rev-parse', '--short', 'HEAD']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ''
    return done.stdout.strip()
