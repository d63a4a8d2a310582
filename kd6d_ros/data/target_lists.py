"""Targets and boxes for a set with ground truth, so that `kd6d estimate` and `kd6d evaluate` can run on renders:

    python -m kd6d_ros.data.target_lists runs/my_renders --split train --seed 0

writes test_targets_bop19.json (every object of an image that is at least --min-visible seen; of several instances the
one that is seen best) and detections.json (the visible box of each, moved as a detector would) into that folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import numpy as np

from kd6d_ros.data.bop import BopDataset
from kd6d_ros.data.bop_write import detection_row, write_rows
from kd6d_ros.data.detector_boxes import jitter_box
from kd6d_ros.errors import DatasetError, Kd6dError

if TYPE_CHECKING:
    from kd6d_ros.data.bop_records import Annotation

TARGETS, DETECTIONS = 'test_targets_bop19.json', 'detections.json'


def write_lists(folder: Path, split: str, seed: int, min_visible: float) -> int:
    """Write both lists; returns the number of targets.

    Raises:
        DatasetError: no such dataset or split, no visibilities (scene_gt_info.json), nothing seen well enough, or a
            list that is there already.
    """
    dataset, rng = BopDataset.open(folder), np.random.default_rng(seed)
    for name in (TARGETS, DETECTIONS):
        if (dataset.root / name).exists():
            raise DatasetError(f'{dataset.root / name}: is there already; remove it to write another one')
    targets: List[Dict[str, Any]] = []
    boxes: List[Dict[str, Any]] = []
    for scene_id in dataset.split(split):
        scene = dataset.scene(split, scene_id)
        for image_id in scene.image_ids:
            for item in _best_seen(folder, scene.annotations(image_id), min_visible):
                targets.append({'scene_id': scene_id, 'im_id': image_id, 'obj_id': item.obj_id, 'inst_count': 1})
                box = jitter_box(np.asarray(item.box_visible), rng)
                boxes.append(detection_row(scene_id, image_id, item.obj_id, box))
    if not targets:
        raise DatasetError(f'{folder}: split {split!r} shows no object at least {min_visible:.0%} visible')
    write_rows(dataset.root / DETECTIONS, boxes)
    write_rows(dataset.root / TARGETS, targets)
    return len(targets)


def _best_seen(folder: Path, annotations: Sequence[Annotation], min_visible: float) -> List[Annotation]:
    """Of each object the instance that is seen best, where that is enough; by object id."""
    best: Dict[int, Annotation] = {}
    for item in annotations:
        if item.visible_fraction is None:
            raise DatasetError(f'{folder}: has no scene_gt_info.json, so nobody knows what is visible')
        if item.box_visible is None or item.visible_fraction < min_visible:
            continue
        known: Optional[Annotation] = best.get(item.obj_id)
        if known is None or item.visible_fraction > (known.visible_fraction or 0.0):
            best[item.obj_id] = item
    return [best[ident] for ident in sorted(best)]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command; returns its exit code (2: the user's mistake, in one line)."""
    parser = argparse.ArgumentParser(
        prog='python -m kd6d_ros.data.target_lists',
        description=f'Write {TARGETS} and {DETECTIONS} (boxes in pixels) beside the scenes of a BOP dataset, for kd6d '
        'estimate and evaluate.',
        epilog='example: python -m kd6d_ros.data.target_lists runs/my_renders --split train --seed 0',
    )
    parser.add_argument('dataset', type=Path, metavar='BOP_DIR', help='dataset folder with ground truth')
    parser.add_argument('--split', default='train', help='split of the dataset (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of how the boxes are moved (default: %(default)s)')
    parser.add_argument(
        '--min-visible', type=float, default=0.1, metavar='SHARE', help='least visible share, 0 to 1 (default: 0.1)'
    )
    args = parser.parse_args(arguments)
    try:
        print(f'{args.dataset}: {write_lists(args.dataset, args.split, args.seed, args.min_visible)} targets')
    except Kd6dError as error:
        print(f'{parser.prog}: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
