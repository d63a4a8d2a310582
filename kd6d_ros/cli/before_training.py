"""What `kd6d train`, `kd6d distill` and `kd6d study` look at before a folder for a run is begun."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kd6d_ros.training.recipe import Recipe


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
