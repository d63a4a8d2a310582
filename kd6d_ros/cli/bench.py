"""`kd6d bench`: speed and accuracy of bundles on the same bag, through the code that runs on the robot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List

HEADER = ('bundle', 'recall', 'right', 'targets', 'false', 'p50 ms', 'p95 ms', 'engine p50', 'overhead p50')


def add_parser(subparsers: Any) -> None:
    """Add ``kd6d bench``."""
    from kd6d_ros.cli.output import ENGINES, add_json_argument

    parser = subparsers.add_parser(
        'bench',
        help='speed and accuracy of bundles on a bag with ground truth',
        description='Every image of the bag goes through the estimator in order, each bundle in a process of its '
        'own. Times are of one estimate() in ms; overhead is that without the engine, for images in which only a '
        'tracked region was looked at. Recall is ADD(-S) at 0.1 diameter over all images in which at least a '
        'tenth of the object is visible.',
        epilog='example: kd6d bench --bag models/demo_bag --bundle demo --out runs/bench',
    )
    parser.add_argument('--bag', required=True, type=Path, help='bag with ground truth (see kd6d make-bag)')
    parser.add_argument('--bundle', required=True, action='append', help='bundle; repeat to compare several')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='reports and results go here')
    parser.add_argument('--models', type=Path, metavar='DIR', help='BOP models for bundles without meshes (mm)')
    parser.add_argument('--engine', default='auto', help=f'inference engine: {ENGINES} (default: auto)')
    parser.add_argument('--precision', default='fp32', help="one of the bundle's precisions (default: fp32)")
    parser.add_argument('--threads', type=int, metavar='N', help='CPU threads of the network')
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Bench each bundle, print one table."""
    from kd6d_ros.benchmark.live import open_recording
    from kd6d_ros.cli.output import check_folder, format_table, wants_table, write_json
    from kd6d_ros.errors import ConfigError

    names = [Path(bundle).name for bundle in args.bundle]
    if len(set(names)) < len(names):
        raise ConfigError('--bundle: two bundles have the same folder name, so one report would replace the other')
    check_folder(f'--out {args.out}', args.out)
    # A broken bag is found before any engine starts.
    open_recording(args.bag)
    records = [_bench(args, bundle, args.out / name) for bundle, name in zip(args.bundle, names, strict=True)]
    if wants_table(args):
        print(format_table(HEADER, [_row(record) for record in records]))
        for name in names:
            print(f'report: {args.out / name / "report.html"}')
    write_json({'runs': records}, args.json)
    return 0


def _bench(args: argparse.Namespace, bundle: str, out: Path) -> Dict[str, Any]:
    import json
    import subprocess

    from kd6d_ros.benchmark.processes import python_module
    from kd6d_ros.errors import BagError, ConfigError

    options = ['--bag', str(args.bag), '--bundle', bundle, '--out', str(out)]
    options += ['--engine', args.engine, '--precision', args.precision]
    for name in ('models', 'threads'):
        if getattr(args, name) is not None:
            options += [f'--{name}', str(getattr(args, name))]
    child = subprocess.run(
        python_module('kd6d_ros.benchmark.offline', *options), capture_output=True, text=True, check=False
    )
    if child.returncode == 2:
        raise ConfigError(child.stderr.strip().splitlines()[-1])
    if child.returncode != 0:
        raise BagError(f'{bundle}: the benchmark process ended with code {child.returncode}: {child.stderr[-400:]}')
    record: Dict[str, Any] = json.loads((out / 'result.json').read_text(encoding='utf-8'))
    return record


def _row(record: Dict[str, Any]) -> List[Any]:
    latency, stages = record['latency_ms'] or {}, record['stages_ms']
    overhead = record['tracked_overhead_ms'] or {}
    return [
        record['bundle'],
        record['add_recall'],
        record['outcomes']['right'],
        record['targets'],
        record['false_poses'],
        latency.get('p50'),
        latency.get('p95'),
        stages.get('inference', {}).get('p50'),
        overhead.get('p50'),
    ]
