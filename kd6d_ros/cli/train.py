"""`kd6d train RECIPE.yaml [key=value ...]`: train a teacher or a plain student."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLE = """example:
  kd6d synth --models my_meshes --out runs/my_data --images 4000 --seed 1 --workers 2
  kd6d train config/train_cpu.yaml name=mug data.train=runs/my_data train.steps=8000

Sizes are pixels, lengths metres, times seconds. Progress: tensorboard --logdir runs."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        'train',
        help='train a network from a recipe',
        description='Train a keypoint network on a BOP-format dataset, without a teacher even if the recipe names one; '
        'writes final.pt for `kd6d export`.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('recipe', type=Path, help='YAML recipe, e.g. config/train_cpu.yaml')
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='settings that replace the recipe')
    parser.add_argument('--resume', action='store_true', help='continue the run in the output folder')
    parser.flags_first = True  # `kd6d train recipe.yaml --resume train.steps=9000`
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from kd6d_ros.cli.before_training import check_before
    from kd6d_ros.distillation.settings import DistillationSettings
    from kd6d_ros.training.recipe import load_recipe

    recipe = replace(load_recipe(args.recipe, args.overrides), distillation=DistillationSettings())
    check_before(recipe)

    from kd6d_ros.training.run import train

    final = train(recipe, args.resume)
    print(f'wrote {final}; next: kd6d export --checkpoint {final} --out models/{recipe.name}')
    return 0
