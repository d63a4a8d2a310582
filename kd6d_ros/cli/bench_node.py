"""`kd6d bench-node`: a bag through the running node over DDS, with a check that an offline run gives the same poses."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Tuple

if TYPE_CHECKING:
    from kd6d_ros.benchmark.node_benchmark import NodeRun


def add_parser(subparsers: Any) -> None:
    """Add ``kd6d bench-node``."""
    from kd6d_ros.cli.output import ENGINES, add_json_argument

    parser = subparsers.add_parser(
        'bench-node',
        help='speed and accuracy of the running node on a bag, transport included',
        description='Starts the pose_estimator node, replays a bag to it from another process over DDS on this host '
        'only, and says where images were lost, how old poses were when they were published, and how good they are. '
        'Then an offline run over exactly the images that the node worked on has to give the same poses within '
        '1e-6 m and rad (exit code 1 if not).',
        epilog='example: kd6d bench-node --bag models/demo_bag --bundle demo --out runs/bench_node --rate 2',
    )
    parser.add_argument('--bag', required=True, type=Path, help='bag folder, .mcap or .db3 file')
    parser.add_argument('--bundle', required=True, help='bundle folder or installed name')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='new folder of report, JSON, bag, logs')
    parser.add_argument('--rate', type=float, default=1.0, help='replay speed, 1.0 = as recorded')
    parser.add_argument('--precision', default='fp32', help="one of the bundle's precisions, or auto (default: fp32)")
    parser.add_argument('--engine', default='auto', help=f'{ENGINES} (default: auto)')
    parser.add_argument('--threads', type=int, metavar='N', help='CPU threads of the network')
    parser.add_argument('--image', metavar='TOPIC', help='image topic (default: the only one)')
    parser.add_argument('--camera-info', metavar='TOPIC', help='CameraInfo topic (default: beside the image)')
    parser.add_argument('--truth', action='append', default=[], metavar='TOPIC', help='as in kd6d bench')
    parser.add_argument('--models', type=Path, metavar='DIR', help='BOP models for bundles without meshes (mm)')
    parser.add_argument(
        '--param',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='a further parameter of the node; one that changes poses makes the offline run differ',
    )
    parser.add_argument('--no-parity', action='store_true', help='skip the offline run')
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Run, print, write report.html, result.json and results_bag; 1 when node and offline run disagree."""
    import json
    import sys

    from kd6d_ros.benchmark.node_benchmark import NodeOptions, node_rows, parity_text, run_node
    from kd6d_ros.benchmark.recording import TopicChoice
    from kd6d_ros.benchmark.report import write_text
    from kd6d_ros.benchmark.results_bag import write_results_bag
    from kd6d_ros.benchmark.variants import Variant
    from kd6d_ros.cli.demo_run import import_ros
    from kd6d_ros.cli.output import check_new_folder, format_table, wants_table, write_json
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.inference.locate import find_bundle

    if not args.rate > 0:
        raise ConfigError(f'--rate {args.rate:g}: must be above 0')
    check_new_folder('--out', args.out)
    bundle = find_bundle(args.bundle)
    choice = TopicChoice(args.image, args.camera_info, tuple(args.truth))
    options = NodeOptions(args.bag, args.out, choice, args.models, args.rate, _parameters(args.param))
    import_ros()
    variant = Variant(bundle.name, bundle, args.precision, args.engine, args.threads)
    found = run_node(variant, options, not args.no_parity, lambda text: print(text, file=sys.stderr, flush=True))
    write_results_bag(args.out / 'results_bag', found.recording, {'node': found.result.frames})
    write_text(args.out / 'report.html', _page(found))
    write_text(args.out / 'result.json', json.dumps(found.record, indent=2) + '\n')
    if wants_table(args):
        print(format_table(('', 'result'), [*node_rows(found), *_accuracy(found.record)]))
        print('\n'.join([*found.record['notes'], f'report: {args.out / "report.html"}']))
    write_json(found.record, args.json)
    if found.parity is not None and not found.parity.holds:
        print(f'kd6d bench-node: node and offline run disagree: {parity_text(found.parity)}', file=sys.stderr)
        return 1
    return 0


def _parameters(given: List[str]) -> Dict[str, str]:
    from kd6d_ros.errors import ConfigError

    for item in given:
        if not item.partition('=')[0] or '=' not in item:
            raise ConfigError(f'--param {item}: expected NAME=VALUE')
    return {name: value for name, _, value in (item.partition('=') for item in given)}


def _accuracy(record: Mapping[str, Any]) -> List[Tuple[str, Any]]:
    from kd6d_ros.benchmark.comparison_table import ACCURACY

    figures = [(name, read(record)) for name, read in ACCURACY]
    return [(name, value) for name, value in figures if value is not None]


def _page(found: NodeRun) -> str:
    """The report: with pictures where there is truth, the figures alone elsewhere."""
    from kd6d_ros.benchmark.live import pictures_of
    from kd6d_ros.benchmark.node_benchmark import node_rows
    from kd6d_ros.benchmark.report import ReportText, page, render_report, table_html

    title = f'{found.recording.path.name} through the node'
    score = found.result.accuracy.score
    if score is None:
        return page(title, [table_html(('', 'result'), node_rows(found))])
    held = found.parity is None or found.parity.holds
    words = 'node and offline run agree' if held else 'node and offline run disagree'
    facts = [*node_rows(found), *((name, str(value)) for name, value in found.record['machine'].items())]
    text = ReportText(title, words if found.parity is not None else 'parity was not asked for', held, facts)
    return render_report(score, text, pictures_of(found.recording, score, found.judge.models))
