"""`kd6d train RECIPE.yaml [key=value ...]`: train a teacher or a plain student."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLE = """example:
  kd6d synth --models my_meshes --out runs/my_data --images 4000 --seed 1 --workers 2
  kd6d train config/train_cpu.yaml name=mug data.train=runs/my_data train.steps=8000
  kd6d train config/train_dense_cpu.yaml name=mug_dense data.train=runs/my_data data.codes=runs/my_codes

Sizes are pixels, lengths metres, times seconds. Progress: tensorboard --logdir runs."""


def add_parser(subparsers: Any) -> None:
    from kd6d_ros.cli.before_training import add_training_arguments

    parser = subparsers.add_parser(
        'train',
        help='train a network from a recipe',
        description='Train a network on a BOP-format dataset, without a teacher even if the recipe names one; writes '
        'final.pt for `kd6d export`.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_training_arguments(parser, 'YAML recipe, e.g. config/train_cpu.yaml')
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from kd6d_ros.cli.before_training import check_and_train
    from kd6d_ros.distillation.settings import DistillationSettings
    from kd6d_ros.training.recipe import load_recipe

    recipe = replace(load_recipe(args.recipe, args.overrides), distillation=DistillationSettings())
    return check_and_train(recipe, args)
