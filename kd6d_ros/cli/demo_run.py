"""The run behind `kd6d demo`: session, score, table, report, verdict."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, Mapping, Tuple

from kd6d_ros import __version__
from kd6d_ros.cli.output import format_table, wants_table, write_json
from kd6d_ros.errors import BagError, ConfigError

if TYPE_CHECKING:
    from kd6d_ros.benchmark.live import LiveResult
    from kd6d_ros.benchmark.scoring import RunScore
    from kd6d_ros.inference.bundle import Bundle

BUNDLE, BAG = 'demo', 'demo_bag'


def run_demo(args: argparse.Namespace) -> int:
    """Run the demo; 0, or 1 with a reason when it does not reach its figures."""
    from kd6d_ros.benchmark import live
    from kd6d_ros.benchmark.accuracy import make_judge
    from kd6d_ros.benchmark.recording import TopicChoice, open_recording
    from kd6d_ros.benchmark.report import ReportText, render_report, write_text
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.locate import find_bundle

    if not args.rate > 0:
        raise ConfigError(f'--rate {args.rate:g}: must be above 0')
    bundle = load_bundle(find_bundle(args.bundle or BUNDLE))
    recording = open_recording(args.bag or find_bag(), TopicChoice(), bundle.names)
    judge = make_judge(bundle, recording)
    if not judge.vertices:
        raise BagError(f'{recording.path}: nothing can be scored: {judge.reason}')
    import_ros()
    plan = live.plan_of(bundle, recording, args.out / 'logs', args.rate)
    result = live.run_live(plan, recording, judge, lambda text: _say(args, text))
    score = live.score_of(result)
    problems = verdict(score, result.published, args.min_recall)
    passed = not problems
    words = 'passed' if passed else 'not reached: ' + '; '.join(problems)
    facts = _facts(bundle, recording.path, args.rate, result)
    text = ReportText('kd6d_ros demo', words, passed, facts)
    pictures = live.pictures_of(recording, score, judge.models)
    report = args.out / 'report.html'
    write_text(report, render_report(score, text, pictures))
    if wants_table(args):
        print_result(result, score)
        print(f'\nreport: {report}')
    write_json({**result.record(), 'passed': passed, 'problems': problems, 'report': str(report)}, args.json)
    for problem in problems:
        print(f'kd6d demo: {problem}', file=sys.stderr)
    return 0 if passed else 1


def verdict(score: RunScore, published: Mapping[str, int], min_recall: float) -> List[str]:
    """What is wrong with a run, one line each; empty when it is good. published: see ``LiveResult``."""
    problems = []
    if score.recall is None:
        problems.append('the bag has no frame in which an object has to be found')
    elif score.recall < min_recall:
        problems.append(f'ADD recall {score.recall:.3f} is below {min_recall:g}')
    if score.false_poses:
        problems.append(f'{score.false_poses} poses were published of an object that was not in view')
    if score.sent != score.frames:
        problems.append(f'{score.frames - score.sent} of {score.frames} frames were never sent')
    if len(set(published.values())) > 1:
        counts = ', '.join(f'{name} {count}' for name, count in published.items())
        problems.append(f'the ways a pose is published disagree: {counts}')
    return problems


def print_result(result: LiveResult, score: RunScore) -> None:
    """The table that ends the run."""
    from kd6d_ros.benchmark.summary import outcome_rows, summary_rows

    rows: List[Tuple[str, str]] = summary_rows(score)
    if result.log.memory_mb is not None:
        rows.append(('node memory [MB]', f'{result.log.memory_mb:.0f}'))
    rows.append(('node start to active [s]', f'{result.log.start_to_active_s:.1f}'))
    print()
    print(format_table(('', 'result'), rows))
    print()
    print(format_table(('every object of every frame', 'count'), outcome_rows(score)))


def find_bag() -> Path:
    """The shipped bag.

    Raises:
        BagError: it is not installed.
    """
    from kd6d_ros.inference.locate import model_folders

    for folder in model_folders():
        if (folder / BAG / 'metadata.yaml').is_file():
            return folder / BAG
    raise BagError(f'{BAG}: not installed beside the models; give a bag with --bag')


def import_ros() -> None:
    """Find out here rather than in three child processes; cli/main.py turns the error into its cure."""
    import importlib.util

    for name in ('rclpy', 'vision_msgs', 'tf2_msgs'):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)


def _say(args: argparse.Namespace, text: str) -> None:
    print(text, flush=True, file=sys.stdout if wants_table(args) else sys.stderr)


def _facts(bundle: Bundle, bag: Path, rate: float, result: LiveResult) -> List[Tuple[str, str]]:
    log = result.log
    facts = [
        ('package', f'kd6d_ros {__version__}'),
        (
            'bundle',
            f'{bundle.name}: {bundle.network.architecture or "network"}, {bundle.network.parameters} parameters',
        ),
        ('bag', f'{bag.name}, replayed over DDS at {rate:g} x from another process'),
        ('machine', f'{platform.machine()}, {platform.system()}, Python {platform.python_version()}'),
        ('node start to active', f'{log.start_to_active_s:.2f} s'),
        ('poses by detections, PoseStamped, /tf', ', '.join(str(count) for count in result.published.values())),
    ]
    if log.memory_mb is not None:
        facts.append(('resident memory of the node', f'{log.memory_mb:.0f} MB'))
    if log.torch_loaded is not None:
        facts.append(('torch loaded by the node', 'yes' if log.torch_loaded else 'no'))
    for name, summary in result.record()['stages_ms'].items():
        facts.append((f'{name} p50 / p95', f'{summary["p50"]:.2f} / {summary["p95"]:.2f} ms'))
    return facts
