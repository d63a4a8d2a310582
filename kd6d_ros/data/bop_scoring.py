"""A result file scored against a dataset, by several processes if asked: each has its part of the images.

Nothing of size targets x vertices is held: a process reads the estimates into columns and goes over its images.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence

import numpy as np

from kd6d_ros.data.bop import BopDataset, read_targets
from kd6d_ros.data.bop_evaluation import iterate_targets, load_evaluation_objects, models_folder
from kd6d_ros.errors import ConfigError
from kd6d_ros.evaluation.result_table import ResultTable
from kd6d_ros.evaluation.results_csv import iterate_results
from kd6d_ros.evaluation.score_table import score_table
from kd6d_ros.evaluation.scores import ScoreOptions, iterate_scores

if TYPE_CHECKING:
    from kd6d_ros.data.bop import Target
    from kd6d_ros.evaluation.visible_surface import VisibleSurface
    from kd6d_ros.types import AnyArray


@dataclass(frozen=True)
class ScoringJob:
    """What to score. vsd_delta [m], None: no VSD; add_s: ADD-S of objects without symmetry too."""

    dataset: Path
    split: str
    targets: Path
    vsd_delta: Optional[float] = None
    add_s: bool = False

    def wanted(self) -> List[Target]:
        """The target list.

        Raises:
            DatasetError: not such a list. ConfigError: an empty one.
        """
        wanted = read_targets(self.targets)
        if not wanted:
            raise ConfigError(f'{self.targets}: the target list is empty')
        return wanted


def read_estimates(job: ScoringJob, results: Path) -> ResultTable:
    """
    Raises:
        DatasetError: a malformed result file, or an object the dataset does not have.
    """
    _, infos = models_folder(BopDataset.open(job.dataset))
    return ResultTable(iterate_results(results, infos))


def score_results(job: ScoringJob, estimates: ResultTable, workers: int = 1) -> AnyArray:
    """Scores of every instance to be found (``score_table``), in order of scenes and images.

    Raises:
        DatasetError, MeshError, MissingDependencyError: what the dataset or this machine lacks.
    """
    if workers == 1:
        return _score_part(job, estimates, 0, 1)
    # Spawned, as a forked child shares the parent's OpenGL and OpenCV state.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        parts = [pool.submit(_score_part, job, estimates, part, workers) for part in range(workers)]
        return np.concatenate([part.result() for part in parts])


def _score_part(job: ScoringJob, estimates: ResultTable, part: int, parts: int) -> AnyArray:
    dataset = BopDataset.open(job.dataset)
    wanted = _part_of(job.wanted(), part, parts)
    folder, infos = models_folder(dataset)
    objects = load_evaluation_objects(folder, infos, sorted({target.obj_id for target in wanted}))
    options = ScoreOptions(_surface(job, dataset, wanted, folder), job.add_s)
    targets = iterate_targets(dataset, job.split, wanted, job.targets)
    return score_table(iterate_scores(targets, estimates, objects, options))


def _part_of(wanted: Sequence[Target], part: int, parts: int) -> List[Target]:
    """Neighbouring images stay together, so that few scenes are read by two processes."""
    images = sorted({(target.scene_id, target.image_id) for target in wanted})
    own = set(images[len(images) * part // parts : len(images) * (part + 1) // parts])
    return [target for target in wanted if (target.scene_id, target.image_id) in own]


def _surface(job: ScoringJob, dataset: BopDataset, wanted: Sequence[Target], models: Path) -> Optional[VisibleSurface]:
    if job.vsd_delta is None or not wanted:
        return None
    from kd6d_ros.data.depth_views import visible_surface

    return visible_surface(dataset, job.split, wanted, models, job.vsd_delta)


def check_vsd(job: ScoringJob) -> None:
    """Find out whether VSD can be computed before hours of scoring.

    Raises:
        DatasetError, MeshError, MissingDependencyError, ConfigError: what is missing.
    """
    dataset = BopDataset.open(job.dataset)
    _surface(job, dataset, job.wanted(), models_folder(dataset)[0])
