"""From candidate cells to one cloud of keypoint predictions per object instance.

The graph has decoded and pre-selected the cells; here the cells of one class are grouped into instances,
spread over the pyramid levels by the size of the object and cut to the number that PnP gets.

References: Hu et al., "Wide-Depth-Range 6D Object Pose Estimation in Space", CVPR 2021 (allocation over
levels); Hu et al., "Segmentation-driven 6D Object Pose Estimation", CVPR 2019 (local votes for corners).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, List, Tuple

import numpy as np
import numpy.ma  # np.median imports it in its first call, which would cost the first image 35 ms

from kd6d_ros.inference.allocation import allocate_cells

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import DecodeSpec, NetworkSpec
    from kd6d_ros.types import AnyArray, FloatArray, IntArray, LocalPredictions

AGREEMENT = 0.3
"""Two cells see the same instance when their corners differ on average by less than this share of its box."""

SEEDS = 8
"""How many of the best cells may start a group; more than one, because the best-scored cell can be wrong."""

SAME_PLACE = 0.4
"""Groups whose boxes overlap more than this (IoU) are two opinions about one instance, not two instances."""


@dataclass(frozen=True, eq=False)
class CellCloud:
    """The cells of one instance: score of the instance in [0, 1], scores (K,), keypoints (K, 8, 2) [network
    px], size = longer side of the box of the median corners [network px]."""

    class_index: int
    score: float
    scores: FloatArray
    keypoints: FloatArray
    size: float

    knows_hidden_parts = True

    @cached_property
    def corners(self) -> FloatArray:
        """Median over the cells (8, 2)."""
        out: FloatArray = np.median(self.keypoints, axis=0)
        return out

    def box(self) -> FloatArray:
        """Box (4,) of the median corners."""
        return corners_box(self.corners)


def corners_box(corners: AnyArray) -> FloatArray:
    """Box x0 y0 x1 y1 of points (N, 2)."""
    out: FloatArray = np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float64)
    return out


def box_iou(a: AnyArray, b: AnyArray) -> float:
    """Intersection over union of two boxes x0 y0 x1 y1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return float(width * height / union) if union > 0 else 0.0


def decode_instances(
    cells: LocalPredictions,
    class_index: int,
    network: NetworkSpec,
    decode: DecodeSpec,
    max_instances: int = 1,
) -> List[CellCloud]:
    """Clouds of the instances of one class, best supported first; empty when no cell passes the threshold.

    The order is by summed score of the cells that agree, so that one confident but lonely cell loses to
    several that agree. Cells that overlap a chosen instance but disagree with it are dropped as outliers.
    """
    keep = (cells.class_index == class_index) & (cells.score > max(decode.score_threshold, 0.0))
    keep &= np.isfinite(cells.keypoints).all(axis=(1, 2))
    scores = cells.score[keep].astype(np.float64)
    keypoints = cells.keypoints[keep].astype(np.float64)
    levels = cells.level[keep]
    low, high = keypoints.min(axis=1), keypoints.max(axis=1)
    clouds: List[CellCloud] = []
    free = (high - low).max(axis=1) > 1.0 if len(scores) else np.zeros(0, dtype=bool)
    while free.any() and len(clouds) < max_instances:
        members, corners = _best_group(scores, keypoints, free)
        box = corners_box(corners)
        size = float(max(box[2] - box[0], box[3] - box[1]))
        share = allocate_cells(size, network.anchor_sizes, decode.cells_per_object, decode.sharpness)
        order = np.flatnonzero(members)
        order = order[np.argsort(-scores[order], kind='stable')]
        index = order[_pick(levels[order], share, decode.cells_per_object)]
        clouds.append(CellCloud(class_index, float(scores[members].max()), scores[index], keypoints[index], size))
        free &= ~members & (_iou_many(box, low, high) < SAME_PLACE)
    return clouds


def _best_group(scores: FloatArray, keypoints: FloatArray, free: AnyArray) -> Tuple[AnyArray, FloatArray]:
    """Members (M,) bool of the best supported group among `free`, and its median corners (8, 2)."""
    candidates = np.flatnonzero(free)
    seeds = candidates[np.argsort(-scores[candidates], kind='stable')[:SEEDS]]
    agree = _agreement(keypoints[seeds], keypoints) & free
    best = int(np.argmax(agree.astype(np.float64) @ scores))
    members = agree[best]
    corners = np.median(keypoints[members], axis=0)
    again = _agreement(corners[None], keypoints)[0] & free
    if again.any():
        members, corners = again, np.median(keypoints[again], axis=0)
    return members, corners


def _agreement(seeds: FloatArray, keypoints: FloatArray) -> AnyArray:
    """(S, M) bool: mean corner distance below AGREEMENT of the longer side of the seed's box."""
    size = (seeds.max(axis=1) - seeds.min(axis=1)).max(axis=1)
    gap = seeds[:, None] - keypoints[None]
    distance = np.sqrt(np.einsum('smkc,smkc->smk', gap, gap)).mean(axis=2)
    agree: AnyArray = distance < AGREEMENT * np.maximum(size, 1.0)[:, None]
    return agree


def _iou_many(box: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """IoU (M,) of one box with boxes given by corners low, high (M, 2)."""
    side = np.minimum(box[2:], high) - np.maximum(box[:2], low)
    shared = np.clip(side, 0, None).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (high - low).prod(axis=1) - shared
    out: FloatArray = shared / np.maximum(union, 1e-9)
    return out


def _pick(levels: IntArray, share: IntArray, total: int) -> AnyArray:
    """Which cells (M,) bool, given best first, reach PnP: the best of each level up to its share, then the
    best of the rest while there are fewer than `total`."""
    chosen = np.zeros(len(levels), dtype=bool)
    for level, count in enumerate(share):
        chosen[np.flatnonzero(levels == level)[:count]] = True
    missing = total - int(chosen.sum())
    if missing > 0:
        chosen[np.flatnonzero(~chosen)[:missing]] = True
    return chosen
