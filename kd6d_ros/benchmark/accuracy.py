"""The accuracy of one run over a recording: what the bundle knows of the truth is scored, the rest has a reason."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.benchmark.objects import vertices_of
from kd6d_ros.benchmark.pose_figures import Scene, pose_figures
from kd6d_ros.benchmark.scoring import RunScore, make_scorer, score_run
from kd6d_ros.benchmark.summary import summary_record
from kd6d_ros.errors import BundleError

if TYPE_CHECKING:
    from kd6d_ros.benchmark.recording import Recording
    from kd6d_ros.benchmark.records import FrameLog
    from kd6d_ros.benchmark.scoring import Scorer
    from kd6d_ros.inference.bundle import Bundle
    from kd6d_ros.types import AnyArray, ObjectModel


@dataclass(frozen=True, eq=False)
class Judge:
    """What one bundle can be scored on; `vertices` is empty where nothing can be, and `reason` says why."""

    models: Mapping[str, ObjectModel]
    vertices: Mapping[str, AnyArray]
    reason: str = ''
    notes: Tuple[str, ...] = ()

    def scorers(self) -> Dict[str, Scorer]:
        """By object name."""
        return {name: make_scorer(self.models[name], points) for name, points in self.vertices.items()}


@dataclass(frozen=True, eq=False)
class Accuracy:
    """score is None where there is no accuracy; `reason` says why, `record` holds the figures."""

    score: Optional[RunScore] = None
    reason: str = ''
    record: Mapping[str, Any] = field(default_factory=dict)


def make_judge(bundle: Bundle, recording: Recording, models_dir: Optional[Path] = None) -> Judge:
    """Find out what of the truth a bundle can be scored on."""
    models = {model.name: model for model in bundle.objects}
    if recording.no_truth:
        return Judge(models, {}, recording.no_truth)
    there = sorted({item.object_name for objects in recording.truth.values() for item in objects})
    own, foreign = [name for name in there if name in models], [name for name in there if name not in models]
    if not own:
        names = ', '.join(there) or 'nothing'
        return Judge(models, {}, f'the truth is about {names}, bundle {bundle.name} about {", ".join(models)}')
    notes = (f'{bundle.name} does not know {", ".join(foreign)}: not scored there',) if foreign else ()
    try:
        found = vertices_of(bundle, own, models_dir)
    except BundleError as error:
        return Judge(models, {}, str(error), notes)
    vertices = {name: np.unique(np.asarray(points, np.float64), axis=0) for name, points in found.items()}
    return Judge(models, vertices, '', notes)


def measure_accuracy(frames: Sequence[FrameLog], recording: Recording, judge: Judge) -> Accuracy:
    """Score the frames that have truth; their `truth` is filled in here."""
    if not judge.vertices:
        return Accuracy(reason=judge.reason)
    known: List[FrameLog] = []
    for frame in frames:
        if frame.stamp_ns in recording.truth:
            objects = recording.truth[frame.stamp_ns]
            known.append(replace(frame, truth=tuple(item for item in objects if item.object_name in judge.vertices)))
    if not known:
        return Accuracy(reason='none of the images that were looked at has ground truth')
    score = score_run(known, judge.scorers())
    scene = Scene(judge.models, judge.vertices, recording.cameras)
    record: Dict[str, Any] = {**summary_record(score), **pose_figures(score.outcomes, scene)}
    record['objects'] = sorted(judge.vertices)
    return Accuracy(score, '', record)
