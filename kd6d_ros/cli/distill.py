"""`kd6d distill RECIPE.yaml [key=value ...]`: train a student under a teacher."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLE = """example:
  kd6d train config/distill_cpu.yaml name=teacher network.backbone=darknet_tiny network.channels=256
  kd6d distill config/distill_cpu.yaml name=mug distillation.teacher=runs/teacher/final.pt
  kd6d distill config/distill_cpu.yaml distillation.adlp.weight=0 distillation.naive.weight=1
  kd6d distill config/distill_dense_cpu.yaml data.codes=runs/my_codes

Terms: distillation.adlp, .naive and .feature, each with a weight; they add up. `kd6d train` with the same recipe
trains the same student without a teacher. Sizes are pixels, lengths metres, times seconds."""


def add_parser(subparsers: Any) -> None:
    from kd6d_ros.cli.before_training import add_training_arguments

    parser = subparsers.add_parser(
        'distill',
        help='train a student under a teacher',
        description='Train a network under a trained teacher of its kind, which looks at the same windows; writes '
        'final.pt for `kd6d export`. The student costs the robot nothing more than a plain one.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_training_arguments(parser, 'YAML recipe with a distillation group, e.g. config/distill_cpu.yaml')
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    from kd6d_ros.cli.before_training import check_and_train
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.training.recipe import load_recipe

    recipe = load_recipe(args.recipe, args.overrides)
    if not recipe.distillation.used:
        raise ConfigError(
            f'{args.recipe}: no distillation term has a weight; set distillation.adlp.weight=1, or use `kd6d train`'
        )
    return check_and_train(recipe, args)
