"""Windows with targets, drawn from packed frames without end; each worker and rank sees its own frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from kd6d_ros.networks.spec import LABEL_STEP
from kd6d_ros.training.answers import join_answers
from kd6d_ros.training.augment import augment
from kd6d_ros.training.frames import Frame, FramePack
from kd6d_ros.training.surface_targets import SurfaceTargets, surface_targets
from kd6d_ros.training.targets import IGNORE, CellTargets, LabelledObject, assign_cells, window_cells
from kd6d_ros.training.windows import draw_window

if TYPE_CHECKING:
    from kd6d_ros.inference.crop import Crop
    from kd6d_ros.training.answers import AnyAnswer, TaughtPart
    from kd6d_ros.training.code_targets import CodeTargets
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.types import AnyArray, ObjectModel


class Instances(NamedTuple):
    """The labelled objects of a batch, I in all, for what compares two networks instance by instance.

    image (I,), class_index (I,) and size_px (I,) of each; positives (I, K): where the instance's positive cells stand
    in the batch's list of them, filled up with -1; frame_from_window (N, 2): window pixels to shares of the frame's
    width and height; at_pixel (N, H, W) int16: the instance under every ``LABEL_STEP``-th pixel of the window, -1 for
    none.
    """

    image: Tensor
    class_index: Tensor
    size_px: Tensor
    positives: Tensor
    frame_from_window: Tensor
    at_pixel: Tensor


class Batch(NamedTuple):
    """image (N, 3, S, S) uint8; score (N, A, C) int8 targets; per positive cell: image (P,), cell (P,),
    class (P,), corners in window px (P, 8, 2), in the camera frame (P, 8, 3) [m], diameter (P,) [m], size (P,)
    [px]; intrinsics (P, 4) fx fy cx cy of the window; surface_class (N, G) int8 and surface_point (N, G, 3)
    of ``SurfaceTargets``, G = 0 for a network without the branch; instances: see ``Instances``; taught: what a teacher
    said about the windows, if it was asked before.

    Of a dense network surface_class is that of its map's pixels and code (N, G) int32 the surface code of each; there
    are no cells (A and P are 0) and no surface points."""

    image: Tensor
    score: Tensor
    positive_image: Tensor
    positive_cell: Tensor
    positive_class: Tensor
    corners_px: Tensor
    corners_m: Tensor
    diameter: Tensor
    size_px: Tensor
    intrinsics: Tensor
    surface_class: Tensor
    surface_point: Tensor
    instances: Instances
    taught: AnyAnswer | None = None
    code: Tensor | None = None


class Sample(NamedTuple):
    """One window: image (S, S, 3) uint8, cell targets, its objects, its intrinsics fx fy cx cy, the targets of
    the surface branch (empty without one), and what ``Instances`` says of one window: frame_from_window (2,) and
    at_pixel (H, W) int8 with the index of the object in `objects`; taught: a teacher's answer, if it was asked; code
    (G,) uint16 for a dense network."""

    image: AnyArray
    score: AnyArray
    cell: AnyArray
    owner: AnyArray
    objects: list[LabelledObject]
    intrinsics: AnyArray
    surface: SurfaceTargets
    frame_from_window: AnyArray
    at_pixel: AnyArray
    taught: TaughtPart | None = None
    code: AnyArray | None = None


class WindowDataset(IterableDataset[Sample]):
    """Endless shuffled windows of `frames`, reproducible from `seed` for a given number of workers."""

    def __init__(
        self,
        pack: Path,
        objects: tuple[ObjectModel, ...],
        frames: AnyArray,
        recipe: Recipe,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        codes: CodeTargets | None = None,
    ) -> None:
        """codes: of the objects, for a dense network."""
        self.codes = codes
        self.pack_folder, self.objects, self.frames = pack, objects, frames
        self.recipe, self.seed, self.rank, self.ranks = recipe, seed, rank, ranks

    def __iter__(self) -> Iterator[Sample]:
        cv2.setNumThreads(1)
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        share, index = self.ranks * workers, self.rank * workers + worker
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        frames = self.frames[index::share] if len(self.frames) >= share else self.frames
        pack = FramePack(self.pack_folder, self.objects)
        return self._shuffled(self._windows(pack, frames, rng), rng)

    def _windows(self, pack: FramePack, frames: AnyArray, rng: np.random.Generator) -> Iterator[Sample]:
        while True:
            for number in rng.permutation(frames):
                frame = pack.frame(int(number), with_depth=self.recipe.network.learns_surface)
                for _ in range(self.recipe.sampling.crops_per_frame):
                    yield make_sample(frame, self.recipe, rng, codes=self.codes)

    def _shuffled(self, source: Iterator[Sample], rng: np.random.Generator) -> Iterator[Sample]:
        """Keep a buffer, so that the crops of one frame do not meet in one batch."""
        buffer = [next(source) for _ in range(self.recipe.sampling.buffer)]
        for sample in source:
            slot = int(rng.integers(len(buffer)))
            yield buffer[slot]
            buffer[slot] = sample


NO_SURFACE = SurfaceTargets(np.zeros(0, np.int8), np.zeros((0, 3), np.float32))
NO_CELLS = CellTargets(np.zeros((0, 0), np.int8), np.zeros(0, np.int64), np.zeros(0, np.int64))


def make_sample(
    frame: Frame,
    recipe: Recipe,
    rng: np.random.Generator,
    photometric: bool = True,
    codes: CodeTargets | None = None,
) -> Sample:
    """Draw one window of `frame` and label its cells, or with `codes` the pixels of a dense network's map."""
    crop = draw_window(frame, recipe.sampling, recipe.input, rng)
    image = crop.extract(frame.image)
    labels = cv2.warpAffine(frame.labels, crop.net_from_image(), (crop.width, crop.height), flags=cv2.INTER_NEAREST)
    objects = _objects_in(frame, crop, labels, recipe.sampling.label_visible)
    if codes is None:
        targets, code = _cell_targets(frame, labels, objects, recipe, rng), None
        surface = surface_targets(frame, crop) if recipe.network.surface else NO_SURFACE
    else:
        targets, surface = NO_CELLS, surface_targets(frame, crop, recipe.network.code_stride, through_centres=True)
        code = codes.codes(surface)
        surface = surface._replace(points=NO_SURFACE.points)
    if photometric:
        image = augment(image, recipe.augmentation, rng)
    share = np.array([1 / (crop.scale * frame.width), 1 / (crop.scale * frame.height)], np.float32)
    return Sample(
        image, targets.score, targets.cell, targets.owner, objects, crop_intrinsics(frame, crop), surface,
        share, _objects_at(labels, objects), code=code,
    )  # fmt: skip


def _cell_targets(
    frame: Frame, labels: AnyArray, objects: list[LabelledObject], recipe: Recipe, rng: np.random.Generator
) -> CellTargets:
    cells = window_cells(recipe.network, labels.shape[1])
    targets = assign_cells(labels, objects, cells, recipe.network, recipe.assignment, rng)
    _ignore_slivers(targets.score, labels[cells.pixel[:, 1], cells.pixel[:, 0]], frame)
    return targets


def _objects_at(labels: AnyArray, objects: list[LabelledObject]) -> AnyArray:
    """Index into `objects` at every LABEL_STEP-th pixel, -1 where none is."""
    index_of = np.full(256, -1, np.int8)
    for index, item in enumerate(objects):
        index_of[item.label] = index
    found: AnyArray = index_of[labels[::LABEL_STEP, ::LABEL_STEP]]
    return found


def _ignore_slivers(score: AnyArray, at_cell: AnyArray, frame: Frame) -> None:
    """Cells on an object that shows too little to be labelled are no background either.

    The cells of labelled objects hold 1 or IGNORE for their class already, so only zeros change.
    """
    for index, class_index in enumerate(frame.class_index):
        if class_index >= 0:
            inside = (at_cell == index + 1) & (score[:, class_index] == 0)
            score[inside, class_index] = IGNORE


def crop_intrinsics(frame: Frame, crop: Crop) -> AnyArray:
    """fx fy cx cy of the window: the camera matrix followed by the crop's affine map."""
    centre = crop.to_network(frame.matrix[:2, 2])
    return np.array([frame.matrix[0, 0] * crop.scale, frame.matrix[1, 1] * crop.scale, *centre], np.float32)


def _objects_in(frame: Frame, crop: Crop, labels: AnyArray, least: float) -> list[LabelledObject]:
    present = np.bincount(labels.ravel(), minlength=len(frame.class_index) + 1)
    objects = []
    for index, class_index in enumerate(frame.class_index):
        if class_index < 0 or present[index + 1] < 12 or frame.visible_fraction[index] < least:
            continue
        corners = crop.to_network(frame.corners_px[index]).astype(np.float32)
        metric = frame.corners_m[index].astype(np.float32)
        objects.append(LabelledObject(int(class_index), index + 1, corners, metric, float(frame.diameter[index])))
    return objects


def collate(samples: list[Sample]) -> Batch:
    """Stack windows; positives and objects of all windows become one list each."""
    images = np.stack([s.image for s in samples])
    rows: list[list[Any]] = [[] for _ in range(8)]
    for number, sample in enumerate(samples):
        for cell, owner in zip(sample.cell, sample.owner, strict=True):
            item = sample.objects[owner]
            values = (number, cell, item.class_index, item.corners_px, item.corners_m, item.diameter,
                      item.size_px, sample.intrinsics)  # fmt: skip
            for row, value in zip(rows, values, strict=True):
                row.append(value)
    shapes: tuple[tuple[int, ...], ...] = ((), (), (), (8, 2), (8, 3), (), (), (4,))
    tensors = [
        torch.from_numpy(np.array(row, np.int64 if i < 3 else np.float32).reshape(-1, *shape))
        for i, (row, shape) in enumerate(zip(rows, shapes, strict=True))
    ]
    image = torch.from_numpy(images).permute(0, 3, 1, 2)
    score = torch.from_numpy(np.stack([s.score for s in samples]))
    surface = [torch.from_numpy(np.stack(parts)) for parts in zip(*(s.surface for s in samples), strict=True)]
    parts = [s.taught for s in samples if s.taught is not None]
    taught = join_answers(parts) if parts else None
    codes = [s.code.astype(np.int32) for s in samples if s.code is not None]
    code = torch.from_numpy(np.stack(codes)) if codes else None
    return Batch._make((image, score, *tensors, *surface, _instances(samples), taught, code))


def _instances(samples: list[Sample]) -> Instances:
    counts = [len(sample.objects) for sample in samples]
    first = np.cumsum([0, *counts])
    items = [item for sample in samples for item in sample.objects]
    owner = np.concatenate([s.owner + start for s, start in zip(samples, first, strict=False)]).astype(np.int64)
    maps = [
        np.where(s.at_pixel < 0, -1, s.at_pixel + start).astype(np.int16)
        for s, start in zip(samples, first, strict=False)
    ]
    return Instances(
        torch.from_numpy(np.repeat(np.arange(len(samples)), counts)),
        torch.tensor([item.class_index for item in items], dtype=torch.long),
        torch.tensor([item.size_px for item in items], dtype=torch.float32),
        torch.from_numpy(_table(owner, len(items))),
        torch.from_numpy(np.stack([s.frame_from_window for s in samples])),
        torch.from_numpy(np.stack(maps)),
    )


def _table(owner: AnyArray, count: int) -> AnyArray:
    """Rows of each owner (count, K), filled up with -1, K the most that one has."""
    order = np.argsort(owner, kind='stable')
    share = np.bincount(owner, minlength=count)
    slot = np.arange(len(owner)) - np.repeat(np.cumsum(share) - share, share)
    table = np.full((count, int(share.max(initial=0))), -1, np.int64)
    table[owner[order], slot] = order
    return table
