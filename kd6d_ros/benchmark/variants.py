"""The rows of a comparison: which bundle, precision and engine each one runs."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

from kd6d_ros.errors import ConfigError


@dataclass(frozen=True)
class Variant:
    """One row: bundle folder, precision, engine, CPU threads of the network (None: the engine chooses)."""

    name: str
    bundle: Path
    precision: str = 'fp32'
    engine: str = 'auto'
    threads: Optional[int] = None

    @property
    def slug(self) -> str:
        """The name as part of a topic or file name."""
        return re.sub(r'[^A-Za-z0-9]+', '_', self.name).strip('_')


def make_variants(
    bundles: Sequence[Path], precisions: Sequence[str], engines: Sequence[str], threads: Sequence[Optional[int]] = ()
) -> List[Variant]:
    """Every combination; a name says what differs: ``demo``, ``demo int8-cpu``, ``demo fp32 tensorrt``.

    Raises:
        ConfigError: two bundles of one name, or a value given twice.
    """
    counts: List[Optional[int]] = list(threads) or [None]
    for option, values in (('precision', precisions), ('engine', engines), ('threads', counts)):
        if len(set(values)) < len(values):
            raise ConfigError(f'--{option}: one value is given twice')
    if len({bundle.name for bundle in bundles}) < len(bundles):
        raise ConfigError('--bundle: two bundles have the same folder name, so their rows would look alike')
    out = []
    for bundle, precision, engine, count in itertools.product(bundles, precisions, engines, counts):
        words = [bundle.name]
        words += [precision] if len(precisions) > 1 else []
        words += [engine] if len(engines) > 1 else []
        words += [f'{count} threads'] if len(counts) > 1 else []
        out.append(Variant(' '.join(words), bundle, precision, engine, count))
    return out
