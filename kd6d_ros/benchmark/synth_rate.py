"""How many training images a second `kd6d synth` writes, and how long it takes to start."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Dict, List, Optional, Tuple

from kd6d_ros.benchmark.processes import python_module
from kd6d_ros.errors import BagError

LIMIT = 25.0
"""Images a second to reach on two cores (640x480, the recipe of models/lmo)."""


@dataclass(frozen=True)
class SynthPlan:
    """What to render: models folder, recipe, further arguments of `kd6d synth`."""

    models: Path
    recipe: Path
    arguments: Tuple[str, ...] = ()
    images: int = 500
    workers: int = 2
    seed: int = 5


def lmo_plan(shared: Path, root: Path) -> Optional[SynthPlan]:
    """The recipe of models/lmo with the development data in `shared`; None where they are missing."""
    models, recipe = shared / 'lmo' / 'models', root / 'config' / 'synth_lmo.yaml'
    if not models.is_dir() or not recipe.is_file():
        return None
    arguments: List[str] = ['--objects-config', str(root / 'config' / 'objects_lmo.yaml')]
    if (shared / 'backgrounds').is_dir():
        arguments += ['--backgrounds', str(shared / 'backgrounds')]
    clutter = [str(folder) for folder in (shared / 'ycb', shared / 'lm_more' / 'models') if folder.is_dir()]
    if clutter:
        arguments += ['--distractors', *clutter]
    return SynthPlan(models, recipe, tuple(arguments))


def measure(plan: SynthPlan) -> Dict[str, Any]:
    """Render into a temporary folder: the rate that the command reports, which counts from its first image, and the
    seconds from start to end, loading and baking the meshes included.

    Raises:
        BagError: the command failed; its last line is in the message.
    """
    with tempfile.TemporaryDirectory(prefix='kd6d_synth_') as folder:
        out = Path(folder) / 'set'
        command = python_module(
            'kd6d_ros.cli.main',
            'synth',
            '--models',
            str(plan.models),
            '--out',
            str(out),
            '--images',
            str(plan.images),
            '--seed',
            str(plan.seed),
            '--workers',
            str(plan.workers),
            '--config',
            str(plan.recipe),
            *plan.arguments,
            '--json',
        )
        started = monotonic()
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = monotonic() - started
        if child.returncode != 0:
            last = (child.stderr.strip().splitlines() or ['it said nothing'])[-1]
            raise BagError(f'kd6d synth ended with code {child.returncode}: {last}')
        rate = float(json.loads(child.stdout)['images_per_second'])
        written = len(list(out.glob('train*/*/rgb/*')))
    if written != plan.images:
        raise BagError(f'kd6d synth wrote {written} of {plan.images} images')
    return {
        'images': plan.images,
        'workers': plan.workers,
        'seed': plan.seed,
        'recipe': plan.recipe.name,
        'models': plan.models.parent.name,
        'seconds': round(seconds, 2),
        'images_per_s': round(rate, 2),
        'limit': LIMIT,
        'within_limits': rate >= LIMIT,
    }
