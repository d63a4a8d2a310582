"""`kd6d evaluate`: score a BOP result file against a dataset's ground truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Sequence

from kd6d_ros.cli.output import add_json_argument, format_table, wants_table, write_json

if TYPE_CHECKING:
    from kd6d_ros.data.bop import Target
    from kd6d_ros.evaluation.records import Estimate

MAX_BOOTSTRAP = 100_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the `kd6d` parser."""
    parser = subparsers.add_parser(
        'evaluate',
        help='score a BOP result CSV: AR of MSSD and MSPD, ADD(-S)',
        description='Score poses against ground truth by the definitions of the BOP benchmark: AR_MSSD, AR_MSPD '
        'and recall of ADD (ADD-S for symmetric objects) at 0.1 diameter; per object and by visibility. A target '
        'without an estimate is a failure.',
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
    from kd6d_ros.data.bop import BopDataset, read_targets
    from kd6d_ros.data.bop_evaluation import collect_targets, load_evaluation_objects, models_folder
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.evaluation.paired import difference_lines, paired_differences
    from kd6d_ros.evaluation.report import TABLE_HEADER, closing_lines, make_report, table_rows
    from kd6d_ros.evaluation.results_csv import read_results
    from kd6d_ros.evaluation.scores import score_targets

    if not 0 <= args.bootstrap <= MAX_BOOTSTRAP or args.seed < 0:
        raise ConfigError(f'--bootstrap must be within 0..{MAX_BOOTSTRAP} and --seed at least 0')
    if args.against is not None and not args.bootstrap:
        raise ConfigError('--against: needs --bootstrap N, the number of resamples for the intervals')
    dataset = BopDataset.open(args.dataset)
    source = args.targets or args.dataset / 'test_targets_bop19.json'
    wanted = read_targets(source)
    if not wanted:
        raise ConfigError(f'{source}: the target list is empty')
    folder, infos = models_folder(dataset)
    estimates = read_results(args.results, infos)
    objects = load_evaluation_objects(folder, infos, sorted({target.obj_id for target in wanted}))
    targets = collect_targets(dataset, args.split, wanted, source)
    scores = score_targets(targets, estimates, objects)
    report = make_report(
        scores,
        {},
        len(estimates),
        _ignored(estimates, wanted),
        _seconds_per_image(estimates),
        args.bootstrap,
        args.seed,
    )
    record, lines = report.record(), closing_lines(report)
    if args.against is not None:
        others = score_targets(targets, read_results(args.against, infos), objects)
        differences = paired_differences(scores, others, args.bootstrap, args.seed)
        record['against'] = {name: vars(item) for name, item in differences.items()}
        lines += difference_lines(differences)
    if wants_table(args):
        print(format_table(TABLE_HEADER, table_rows(report)))
        print('\n'.join(lines))
    write_json(record, args.json)
    return 0


def _ignored(estimates: Sequence[Estimate], wanted: Sequence[Target]) -> int:
    keys = {(target.scene_id, target.image_id, target.obj_id) for target in wanted}
    return sum((item.scene_id, item.image_id, item.obj_id) not in keys for item in estimates)


def _seconds_per_image(estimates: Sequence[Estimate]) -> Optional[float]:
    """Mean over images of the time written for them; None when the file does not say."""
    times = {(item.scene_id, item.image_id): item.seconds for item in estimates}
    if not times or min(times.values()) < 0:
        return None
    return sum(times.values()) / len(times)
