"""What is wrong with a pose: which part of it, put right, would make all of it right.

A pose is right when ADD (ADI for symmetric objects) is below 0.1 diameter. Its parts are the rotation, the distance
along the viewing ray, and the place across it; distance and place together are the position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    Right = Callable[[RigidTransform], bool]

RIGHT = 'right'
DISTANCE, PLACE, ROTATION, POSITION = 'distance', 'place', 'rotation', 'position'
SEVERAL, NO_POSE, NO_BOX = 'several', 'no pose', 'no box'

PARTS = (DISTANCE, PLACE, POSITION, ROTATION)
CAUSES = (RIGHT, DISTANCE, PLACE, POSITION, ROTATION, SEVERAL, NO_POSE, NO_BOX)


@dataclass(frozen=True)
class TargetErrors:
    """One instance that was to be found.

    visible: share of its silhouette; size_px: larger side of its whole box in the image; distance [m];
    box_iou: of the detector's box and the visible part's, None without a detection, or where there are none at all.
    cause: one of CAUSES; right_with: by part, whether the pose is right with that part of the truth; boxes: whether the
    pose is right that each kind of box gives. corners, pose_corners: mean distance of the predicted corners and of
    those of the pose from the true ones, in sizes; mask_iou: of the network's mask and the true one; None where it is
    not known. The last three are of a crop around the true box.
    """

    scene_id: int
    image_id: int
    obj_id: int
    name: str
    visible: Optional[float]
    size_px: float
    distance: float
    box_iou: Optional[float]
    cause: str
    right_with: Mapping[str, bool] = field(default_factory=dict)
    boxes: Mapping[str, bool] = field(default_factory=dict)
    corners: Optional[float] = None
    pose_corners: Optional[float] = None
    mask_iou: Optional[float] = None

    @property
    def right(self) -> bool:
        return self.cause == RIGHT


def with_true(part: str, estimate: RigidTransform, truth: RigidTransform) -> RigidTransform:
    """`estimate` with one of PARTS taken from `truth` (the nearest of its symmetric equivalents)."""
    place, wanted = estimate.translation, truth.translation
    far, true_far = (max(float(np.linalg.norm(item)), 1e-9) for item in (place, wanted))
    if part == ROTATION:
        return RigidTransform(truth.rotation, place)
    moved = {POSITION: wanted, DISTANCE: place * (true_far / far), PLACE: wanted * (far / true_far)}[part]
    return RigidTransform(estimate.rotation, moved)


def find_cause(estimate: RigidTransform, truth: RigidTransform, right: Right) -> Tuple[str, Dict[str, bool]]:
    """Why a pose is wrong, and whether it is right with each of PARTS put right.

    Of several parts that would do alone, the first in the order of PARTS is named, so rotation only where no part of
    the position helps.
    """
    with_part = {part: right(with_true(part, estimate, truth)) for part in PARTS}
    if right(estimate):
        return RIGHT, with_part
    return next((part for part in PARTS if with_part[part]), SEVERAL), with_part


INFINITE = float('inf')
BINS = (
    ('visible below 25 %', 'visible', -INFINITE, 0.25),
    ('visible 25 to 50 %', 'visible', 0.25, 0.5),
    ('visible 50 to 75 %', 'visible', 0.5, 0.75),
    ('visible from 75 % on', 'visible', 0.75, INFINITE),
    ('smaller than 40 px', 'size_px', -INFINITE, 40.0),
    ('40 to 95 px', 'size_px', 40.0, 95.0),
    ('from 95 px on', 'size_px', 95.0, INFINITE),
)
"""Label, field of ``TargetErrors``, and from where (included) to where it reaches; what is not known is in none."""
BINS_OF_CAUSES = (
    ('box overlaps by less than 0.5', 'box_iou', -INFINITE, 0.5),
    ('box overlaps by 0.5 to 0.75', 'box_iou', 0.5, 0.75),
    ('box overlaps by 0.75 and more', 'box_iou', 0.75, INFINITE),
    ('mask overlaps by less than 0.5', 'mask_iou', -INFINITE, 0.5),
    ('mask overlaps by 0.5 to 0.75', 'mask_iou', 0.5, 0.75),
    ('mask overlaps by 0.75 and more', 'mask_iou', 0.75, INFINITE),
    ('corners off by less than 5 % of the size', 'corners', -INFINITE, 0.05),
    ('corners off by 5 to 10 %', 'corners', 0.05, 0.1),
    ('corners off by 10 to 20 %', 'corners', 0.1, 0.2),
    ('corners off by 20 % and more', 'corners', 0.2, INFINITE),
)


def groups(items: Sequence[TargetErrors]) -> List[Tuple[str, List[TargetErrors]]]:
    """All of them, then by object, visibility, size, thirds of the distance, box, mask and corners; none is empty."""
    found = [('all', list(items))]
    names = dict.fromkeys(item.name for item in sorted(items, key=lambda item: item.obj_id))
    found += [(name, [item for item in items if item.name == name]) for name in names]
    for label, name, low, high in (*BINS, *_thirds(items), *BINS_OF_CAUSES):
        found.append((label, [item for item in items if _within(getattr(item, name), low, high)]))
    return [(label, members) for label, members in found if members]


def _within(value: Optional[float], low: float, high: float) -> bool:
    return value is not None and low <= value < high


def _thirds(items: Sequence[TargetErrors]) -> Sequence[Tuple[str, str, float, float]]:
    if not items:
        return ()
    low, high = (float(value) for value in np.quantile([item.distance for item in items], [1 / 3, 2 / 3]))
    return (
        (f'nearer than {low:.2f} m', 'distance', -INFINITE, low),
        (f'{low:.2f} to {high:.2f} m', 'distance', low, high),
        (f'from {high:.2f} m on', 'distance', high, INFINITE),
    )


def summarise(members: Sequence[TargetErrors]) -> Dict[str, object]:
    """Of one group: targets; recall; shares of causes; recall with each part of the truth and each kind of box; medians
    of corners, pose_corners and mask_iou. Shares of all targets of the group, 0 to 1."""
    count = len(members)
    kinds = dict.fromkeys(kind for item in members for kind in item.boxes)
    return {
        'targets': count,
        'recall': sum(item.right for item in members) / count,
        'causes': {cause: sum(item.cause == cause for item in members) / count for cause in CAUSES},
        'recall_with_true': {part: sum(item.right_with.get(part, False) for item in members) / count for part in PARTS},
        'recall_with_box': {kind: sum(item.boxes.get(kind, False) for item in members) / count for kind in kinds},
        'median_corners': _median([item.corners for item in members]),
        'median_pose_corners': _median([item.pose_corners for item in members]),
        'median_mask_iou': _median([item.mask_iou for item in members]),
    }


def _median(values: Sequence[Optional[float]]) -> Optional[float]:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
