"""A live run scored: replay a bag to the real node, join with the truth, write the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Collection, Dict, List, Mapping, Optional, Tuple

import numpy as np

from kd6d_ros.benchmark import session
from kd6d_ros.benchmark.bag_frames import read_frames
from kd6d_ros.benchmark.bag_source import BagSource, BagTopics, find_topics, read_ground_truth
from kd6d_ros.benchmark.latency import summarise
from kd6d_ros.benchmark.overlays import choose_frames, draw_outcomes
from kd6d_ros.benchmark.report import Picture
from kd6d_ros.benchmark.scoring import RunScore, Scorer, make_scorer, score_run
from kd6d_ros.benchmark.summary import summary_record
from kd6d_ros.errors import BagError

if TYPE_CHECKING:
    from kd6d_ros.benchmark.records import TruthObject
    from kd6d_ros.types import AnyArray, ObjectModel


@dataclass(frozen=True, eq=False)
class Recording:
    """A bag's topics and truth, checked to agree: every image has its truth."""

    path: Path
    topics: BagTopics
    truth: Mapping[int, Tuple[TruthObject, ...]]


@dataclass(frozen=True, eq=False)
class LiveResult:
    """Everything about one live run."""

    score: RunScore
    log: session.SessionLog
    published: Mapping[str, int]
    """Poses that came as detections, as PoseStamped and by /tf."""

    def record(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        stages = session.stage_times(self.log)
        summaries = {name: summarise(values) for name, values in stages.items()}
        return {
            **summary_record(self.score),
            'published': dict(self.published),
            'stages_ms': {name: item.milliseconds() for name, item in summaries.items() if item is not None},
            'start_to_active_s': round(self.log.start_to_active_s, 3),
            'configure_and_activate_s': round(self.log.bring_up_s, 3),
            'node_memory_mb': None if self.log.memory_mb is None else round(self.log.memory_mb, 1),
            'node_has_torch': self.log.torch_loaded,
        }


def open_recording(path: Path) -> Recording:
    """Read topics and ground truth of a bag.

    Raises:
        BagError: no bag, no images, no CameraInfo, no ground truth, or truth that does not fit the images.
    """
    with BagSource(path) as source:
        topics = find_topics(source)
        truth = read_ground_truth(source, topics.truth)
        images = source.topics()[topics.image].count
    if images != len(truth):
        raise BagError(
            f'{path}: {images} images but ground truth for {len(truth)}; every image needs one message of it'
        )
    return Recording(path, topics, truth)


def names_to_score(recording: Recording, known: Collection[str]) -> List[str]:
    """Objects of the ground truth that are `known`, sorted; unknown ones are refused when a run is scored."""
    return sorted({item.object_name for objects in recording.truth.values() for item in objects} & set(known))


def scorers_for(models: Mapping[str, ObjectModel], vertices: Mapping[str, AnyArray]) -> Dict[str, Scorer]:
    """Scorers of the objects whose vertices (V, 3) [m] are known; repeated vertices count once."""
    return {
        name: make_scorer(models[name], np.unique(np.asarray(points, np.float64), axis=0))
        for name, points in vertices.items()
    }


def run_live(
    plan: session.SessionPlan,
    recording: Recording,
    scorers: Mapping[str, Scorer],
    say: Callable[[str], None],
) -> LiveResult:
    """Run the session and score it.

    Raises:
        BagError: the run broke down, or what was published contradicts itself.
    """
    log = session.run_session(plan, say)
    unknown = set(log.sent) - set(recording.truth)
    if unknown:
        raise BagError(f'{plan.bag}: the image with stamp {min(unknown)} ns has no ground truth')
    score = score_run(session.join_by_stamp(recording.truth, log), scorers)
    return LiveResult(score, log, session.consistency(log))


def pictures_of(
    recording: Recording, score: RunScore, models: Mapping[str, ObjectModel], count: int = 12
) -> List[Picture]:
    """Overlays of some frames, read again from the bag."""
    captions = choose_frames(score.outcomes, count)
    by_stamp: Dict[int, List[Any]] = {}
    for item in score.outcomes:
        if item.frame in captions:
            by_stamp.setdefault(item.stamp_ns, []).append(item)
    pictures = []
    with BagSource(recording.path) as source:
        for frame in read_frames(source, recording.topics):
            outcomes = by_stamp.get(frame.stamp_ns)
            if outcomes:
                pictures.append(Picture(draw_outcomes(frame, outcomes, models), captions[outcomes[0].frame]))
    return pictures


def loopback_profile(folders: List[Path]) -> Optional[Path]:
    """The Fast DDS profile that keeps to this host, from the config folder beside one of `folders`."""
    for folder in folders:
        profile = folder.parent / 'config' / 'fastdds_localhost.xml'
        if profile.is_file():
            return profile
    return None
