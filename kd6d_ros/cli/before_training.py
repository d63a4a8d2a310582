"""What `kd6d train` and `kd6d distill` share, and what `kd6d study` too looks at before a run's folder is begun."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd6d_ros.training.recipe import Recipe


def add_training_arguments(parser: Any, recipe: str) -> None:
    """Recipe, overrides and --resume; recipe: help of the first."""
    parser.add_argument('recipe', type=Path, help=recipe)
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='settings that replace the recipe')
    parser.add_argument('--resume', action='store_true', help='continue the run in the output folder')
    parser.flags_first = True  # `kd6d train recipe.yaml --resume train.steps=9000`


def check_and_train(recipe: Recipe, args: argparse.Namespace) -> int:
    """Train as `recipe` says and name the next step; returns the exit code."""
    check_before(recipe)

    from lightning.pytorch.utilities import rank_zero_only

    from kd6d_ros.training.run import train

    final = train(recipe, args.resume)
    if not rank_zero_only.rank:  # further processes of a run on several devices go through here too
        print(f'wrote {final}; next: kd6d export --checkpoint {final} --out models/{recipe.name}')
    return 0


def check_before(recipe: Recipe) -> None:
    """Find what is wrong with the data and the devices before a folder for the run is begun.

    Raises:
        DatasetError: no such dataset or split. ConfigError: an output folder that is none, or names and devices
            that Lightning does not know or this machine does not have.
    """
    from kd6d_ros.cli.output import check_folder
    from kd6d_ros.data.bop import BopDataset
    from kd6d_ros.errors import ConfigError

    BopDataset.open(Path(recipe.data.train)).split(recipe.data.split)
    for name, folder in (('out', recipe.folder), ('data.cache', Path(recipe.data.cache))):
        check_folder(f'{name}={folder}', folder)

    import logging

    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    wanted = {name: getattr(recipe.train, name) for name in ('accelerator', 'devices', 'strategy', 'precision')}
    chat = logging.getLogger('lightning.pytorch.utilities.rank_zero')
    level = chat.level
    chat.setLevel(logging.ERROR)  # what it says of the devices comes again with the real trainer
    try:
        lightning.Trainer(**wanted, max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    except (ValueError, ImportError, MisconfigurationException) as error:
        given = ', '.join(f'train.{name}={value}' for name, value in wanted.items())
        raise ConfigError(f'{given}: {" ".join(str(error).split())[:240]}') from None
    finally:
        chat.setLevel(level)
