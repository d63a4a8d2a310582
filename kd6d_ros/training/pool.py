"""A frozen pool of augmented windows on disk: every arm of a comparison trains on the very same ones.

Drawn once, by chunks that each have their own generator, so the pool is the same for any number of processes; read
through memory maps, so that a run costs no decoding. What a teacher says about each window can be kept beside it
(``training.taught``).
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from torch.utils.data import Dataset, Sampler

from kd6d_ros.filled_aside import filled_aside
from kd6d_ros.training.dataset import Sample, make_sample
from kd6d_ros.training.frames import FramePack
from kd6d_ros.training.surface_targets import SurfaceTargets
from kd6d_ros.training.targets import LabelledObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kd6d_ros.training.code_targets import CodeTargets
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.training.taught import Taught
    from kd6d_ros.types import AnyArray, ObjectModel

POOL_VERSION = 1
CHUNK = 256
"""Windows that share a generator."""

PER_OBJECT = ('class_index', 'label', 'corners_px', 'corners_m', 'diameter')


def make_pool(
    pack: Path,
    objects: tuple[ObjectModel, ...],
    frames: AnyArray,
    recipe: Recipe,
    workers: int = 2,
    codes: CodeTargets | None = None,
) -> Path:
    """Draw (or find) the pool of `recipe.sampling.pool` windows of `frames` of a pack, with the `codes` that a dense
    network learns; returns its folder."""
    folder = Path(recipe.data.cache) / f'pool_{_fingerprint(pack, objects, frames, recipe, codes)}'
    if (folder / 'targets.npz').is_file():
        return folder
    with filled_aside(folder) as aside:
        _fill(aside, partial(_chunk, pack, objects, frames, recipe, codes), recipe.sampling.pool, workers)
    return folder


def _fingerprint(
    pack: Path, objects: tuple[ObjectModel, ...], frames: AnyArray, recipe: Recipe, codes: CodeTargets | None = None
) -> str:
    """Everything that decides the windows and their targets; not what only decides the network or the optimiser."""
    network = recipe.network
    cells: list[Any] = [list(network.strides), network.classes, network.surface > 0]
    if codes is not None:
        cells = [network.code_stride, network.classes, codes.fingerprints]
    facts = {
        'version': POOL_VERSION, 'pack': pack.name, 'objects': [o.obj_id for o in objects],
        'frames': hashlib.sha256(np.ascontiguousarray(frames, np.int64).tobytes()).hexdigest(),
        'cells': cells,
        **{group: asdict(getattr(recipe, group)) for group in ('input', 'assignment', 'sampling', 'augmentation')},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _fill(aside: Path, draw: Callable[[int], tuple[AnyArray, dict[str, AnyArray]]], count: int, workers: int) -> None:
    starts = range(0, count, CHUNK)
    rows: dict[str, list[AnyArray]] = defaultdict(list)
    with (
        ProcessPoolExecutor(max(workers, 1), multiprocessing.get_context('spawn')) as processes,
        open(aside / 'images.bin', 'wb') as images,
    ):
        for done, (pictures, part) in enumerate(processes.map(draw, starts), 1):
            images.write(pictures.tobytes())
            for key, value in part.items():
                rows[key].append(value)
            print(f'\rpool: {min(done * CHUNK, count)}/{count} windows', end='', flush=True)
    print(flush=True)
    merged = {key: np.concatenate(parts) for key, parts in rows.items()}
    for key in ('cells', 'objects'):
        merged[f'{key}_offset'] = np.concatenate([[0], np.cumsum(merged.pop(key))])
    np.savez(aside / 'targets.npz', **merged)  # type: ignore[arg-type]


def _chunk(
    pack: Path,
    objects: tuple[ObjectModel, ...],
    frames: AnyArray,
    recipe: Recipe,
    codes: CodeTargets | None,
    start: int,
) -> tuple[AnyArray, dict[str, AnyArray]]:
    """Images and targets of the windows from `start` on."""
    cv2.setNumThreads(1)
    sampling = recipe.sampling
    rng = np.random.default_rng(np.random.SeedSequence([sampling.pool_seed, start]))
    source = FramePack(pack, objects)
    samples: list[Sample] = []
    count = min(CHUNK, sampling.pool - start)
    while len(samples) < count:
        frame = source.frame(int(rng.choice(frames)), with_depth=recipe.network.learns_surface)
        samples += [make_sample(frame, recipe, rng, codes=codes) for _ in range(sampling.crops_per_frame)]
    samples = samples[:count]
    items = [item for sample in samples for item in sample.objects]
    per_object: dict[str, Any] = {key: np.array([getattr(item, key) for item in items]) for key in PER_OBJECT}
    if not items:
        per_object.update(corners_px=np.zeros((0, 8, 2)), corners_m=np.zeros((0, 8, 3)))
    targets = {} if codes is None else {'code': np.stack([s.code for s in samples if s.code is not None])}
    targets |= {
        'score': np.stack([s.score for s in samples]),
        'intrinsics': np.stack([s.intrinsics for s in samples]),
        'surface_class': np.stack([s.surface.classes for s in samples]),
        'surface_point': np.stack([s.surface.points for s in samples]).astype(np.float16),
        'frame_from_window': np.stack([s.frame_from_window for s in samples]),
        'at_pixel': np.stack([s.at_pixel for s in samples]),
        'cell': np.concatenate([s.cell for s in samples]),
        'owner': np.concatenate([s.owner for s in samples]),
        'cells': np.array([len(s.cell) for s in samples]),
        'objects': np.array([len(s.objects) for s in samples]),
        **per_object,
    }
    return np.stack([s.image for s in samples]), targets


class PoolDataset(Dataset[Sample]):
    """The windows of a pool by their number, with what a teacher said of them if that is given."""

    def __init__(self, folder: Path, taught: Taught | None = None) -> None:
        self.folder, self.taught = folder, taught
        with np.load(folder / 'targets.npz', allow_pickle=False) as stored:
            self.targets = {key: stored[key] for key in stored.files}
        count = len(self.targets['score'])
        side = math.isqrt((folder / 'images.bin').stat().st_size // (3 * count))
        self.images = np.memmap(folder / 'images.bin', np.uint8, 'r', shape=(count, side, side, 3))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Sample:
        targets = self.targets
        cells = slice(*targets['cells_offset'][number : number + 2])
        own = range(*targets['objects_offset'][number : number + 2])
        surface = SurfaceTargets(targets['surface_class'][number], targets['surface_point'][number].astype(np.float32))
        return Sample(
            np.array(self.images[number]), targets['score'][number], targets['cell'][cells], targets['owner'][cells],
            [self._object(row) for row in own], targets['intrinsics'][number], surface,
            targets['frame_from_window'][number], targets['at_pixel'][number],
            None if self.taught is None else self.taught.part(own, cells),
            targets['code'][number] if 'code' in targets else None,
        )  # fmt: skip

    def _object(self, row: int) -> LabelledObject:
        t = self.targets
        return LabelledObject(
            int(t['class_index'][row]), int(t['label'][row]), t['corners_px'][row].astype(np.float32),
            t['corners_m'][row].astype(np.float32), float(t['diameter'][row]),
        )  # fmt: skip


class PoolBatches(Sampler[list[int]]):
    """Batches without end: a permutation of the pool after the other, decided by `seed` alone; several processes take
    alternate parts of what one process with all their batches would take. `start`: batches to leave out."""

    def __init__(self, size: int, batch: int, seed: int, rank: int = 0, ranks: int = 1, start: int = 0) -> None:
        self.size, self.batch, self.seed, self.rank, self.ranks, self.start = size, batch, seed, rank, ranks, start

    def __iter__(self) -> Iterator[list[int]]:
        together = self.batch * self.ranks
        position = self.start * together
        while True:
            numbers = [self._number(position + i) for i in range(self.rank * self.batch, (self.rank + 1) * self.batch)]
            yield numbers
            position += together

    def _number(self, position: int) -> int:
        epoch, place = divmod(position, self.size)
        if getattr(self, '_epoch', None) != epoch:
            self._order = np.random.default_rng(np.random.SeedSequence([self.seed, epoch])).permutation(self.size)
            self._epoch = epoch
        return int(self._order[place])
