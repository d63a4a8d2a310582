"""Several rows on one bag: run in turn, compared with the first, written as one JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.benchmark import machine
from kd6d_ros.benchmark.accuracy import make_judge
from kd6d_ros.benchmark.recording import Recording, TopicChoice, open_recording
from kd6d_ros.benchmark.rounds import offline_job, run_in_turn
from kd6d_ros.benchmark.rows import Row, make_row
from kd6d_ros.inference.bundle import load_bundle

if TYPE_CHECKING:
    from kd6d_ros.benchmark.variants import Variant
    from kd6d_ros.inference.bundle import Bundle


@dataclass(frozen=True)
class ComparisonOptions:
    """What to run the rows on. models: BOP models [mm] for bundles without meshes; camera_hz None: as in the bag;
    limit: only the first images."""

    bag: Path
    choice: TopicChoice = field(default_factory=TopicChoice)
    models: Optional[Path] = None
    rounds: int = 3
    camera_hz: Optional[float] = None
    limit: Optional[int] = None

    def record(self) -> Dict[str, Any]:
        """Plain values."""
        return {
            'bag': str(self.bag),
            'topics': {'image': self.choice.image, 'camera_info': self.choice.camera_info},
            'truth': list(self.choice.truth),
            'models': None if self.models is None else str(self.models),
            'rounds': self.rounds,
            'camera_hz': self.camera_hz,
            'limit': self.limit,
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """The rows and what they ran on."""

    recording: Recording
    rows: Tuple[Row, ...]
    record: Dict[str, Any]

    @property
    def notes(self) -> List[str]:
        """Lines below the table: what is odd, what could not be measured and why."""
        notes = [*self.recording.notes, *self.record['notes']]
        missing: Dict[Tuple[str, str], List[str]] = {}
        for row in self.rows:
            notes += row.record['notes']
            for name, reason in row.record['why'].items():
                missing.setdefault((name, reason), []).append(row.variant.name)
        notes += [f'no {name} ({", ".join(rows)}): {reason}' for (name, reason), rows in missing.items()]
        return list(dict.fromkeys(notes))


def compare(variants: Sequence[Variant], options: ComparisonOptions, say: Callable[[str], None]) -> Comparison:
    """Run and score every row.

    Raises:
        Kd6dError: a bundle, the bag or an engine that cannot be used; before anything runs where it can be known.
    """
    bundles = {variant.bundle: load_bundle(variant.bundle) for variant in variants}
    names = {name for bundle in bundles.values() for name in bundle.names}
    recording = open_recording(options.bag, options.choice, names)
    judges = {path: make_judge(bundle, recording, options.models) for path, bundle in bundles.items()}
    jobs = {variant.name: offline_job(variant, recording, limit=options.limit) for variant in variants}
    logs = run_in_turn(jobs, options.rounds, say)
    rows = tuple(
        make_row(variant, log, recording, judges[variant.bundle], options.camera_hz)
        for variant, log in zip(variants, logs, strict=True)
    )
    for row in rows:
        row.record['times_the_first'] = _ratio(rows[0], row)
    configuration = {**options.record(), 'rows': [{**vars(item), 'bundle': str(item.bundle)} for item in variants]}
    record = {
        'bag': str(recording.path),
        'bag_sha256': machine.folder_sha256(recording.path),
        'bundles': {bundle.name: bundle_hashes(bundle) for bundle in bundles.values()},
        'configuration': configuration,
        'configuration_sha256': machine.record_sha256(configuration),
        'truth_topics': list(recording.truth_topics),
        'notes': row_notes(rows),
        'rows': [row.record for row in rows],
        'machine': machine.machine_record(),
        'versions': machine.versions(),
    }
    return Comparison(recording, rows, record)


def _ratio(first: Row, row: Row) -> float:
    """Time of a row over that of the first: median over the rounds of the ratio of their medians."""
    pairs = zip(row.record['round_p50_ms'], first.record['round_p50_ms'], strict=True)
    return float(np.median([own / other for own, other in pairs]))


def bundle_hashes(bundle: Bundle) -> Dict[str, Any]:
    """sha256 of a bundle's files, and of the network of each precision."""
    return {'files': dict(bundle.files), 'engines': {name: bundle.files[file] for name, file in bundle.engines.items()}}


def row_notes(rows: Sequence[Row]) -> List[str]:
    """What keeps the rows from being compared, a line each."""
    notes = []
    scored = {tuple(row.record['objects']) for row in rows if row.accuracy.score is not None}
    if len(scored) > 1:
        notes.append('the rows are scored on different objects, so their accuracies do not compare')
    changing = [row.variant.name for row in rows if not row.record['poses_repeat']]
    return notes + [f'{name}: its poses differ from round to round; those of the first are scored' for name in changing]
