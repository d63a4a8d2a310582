"""``kd6d estimate``: a bundle on a BOP dataset, into a BOP result file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Mapping, Sequence

if TYPE_CHECKING:
    from kd6d_ros.data.bop_run import RunOptions
    from kd6d_ros.inference.settings import EstimatorSettings

EXAMPLE = """examples:
  kd6d estimate --bundle models/lmo --dataset lmo --split test --out results.csv \\
      --detections lmo/detections_cosypose_pbr.json
  kd6d estimate --bundle lmo --dataset lmo --split test --out found.csv --overlays overlays

Every image stands alone: nothing is tracked from one to the next. With --detections the boxes of the target
objects are measured; all of them above --min-detection-score are passed on, and of the poses the best-scored
are kept, as many as the target asks for. Without, the network searches the whole image. The time column is
the time of pose estimation, without reading the image and without the detector. A search looks for all objects of
the bundle; how many poses it gives of objects that an image does not show is in the summary.

The estimator refuses doubtful poses as it does on a robot; BOP's scores count a refused one as missing and a
wrong one no worse. --set changes its settings (config/pose.yaml says what they mean).
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of ``kd6d``."""
    from kd6d_ros.cli.output import add_engine_arguments, add_json_argument

    parser = subparsers.add_parser(
        'estimate',
        help='estimate poses on a BOP dataset, into a result CSV',
        description='Estimate the poses of the targets of a BOP dataset and write a BOP result CSV (mm).',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_target_arguments(parser)
    parser.add_argument(
        '--min-detection-score',
        type=float,
        default=0.0,
        metavar='S',
        help='least score of a detection that is used, 0 to 1 (default: %(default)s)',
    )
    parser.add_argument('--out', required=True, metavar='FILE', help='result CSV to write')
    parser.add_argument('--overlays', metavar='DIR', help='draw pictures with boxes and axes into this folder')
    parser.add_argument(
        '--overlay-count', type=int, default=12, metavar='N', help='how many pictures (default: %(default)s)'
    )
    add_engine_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of commands that run a bundle over the targets of a dataset, for ``target_options``."""
    parser.add_argument('--bundle', required=True, metavar='BUNDLE', help='bundle folder or installed name')
    parser.add_argument('--dataset', required=True, metavar='BOP_DIR', help='dataset folder in BOP format')
    parser.add_argument('--split', default='test', help='split of the dataset (default: %(default)s)')
    parser.add_argument('--targets', metavar='FILE', help='target list (default: BOP_DIR/test_targets_bop19.json)')
    parser.add_argument('--detections', metavar='FILE', help='2D detections in BOP format, boxes in pixels')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='a setting of the estimator, e.g. min_score=0.3; may be given several times',
    )
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images of the target list')


def target_options(args: argparse.Namespace) -> RunOptions:
    """What ``add_target_arguments`` asks for.

    Raises:
        ConfigError: wrong settings.
    """
    from pathlib import Path

    from kd6d_ros.data.bop_run import RunOptions

    return RunOptions(
        dataset=Path(args.dataset),
        split=args.split,
        targets=Path(args.targets) if args.targets else None,
        detections=Path(args.detections) if args.detections else None,
        settings=chosen_settings(args.set),
        limit=args.limit,
    )


def run(args: argparse.Namespace) -> int:
    """Estimate, write the results, print a summary."""
    from dataclasses import replace
    from pathlib import Path

    from kd6d_ros.cli.output import check_folder
    from kd6d_ros.data.bop_run import DatasetRun
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.evaluation.results_csv import write_results
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.engines.select import make_engine
    from kd6d_ros.inference.locate import find_bundle

    out = Path(args.out)
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ConfigError(f'--out {out}: expected a file name in a folder that exists')
    if not 0 <= args.min_detection_score <= 1:
        raise ConfigError(f'--min-detection-score {args.min_detection_score}: expected 0 to 1')
    if args.overlay_count < 0 or (args.limit is not None and args.limit < 1):
        raise ConfigError('--overlay-count must be at least 0 and --limit at least 1')
    if args.overlays:
        check_folder(f'--overlays {args.overlays}', Path(args.overlays))
    options = replace(
        target_options(args),
        min_detection_score=args.min_detection_score,
        overlays=Path(args.overlays) if args.overlays else None,
        overlay_count=args.overlay_count,
    )
    bundle = load_bundle(find_bundle(args.bundle))
    # What the files say is checked before the engine takes its time to start.
    work = DatasetRun(bundle, options)
    engine = make_engine(bundle, args.engine, args.precision, args.threads)
    estimates = work.run(engine, progress=progress_line)
    write_results(out, estimates)
    print_summary(args, {**work.summary(), 'engine': engine.description, 'results': str(out)})
    return 0


def print_summary(args: argparse.Namespace, summary: Mapping[str, Any]) -> None:
    """As a table for people, and as JSON where `--json` says."""
    from kd6d_ros.cli.output import format_table, wants_table, write_json

    if wants_table(args):
        print(format_table(['estimate', 'value'], [[key, _cell(value)] for key, value in summary.items()]))
    write_json(summary, args.json)


OWN = dict.fromkeys(('track', 'find', 'max_instances', 'objects'), 'follows from the detections and the targets')
"""Settings that the command decides, and why."""


def chosen_settings(texts: Sequence[str], own: Mapping[str, str] = OWN) -> EstimatorSettings:
    """Settings of the estimator from texts NAME=VALUE; `own`: names that the command decides itself, with the reason.

    Raises:
        ConfigError: an unknown name (the nearest one is given), a wrong value, or one that the command decides.
    """
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.inference.settings import EstimatorSettings
    from kd6d_ros.strict_yaml import from_mapping, parse_setting

    values = {}
    for text in texts:
        name, value = parse_setting(text, f'--set {text}', 'min_score=0.3')
        if name in own:
            raise ConfigError(f'--set {text}: {name} {own[name]}')
        values[name] = value
    return from_mapping(EstimatorSettings, values, '--set')


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return ', '.join(f'{key} {item}' for key, item in value.items()) or '-'
    return value


def progress_line(done: int, total: int, seconds: float) -> None:
    """One line on standard error: rewritten on a terminal, now and then in a log."""
    import sys

    terminal = sys.stderr.isatty()
    if not terminal and done != total and done % 50:
        return
    rate = done / seconds if seconds > 0 else 0.0
    left = (total - done) / rate if rate else 0.0
    text = f'image {done}/{total}  {rate:.1f}/s  {left:.0f} s left'
    sys.stderr.write(f'\r{text:<50}' if terminal else f'{text}\n')
    if terminal and done == total:
        sys.stderr.write('\n')
    sys.stderr.flush()
