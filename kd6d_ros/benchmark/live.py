"""A live run scored: replay a bag to the real node, join with the truth, tell where images were lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional

from kd6d_ros.benchmark import session
from kd6d_ros.benchmark.accuracy import Accuracy, Judge, measure_accuracy
from kd6d_ros.benchmark.bag_frames import read_frames
from kd6d_ros.benchmark.bag_source import BagSource
from kd6d_ros.benchmark.latency import rate_by_intervals, summarise
from kd6d_ros.benchmark.overlays import choose_frames, draw_outcomes
from kd6d_ros.benchmark.report import Picture
from kd6d_ros.errors import BagError
from kd6d_ros.inference.locate import model_folders

if TYPE_CHECKING:
    from kd6d_ros.benchmark.latency import LatencySummary
    from kd6d_ros.benchmark.recording import Recording
    from kd6d_ros.benchmark.records import FrameLog
    from kd6d_ros.benchmark.scoring import RunScore
    from kd6d_ros.inference.bundle import Bundle
    from kd6d_ros.types import ObjectModel

IN_NODE = ('queue', 'image_decode', 'decoded_to_published')
"""Stages of the node's timing that add up to the time from an image's arrival to its poses' publication."""


@dataclass(frozen=True, eq=False)
class LiveResult:
    """Everything about one live run. published: poses that came as detections, as PoseStamped and by /tf."""

    frames: List[FrameLog]
    accuracy: Accuracy
    log: session.SessionLog
    published: Mapping[str, int]

    @property
    def sent(self) -> int:
        """Images that the player handed to DDS."""
        return sum(frame.sent_s is not None for frame in self.frames)

    @property
    def processed(self) -> int:
        """Images that the node answered."""
        return sum(frame.received_s is not None for frame in self.frames)

    @property
    def latency(self) -> Optional[LatencySummary]:
        """Of each answered image, by its stamp: from the player's send to the recorder's receipt [s]."""
        return summarise(
            frame.received_s - frame.sent_s
            for frame in self.frames
            if frame.received_s is not None and frame.sent_s is not None
        )

    def losses(self) -> Dict[str, Any]:
        """Where images went: lost on the way to the node, or replaced by newer ones in it; None where unknown."""
        arrived = session.images_arrived(self.log)
        if arrived is not None and not self.processed <= arrived <= self.sent:
            arrived = None  # the last diagnostics are older than the last images
        return {
            'sent': self.sent,
            'arrived': arrived,
            'processed': self.processed,
            'lost_in_transport': None if arrived is None else self.sent - arrived,
            'dropped_by_node': None if arrived is None else arrived - self.processed,
        }

    def record(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        stages = session.stage_times(self.log)
        summaries = {name: summarise(values) for name, values in stages.items()}
        why = dict(self.accuracy.record.get('why', {}))
        if self.accuracy.score is None:
            why['accuracy'] = self.accuracy.reason
        losses = self.losses()
        if losses['arrived'] is None:
            why['lost_in_transport'] = 'no diagnostics of the node after its last image'
        age, latency = summarise(_ages(self.log)), self.latency
        if age is None:
            why['age_at_publish_ms'] = 'the node published no timing'
        received = [frame.received_s for frame in self.frames if frame.received_s is not None]
        return {
            **{name: value for name, value in self.accuracy.record.items() if name not in ('latency_ms', 'why')},
            'published': dict(self.published),
            **losses,
            'latency_ms': None if latency is None else latency.milliseconds(),
            'age_at_publish_ms': None if age is None else age.milliseconds(),
            'answers_hz': rate_by_intervals(received),
            'stages_ms': {name: item.milliseconds() for name, item in summaries.items() if item is not None},
            'start_to_active_s': round(self.log.start_to_active_s, 3),
            'configure_and_activate_s': round(self.log.bring_up_s, 3),
            'node_memory_mb': None if self.log.memory_mb is None else round(self.log.memory_mb, 1),
            'node_has_torch': self.log.torch_loaded,
            'why': why,
        }


def _ages(log: session.SessionLog) -> List[float]:
    """Of each image, seconds from its arrival at the node to the publication of its poses."""
    rows = [event['stages'] for event in log.events if event['kind'] == 'timing']
    keys = [f'{name}_s' for name in IN_NODE]
    return [sum(float(row[key]) for key in keys) for row in rows if all(key in row for key in keys)]


def run_live(plan: session.SessionPlan, recording: Recording, judge: Judge, say: Callable[[str], None]) -> LiveResult:
    """Run the session and score it.

    Raises:
        BagError: the run broke down, or what was published contradicts itself.
    """
    log = session.run_session(plan, say)
    frames = session.join_by_stamp(recording.stamps, log)
    return LiveResult(frames, measure_accuracy(frames, recording, judge), log, session.consistency(log))


def score_of(result: LiveResult) -> RunScore:
    """The score of a run on a bag with ground truth.

    Raises:
        BagError: there is none, and why.
    """
    if result.accuracy.score is None:
        raise BagError(f'nothing can be scored: {result.accuracy.reason}')
    return result.accuracy.score


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


def plan_of(
    bundle: Bundle,
    recording: Recording,
    logs: Path,
    rate: float = 1.0,
    parameters: Optional[Mapping[str, str]] = None,
) -> session.SessionPlan:
    """A run of a recording on this host alone; arguments as in ``SessionPlan``."""
    return session.SessionPlan(
        bundle=bundle.folder,
        bag=recording.path,
        topics=recording.topics,
        logs=logs,
        rate=rate,
        parameters=parameters or {},
        profile=_loopback_profile(),
    )


def _loopback_profile() -> Optional[Path]:
    """The Fast DDS profile that keeps to this host, from the config folder beside the models."""
    for folder in model_folders():
        profile = folder.parent / 'config' / 'fastdds_localhost.xml'
        if profile.is_file():
            return profile
    return None
