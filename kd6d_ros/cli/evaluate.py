"""`kd6d evaluate`: score a BOP result file against a dataset's ground truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Tuple

from kd6d_ros.cli.output import add_json_argument, format_table, wants_table, write_json

if TYPE_CHECKING:
    from kd6d_ros.data.bop_scoring import ScoringJob

MAX_BOOTSTRAP = 100_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the `kd6d` parser."""
    parser = subparsers.add_parser(
        'evaluate',
        help='score a BOP result CSV: AR of VSD, MSSD and MSPD, ADD(-S)',
        description='Score poses against ground truth by the definitions of the BOP benchmark: AR_VSD, AR_MSSD, '
        'AR_MSPD and their mean AR; recall of ADD (ADD-S for symmetric objects) at 0.1 diameter and the area under its '
        'curve up to 0.1 m; per object and by visibility. A target without an estimate is a failure. VSD needs depth '
        "images and the renderer (pip install '.[synth]').",
        epilog='example: kd6d evaluate --dataset lmo --results results.csv --bootstrap 1000 --json scores.json',
    )
    parser.add_argument('--dataset', required=True, type=Path, metavar='BOP_DIR', help='dataset folder')
    parser.add_argument(
        '--targets', type=Path, metavar='FILE', help='target list (default: BOP_DIR/test_targets_bop19.json)'
    )
    parser.add_argument(
        '--results',
        required=True,
        type=Path,
        metavar='CSV',
        help='poses as scene_id,im_id,obj_id,score,R,t,time; t in millimetres',
    )
    parser.add_argument('--split', default='test', help='split that the targets are of (default: test)')
    parser.add_argument(
        '--vsd',
        choices=('auto', 'on', 'off'),
        default='auto',
        help='auto: VSD where every image has depth and a renderer is there (default); on: end if it cannot be',
    )
    parser.add_argument(
        '--vsd-delta',
        type=float,
        default=15.0,
        metavar='MM',
        help='tolerance of visibility in mm (default: 15, for all of BOP but ITODD, which has 5)',
    )
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='processes (default: 1)')
    parser.add_argument('--add-s', action='store_true', help='ADD-S of objects without symmetry too (slower)')
    parser.add_argument(
        '--bootstrap',
        type=int,
        default=0,
        metavar='N',
        help='95 %% intervals from N resamples of the images (default: 0, none)',
    )
    parser.add_argument(
        '--against',
        type=Path,
        metavar='CSV',
        help='other results on the same targets: paired differences with intervals (needs --bootstrap)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the resampling (default: 0)')
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Read, score, print."""
    from kd6d_ros.data.bop_scoring import ScoringJob, read_estimates, score_results
    from kd6d_ros.evaluation.paired import difference_lines, paired_differences
    from kd6d_ros.evaluation.report import TABLE_HEADER, closing_lines, make_report, table_rows

    _check(args)
    source = args.targets or args.dataset / 'test_targets_bop19.json'
    plain = ScoringJob(args.dataset, args.split, source)
    keys = {(target.scene_id, target.image_id, target.obj_id) for target in plain.wanted()}
    estimates = read_estimates(plain, args.results)
    job, note = _with_vsd(args, plain)
    scores = score_results(job, estimates, args.workers)
    ignored, seconds = estimates.beside(keys), estimates.seconds_per_image()
    report = make_report(scores, {}, len(estimates), ignored, seconds, args.bootstrap, args.seed, note)
    record, lines = report.record(), closing_lines(report)
    if args.against is not None:
        others = score_results(plain, read_estimates(plain, args.against), args.workers)
        differences = paired_differences(scores, others, args.bootstrap, args.seed)
        record['against'] = {name: vars(item) for name, item in differences.items()}
        lines += difference_lines(differences)
    if wants_table(args):
        print(format_table(TABLE_HEADER, table_rows(report)))
        print('\n'.join(lines))
    write_json(record, args.json)
    return 0


def _check(args: argparse.Namespace) -> None:
    from kd6d_ros.errors import ConfigError

    if not 0 <= args.bootstrap <= MAX_BOOTSTRAP or args.seed < 0:
        raise ConfigError(f'--bootstrap must be within 0..{MAX_BOOTSTRAP} and --seed at least 0')
    if args.against is not None and not args.bootstrap:
        raise ConfigError('--against: needs --bootstrap N, the number of resamples for the intervals')
    if not 1 <= args.workers <= 256:
        raise ConfigError(f'--workers {args.workers}: must be 1 to 256')
    if not 0 < args.vsd_delta <= 1000:
        raise ConfigError(f'--vsd-delta {args.vsd_delta:g}: must be above 0 and at most 1000 mm')


def _with_vsd(args: argparse.Namespace, plain: ScoringJob) -> Tuple[ScoringJob, str]:
    """The job with what was asked for, and why it has no VSD."""
    from dataclasses import replace

    from kd6d_ros.data.bop_scoring import check_vsd
    from kd6d_ros.errors import Kd6dError

    plain = replace(plain, add_s=args.add_s)
    if args.vsd == 'off':
        return plain, '--vsd off'
    job = replace(plain, vsd_delta=args.vsd_delta / 1000)
    try:
        check_vsd(job)
    except Kd6dError as error:
        if args.vsd == 'on':
            raise
        return plain, str(error)
    return job, ''
