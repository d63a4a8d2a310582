"""The figures of a bag through the running node over DDS, and whether an offline run gives the same poses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Tuple

from kd6d_ros.benchmark import live, machine
from kd6d_ros.benchmark.accuracy import make_judge
from kd6d_ros.benchmark.comparison import bundle_hashes
from kd6d_ros.benchmark.parity import Parity, compare_poses, repeat_offline
from kd6d_ros.benchmark.recording import Recording, TopicChoice, open_recording
from kd6d_ros.benchmark.rounds import offline_job
from kd6d_ros.benchmark.session import processed_stamps
from kd6d_ros.inference.bundle import load_bundle

if TYPE_CHECKING:
    from kd6d_ros.benchmark.accuracy import Judge
    from kd6d_ros.benchmark.variants import Variant


@dataclass(frozen=True)
class NodeOptions:
    """What to replay to the node. rate: 1.0 = as recorded; parameters: further ones of the node, name -> value."""

    bag: Path
    out: Path
    choice: TopicChoice = field(default_factory=TopicChoice)
    models: Optional[Path] = None
    rate: float = 1.0
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class NodeRun:
    """A live run with all that a page, a table and a bag need. parity is None where it was not asked for."""

    recording: Recording
    judge: Judge
    result: live.LiveResult
    parity: Optional[Parity]
    record: Dict[str, Any]


def run_node(variant: Variant, options: NodeOptions, parity: bool, say: Callable[[str], None]) -> NodeRun:
    """Replay the bag to the node, score it, then run offline over the images that the node worked on.

    Raises:
        Kd6dError: a bundle or bag that cannot be used, or a process that broke down.
    """
    bundle = load_bundle(variant.bundle)
    recording = open_recording(options.bag, options.choice, bundle.names)
    judge = make_judge(bundle, recording, options.models)
    parameters = node_parameters(variant, recording, options.parameters)
    plan = live.plan_of(bundle, recording, options.out / 'logs', options.rate, parameters)
    result = live.run_live(plan, recording, judge, say)
    stamps = processed_stamps(result.log)
    agreement = None
    if parity and stamps:
        say(f'offline over the {len(stamps)} images that the node worked on')
        online = {frame.stamp_ns: frame.poses for frame in result.frames if frame.received_s is not None}
        agreement = compare_poses(online, repeat_offline(offline_job(variant, recording, stamps)))
    configuration = {'bundle': str(bundle.folder), 'rate': options.rate, 'parameters': dict(plan.parameters)}
    record = {
        'bag': str(recording.path),
        'bag_sha256': machine.folder_sha256(recording.path),
        'bundles': {bundle.name: bundle_hashes(bundle)},
        'configuration': configuration,
        'configuration_sha256': machine.record_sha256(configuration),
        **result.record(),
        'processed_stamps_ns': stamps,
        'parity': None if agreement is None else agreement.record(),
        'notes': [*recording.notes, *judge.notes],
        'machine': machine.machine_record(),
        'versions': machine.versions(),
    }
    return NodeRun(recording, judge, result, agreement, record)


def node_parameters(variant: Variant, recording: Recording, further: Mapping[str, str]) -> Dict[str, str]:
    """Parameters with which the node computes what ``offline_job`` computes."""
    return {
        'precision': variant.precision,
        'engine': variant.engine,
        'threads': str(variant.threads or 0),
        'max_instances': str(recording.most_instances),
        **further,
    }


def node_rows(run: NodeRun) -> List[Tuple[str, str]]:
    """(what, value) rows: transport, ages, accuracy, parity; a figure that is missing has its reason."""
    record, why = run.record, run.record['why']

    def lost(name: str) -> str:
        value = record[name]
        return f'not measured: {why["lost_in_transport"]}' if value is None else str(value)

    rows = [
        ('images in the bag / sent', f'{len(run.recording.stamps)} / {record["sent"]}'),
        ('lost in transport', lost('lost_in_transport')),
        ('dropped by the node for newer ones', lost('dropped_by_node')),
        ('worked on', str(record['processed'])),
    ]
    for name, words in (('latency_ms', 'sent to received'), ('age_at_publish_ms', 'arrived to published')):
        value = record[name]
        text = f'not measured: {why.get(name, "nothing was answered")}' if value is None else (
            f'{value["p50"]:.1f} / {value["p95"]:.1f} / {value["max"]:.1f} ms'
        )  # fmt: skip
        rows.append((f'{words}, p50 / p95 / max', text))
    hz = record['answers_hz']
    rows.append(('answers per second', 'not measured: fewer than two' if hz is None else f'{hz:.1f}'))
    rows.append(('offline run agrees', parity_text(run.parity)))
    if run.result.accuracy.score is None:
        rows.append(('accuracy', f'not measured: {run.result.accuracy.reason}'))
    return rows


def parity_text(parity: Optional[Parity]) -> str:
    """One line about an agreement."""
    if parity is None:
        return 'not asked for, or nothing was worked on'
    gaps = f'largest difference {parity.translation_m:.2g} m, {parity.rotation_rad:.2g} rad'
    text = f'{parity.poses} poses of {parity.images} images, {gaps}'
    if parity.other:
        text += f'; {len(parity.other)} images have other instances'
    return f'yes: {text}' if parity.holds else f'NO: {text}'
