"""`kd6d bench`: speed and accuracy of bundles, precisions and engines on the same bag."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from kd6d_ros.benchmark.comparison import Comparison

MAX_ROUNDS = 1000


def add_parser(subparsers: Any) -> None:
    """Add ``kd6d bench``."""
    from kd6d_ros.cli.output import ENGINES, add_json_argument

    parser = subparsers.add_parser(
        'bench',
        help='speed and accuracy of bundles, precisions and engines on a bag',
        description='Every image of the bag goes through the estimator in order. Each combination of --bundle, '
        '--precision and --engine is a row and a process of its own; the rows take turns, --rounds times. Times are of '
        'one estimate() in ms, ratios to the first row. With ground truth in the bag also ADD(-S) recall at 0.1 '
        'diameter and the area under its curve, 5 cm 5 deg, projection within 5 px, errors, jitter and coverage.',
        epilog='example: kd6d bench --bag models/demo_bag --bundle demo --precision fp32 --precision int8-cpu '
        '--out runs/bench',
    )
    parser.add_argument('--bag', required=True, type=Path, help='bag folder, .mcap or .db3 file')
    parser.add_argument('--bundle', required=True, action='append', help='bundle; repeat to compare')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='new folder of report, JSON and bag')
    parser.add_argument('--precision', action='append', help="a bundle's, or auto; repeat to compare (default: fp32)")
    parser.add_argument('--engine', action='append', help=f'{ENGINES}; repeat to compare (default: auto)')
    parser.add_argument('--threads', action='append', type=int, metavar='N', help='CPU threads; repeat to compare')
    parser.add_argument('--rounds', type=int, default=3, metavar='N', help='passes over the bag (default: 3)')
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images')
    parser.add_argument(
        '--camera-rate', type=float, metavar='HZ', help='rate at which dropped images are counted (default: the bag)'
    )
    parser.add_argument('--image', metavar='TOPIC', help='image topic (default: the only one)')
    parser.add_argument('--camera-info', metavar='TOPIC', help='CameraInfo topic (default: beside the image)')
    parser.add_argument(
        '--truth',
        action='append',
        default=[],
        metavar='TOPIC',
        help='Detection3DArray, PoseStamped (.../OBJECT) or TF with the truth (default: found); repeat for several',
    )
    parser.add_argument('--models', type=Path, metavar='DIR', help='BOP models for bundles without meshes (mm)')
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Run the rows, print the tables, write report.html, result.json and results_bag."""
    import json

    from kd6d_ros.benchmark.comparison import ComparisonOptions, compare
    from kd6d_ros.benchmark.comparison_page import comparison_page
    from kd6d_ros.benchmark.recording import TopicChoice
    from kd6d_ros.benchmark.report import write_text
    from kd6d_ros.benchmark.results_bag import write_results_bag
    from kd6d_ros.benchmark.variants import make_variants
    from kd6d_ros.cli.output import wants_table, write_json
    from kd6d_ros.inference.locate import find_bundle

    _check(args)
    bundles = [find_bundle(name) for name in args.bundle]
    variants = make_variants(bundles, args.precision or ['fp32'], args.engine or ['auto'], args.threads or [])
    choice = TopicChoice(args.image, args.camera_info, tuple(args.truth))
    options = ComparisonOptions(args.bag, choice, args.models, args.rounds, args.camera_rate, args.limit)
    comparison = compare(variants, options, _say)
    rows = {row.variant.slug: row.frames for row in comparison.rows}
    write_results_bag(args.out / 'results_bag', comparison.recording, rows)
    write_text(args.out / 'report.html', comparison_page(comparison))
    write_text(args.out / 'result.json', json.dumps(comparison.record, indent=2) + '\n')
    if wants_table(args):
        _print(comparison)
        print(f'report: {args.out / "report.html"}, poses: {args.out / "results_bag"}')
    write_json(comparison.record, args.json)
    return 0


def _check(args: argparse.Namespace) -> None:
    from kd6d_ros.cli.output import check_new_folder
    from kd6d_ros.errors import ConfigError

    if not 1 <= args.rounds <= MAX_ROUNDS:
        raise ConfigError(f'--rounds {args.rounds}: must be 1 to {MAX_ROUNDS}')
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f'--limit {args.limit}: must be at least 1')
    if args.camera_rate is not None and not 0.01 <= args.camera_rate <= 10_000:
        raise ConfigError(f'--camera-rate {args.camera_rate:g}: must be 0.01 to 10000 Hz')
    check_new_folder('--out', args.out)


def _say(text: str) -> None:
    import sys

    print(text, file=sys.stderr, flush=True)


def _print(comparison: Comparison) -> None:
    from kd6d_ros.benchmark.comparison_table import ACCURACY, MORE, SPEED, table
    from kd6d_ros.cli.output import format_table

    records = [row.record for row in comparison.rows]
    first = records[0]
    lines: List[str] = [f'{first["images"]} images, {first["rounds"]} rounds in turn, ms per estimate()']
    lines += [f'{item["row"]}: {item["engine"]}; idle threads spin: {item["spinning"]}' for item in records]
    lines += ['', format_table(*table(records, SPEED)), '', format_table(*table(records, (*ACCURACY, *MORE))), '']
    lines += comparison.notes
    print('\n'.join(lines))
