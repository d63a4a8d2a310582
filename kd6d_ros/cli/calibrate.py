"""`kd6d calibrate`: how uncertain a bundle's poses are, learnt on renders and checked on others."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd6d_ros.cli.output import add_json_argument, format_table, wants_table, write_json

if TYPE_CHECKING:
    from kd6d_ros.data.pose_samples import PoseSample
    from kd6d_ros.inference.bundle_records import Bundle

EXAMPLE = """example:
  kd6d synth --models my_meshes --out runs/calibration --images 2000 --seed 31
  kd6d synth --models my_meshes --out runs/coverage --images 2000 --seed 32
  kd6d calibrate models/mug --dataset runs/calibration --test runs/coverage
  kd6d calibrate models/mug --test runs/coverage          # only measure

The covariance goes into the bundle's manifest; the node then publishes ~/poses_cov/<object>. Both sets must be renders
that the network was not trained on, and two different ones."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        'calibrate',
        help='the covariance of a bundle, from renders',
        description='Fit the 6x6 covariance of a bundle to the errors of its published poses, and print how often the '
        'truth lies inside: coverage at 50, 90 and 95 % of pose, position and rotation.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('bundle', help='bundle folder or name; with --dataset its manifest is changed')
    parser.add_argument(
        '--dataset', type=Path, nargs='+', default=[], metavar='BOP_DIR', help='data to fit to (default: fit nothing)'
    )
    parser.add_argument(
        '--test', type=Path, nargs='+', default=[], metavar='BOP_DIR', help='other data, to measure the covariance on'
    )
    parser.add_argument('--split', default='train', help='split of both (default: train, what kd6d synth writes)')
    parser.add_argument(
        '--detections', metavar='NAME',
        help='file of boxes in each data set folder (default: the boxes of the visible parts, jittered)',
    )  # fmt: skip
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images of each')
    parser.add_argument(
        '--precision', nargs='+', default=[], metavar='P',
        help="the bundle's precisions to do it for, each has its own errors (default: what nodes run on a processor "
        'like this one: fp32, and int8-cpu where the bundle has it)',
    )  # fmt: skip
    parser.add_argument('--threads', type=int, metavar='N', help='CPU threads of the network')
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.locate import find_bundle

    folder = find_bundle(args.bundle)
    bundle = load_bundle(folder, with_covariance=bool(args.precision) or not args.dataset)
    precisions = list(dict.fromkeys(args.precision or _usual(bundle)))
    _check(args, bundle, precisions)
    record: dict[str, Any] = {'bundle': bundle.name, 'precisions': {}}
    for precision in precisions:
        found = record['precisions'][precision] = {}
        if args.dataset:
            bundle, found['fitted'] = _fitted(args, bundle, folder, precision)
        if args.test:
            found['test'] = _measured(args, bundle, precision)
    write_json(record, args.json)
    return 0


def _usual(bundle: Bundle) -> list[str]:
    """FP32, and what 'auto' runs here."""
    from kd6d_ros.inference.engines.precision_choice import processor_precision

    usual = ['fp32'] if 'fp32' in bundle.engines else []
    return [*usual, processor_precision(bundle)]


def _fitted(args: argparse.Namespace, bundle: Bundle, folder: Path, precision: str) -> tuple[Bundle, dict[str, Any]]:
    """The bundle with a covariance for a precision, written, and how well it fits."""
    from kd6d_ros.deployment.calibration import evaluate, fit
    from kd6d_ros.inference.bundle import set_covariance
    from kd6d_ros.inference.covariance import with_record

    samples = _collect(args, bundle, args.dataset, precision)
    model = fit(samples, bundle.objects)
    fitted = evaluate(samples, model)
    facts = {'poses': len(samples), 'wrong': round(fitted['wrong'], 4), 'precision': precision}
    own = {**model.record(), 'calibrated_on': facts}
    changed = set_covariance(folder, with_record(bundle.covariance, precision, own))
    _say(args, f'{precision}: fitted to {len(samples)} published poses; {folder} has a covariance now')
    return changed, fitted


def _check(args: argparse.Namespace, bundle: Bundle, precisions: list[str]) -> None:
    from kd6d_ros.errors import ConfigError

    if not args.dataset and not args.test:
        raise ConfigError('nothing to do: give --dataset to fit a covariance, --test to measure it, or both')
    for folder in [*args.dataset, *args.test]:
        if not folder.is_dir():
            raise ConfigError(f'{folder}: no such folder; render one with kd6d synth')
    for folder in args.test:
        if folder.resolve() in {item.resolve() for item in args.dataset}:
            raise ConfigError(f'--test {folder}: is what the covariance is fitted to; render another set')
    if args.limit is not None and args.limit < 1:
        raise ConfigError('--limit must be at least 1')
    if not args.dataset and bundle.covariance is None:
        raise ConfigError(f'{bundle.folder}: the bundle has no covariance; fit one with --dataset')
    for precision in precisions:
        bundle.engine_path(precision)


def _collect(args: argparse.Namespace, bundle: Bundle, datasets: list[Path], precision: str) -> list[PoseSample]:
    from kd6d_ros.cli.estimate import progress_line
    from kd6d_ros.data.pose_samples import collect_samples
    from kd6d_ros.inference.engines.select import make_engine

    engine = make_engine(bundle, 'auto', precision, args.threads)
    out = []
    for dataset in datasets:
        boxes = dataset / args.detections if args.detections else None
        out += collect_samples(bundle, engine, dataset, args.split, boxes, limit=args.limit, progress=progress_line)
    return out


def _measured(args: argparse.Namespace, bundle: Bundle, precision: str) -> dict[str, Any]:
    """Coverage on the test set, printed."""
    from kd6d_ros.deployment.calibration import evaluate
    from kd6d_ros.evaluation.coverage import TABLE_HEADER, table
    from kd6d_ros.inference.covariance import read_model, record_of

    assert bundle.covariance is not None
    model = read_model(record_of(bundle.covariance, precision), bundle.name)
    found = evaluate(_collect(args, bundle, args.test, precision), model)
    if wants_table(args):
        print(f'{precision}:')
        print(format_table(TABLE_HEADER, table(found)))
        gain = found['nll_best_constant'] - found['nll']
        wrong, ranks = 100 * found['wrong'], [found['rank_position'], found['rank_rotation']]
        print(
            f'{wrong:.1f} % of the published poses are wrong (beyond 0.1 d); {gain:.2f} nats better than the best '
            f'constant covariance per object; rank correlation with the error: position {ranks[0]:.2f}, '
            f'rotation {ranks[1]:.2f}'
        )
    return found


def _say(args: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stdout if wants_table(args) else sys.stderr)
