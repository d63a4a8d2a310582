"""Joins what was published with what is true, by stamp, and accounts for every frame.

Each object of each frame ends in exactly one outcome. A frame that was never sent, never answered or
answered without a pose is a miss: recall is taken over all frames of the bag in which enough of the object
is visible.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from kd6d_ros.benchmark.latency import LatencySummary, summarise
from kd6d_ros.benchmark.records import FrameLog, PublishedPose, TruthObject
from kd6d_ros.errors import BagError
from kd6d_ros.evaluation.nearest import NearestVertex
from kd6d_ros.evaluation.pose_errors import add, adi

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, ObjectModel, RigidTransform

ADD_LIMIT = 0.1
"""A pose is right when its ADD(-S) is below this share of the object's diameter."""
MIN_VISIBLE = 0.1
"""From this visible fraction on an object has to be found."""

RIGHT = 'right'
WRONG = 'wrong'
REJECTED = 'no pose'
DROPPED = 'dropped'
NOT_SENT = 'not sent'
HIDDEN_QUIET = 'hidden, no pose'
HIDDEN_RIGHT = 'hidden, pose right'
HIDDEN_WRONG = 'hidden, pose wrong'
ABSENT_POSE = 'out of view, pose'
OUTCOMES = (
    RIGHT,
    WRONG,
    REJECTED,
    DROPPED,
    NOT_SENT,
    HIDDEN_QUIET,
    HIDDEN_RIGHT,
    HIDDEN_WRONG,
    ABSENT_POSE,
)
"""The first five are for objects that have to be found; 'hidden' is a visible fraction below MIN_VISIBLE,
'out of view' one of zero."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """How one object is scored: its diameter [m] and the pose error [m]."""

    diameter: float
    error: Callable[[RigidTransform, RigidTransform], float]


def make_scorer(model: ObjectModel, vertices: AnyArray) -> Scorer:
    """ADD, or ADD-S for an object with symmetries, over vertices (V, 3) [m]."""
    if model.symmetries:
        nearest = NearestVertex(vertices)
        return Scorer(model.diameter, lambda estimate, truth: adi(estimate, truth, nearest))
    return Scorer(model.diameter, lambda estimate, truth: add(estimate, truth, vertices))


@dataclass(frozen=True, eq=False)
class ObjectOutcome:
    """What became of one object in one frame; error_m is None where no pose was published for it."""

    frame: int
    stamp_ns: int
    truth: TruthObject
    outcome: str
    pose: Optional[PublishedPose] = None
    error_m: Optional[float] = None


@dataclass(frozen=True, eq=False)
class RunScore:
    """The result of one run over one bag."""

    frames: int
    sent: int
    processed: int
    poses: int
    outcomes: Tuple[ObjectOutcome, ...]
    stray: Tuple[Tuple[int, PublishedPose], ...]
    """(frame index, pose) of poses that belong to no object of the frame: wrong name or one too many."""
    latency: Optional[LatencySummary]
    limits_m: Mapping[str, float] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        return self.sent - self.processed

    @property
    def counts(self) -> Dict[str, int]:
        """Outcome -> how many objects over all frames."""
        found = Counter(item.outcome for item in self.outcomes)
        return {name: found.get(name, 0) for name in OUTCOMES}

    @property
    def targets(self) -> int:
        """Objects that had to be found."""
        return sum(self.counts[name] for name in (RIGHT, WRONG, REJECTED, DROPPED, NOT_SENT))

    @property
    def recall(self) -> Optional[float]:
        """Share of the targets with a right pose; None without targets."""
        return self.counts[RIGHT] / self.targets if self.targets else None

    @property
    def false_poses(self) -> int:
        """Poses of an object that was out of view, and stray poses."""
        return self.counts[ABSENT_POSE] + len(self.stray)

    def recall_by_visibility(
        self, edges: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    ) -> List[Tuple[str, int, int]]:
        """(bin, right, targets) per bin of visible fraction; the last bin includes its upper edge."""
        rows = []
        for low, high in pairwise(edges):
            inside = [
                item
                for item in self.outcomes
                if low <= item.truth.visible_fraction and (item.truth.visible_fraction < high or high == edges[-1])
            ]
            right = sum(item.outcome == RIGHT for item in inside)
            rows.append((f'{100 * low:.0f}-{100 * high:.0f} %', right, len(inside)))
        return rows


def score_run(frames: Sequence[FrameLog], scorers: Mapping[str, Scorer], min_visible: float = MIN_VISIBLE) -> RunScore:
    """Score the frames of a bag.

    Raises:
        BagError: no frames, or the ground truth has an object without a scorer.
    """
    if not frames:
        raise BagError('the bag has no images with ground truth; nothing can be scored')
    outcomes: List[ObjectOutcome] = []
    stray: List[Tuple[int, PublishedPose]] = []
    for index, frame in enumerate(frames):
        pairs, left = _match(frame, scorers)
        stray += [(index, pose) for pose in left]
        for truth, pose, error in pairs:
            limit = ADD_LIMIT * scorers[truth.object_name].diameter
            outcome = _outcome(frame, truth, error, limit, min_visible)
            outcomes.append(ObjectOutcome(index, frame.stamp_ns, truth, outcome, pose, error))
    return RunScore(
        frames=len(frames),
        sent=sum(frame.sent_s is not None for frame in frames),
        processed=sum(frame.received_s is not None for frame in frames),
        poses=sum(len(frame.poses) for frame in frames),
        outcomes=tuple(outcomes),
        stray=tuple(stray),
        latency=summarise(
            frame.received_s - frame.sent_s
            for frame in frames
            if frame.received_s is not None and frame.sent_s is not None
        ),
        limits_m={name: ADD_LIMIT * scorer.diameter for name, scorer in scorers.items()},
    )


_Pairs = List[Tuple[TruthObject, Optional[PublishedPose], Optional[float]]]


def _match(frame: FrameLog, scorers: Mapping[str, Scorer]) -> Tuple[_Pairs, List[PublishedPose]]:
    """Pair each true object with at most one pose of its name, nearest pairs first; the rest is left over."""
    missing = {truth.object_name for truth in frame.truth} - set(scorers)
    if missing:
        raise BagError(
            f'the ground truth has the object {sorted(missing)[0]!r}, which the bundle does not know '
            f'({", ".join(sorted(scorers)) or "no objects"}); use the bundle of this bag'
        )
    candidates = sorted(
        (scorers[truth.object_name].error(pose.cam_from_obj, truth.cam_from_obj), t, p)
        for t, truth in enumerate(frame.truth)
        for p, pose in enumerate(frame.poses)
        if pose.object_name == truth.object_name
    )
    pose_of: Dict[int, Tuple[int, float]] = {}
    taken = set()
    for error, t, p in candidates:
        if t not in pose_of and p not in taken:
            pose_of[t] = (p, error)
            taken.add(p)
    pairs: _Pairs = []
    for t, truth in enumerate(frame.truth):
        if t in pose_of:
            p, error = pose_of[t]
            pairs.append((truth, frame.poses[p], error))
        else:
            pairs.append((truth, None, None))
    return pairs, [pose for p, pose in enumerate(frame.poses) if p not in taken]


def _outcome(frame: FrameLog, truth: TruthObject, error: Optional[float], limit: float, min_visible: float) -> str:
    right = error is not None and error < limit
    if truth.visible_fraction < min_visible:
        if error is None:
            return HIDDEN_QUIET
        if truth.visible_fraction == 0:
            return ABSENT_POSE
        return HIDDEN_RIGHT if right else HIDDEN_WRONG
    if error is not None:
        return RIGHT if right else WRONG
    if frame.received_s is not None:
        return REJECTED
    return NOT_SENT if frame.sent_s is None else DROPPED
