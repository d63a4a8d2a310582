"""``kd6d analyse``: where the errors of a bundle on a data set come from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Dict, List, Optional

if TYPE_CHECKING:
    from kd6d_ros.data.bop_run import Progress
    from kd6d_ros.data.error_analysis import Analysed

EXAMPLE = """example:
  kd6d synth --models my_meshes --out runs/held --images 200 --seed 9
  python -m kd6d_ros.data.target_lists runs/held --split train --seed 0
  kd6d analyse --bundle models/mug --dataset runs/held --split train --detections runs/held/detections.json \\
      --out runs/errors

A pose is right when ADD (ADD-S for symmetric objects) is below 0.1 diameter. The columns, shares of all targets:
  right          with the given boxes, or found by the bundle itself without --detections
  visible/whole box   right with the true box of the visible part, or of the whole object, in place of the given one
  +distance, +place, +position, +rotation   right if that part of each pose were the true one
  corners, pose  median distance of the predicted corners from the true ones, and of those of the pose that PnP made of
                 them, in percent of the object's size in the image; in crops around the whole object
  mask           median overlap (IoU) of the network's mask with the visible part, in the same crops
Where a better box helps, it is the detector; where the corners are off, it is the network; where they are good and the
pose is not, it is PnP or what --set chooses. By default the robot's gates count: doubtful poses are 'no pose'.
"""

HEADER = ('targets of', 'n', 'right', 'visible box', 'whole box', '+distance', '+place', '+position', '+rotation',
          'corners %', 'pose %', 'mask')  # fmt: skip


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of ``kd6d``."""
    from kd6d_ros.cli.estimate import add_target_arguments
    from kd6d_ros.cli.output import add_engine_arguments, add_json_argument

    parser = subparsers.add_parser(
        'analyse',
        help='where the errors of a bundle on a BOP dataset come from',
        description='Say why poses are wrong: boxes, network, or part of the pose; tables, and pictures by cause.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_target_arguments(parser)
    parser.add_argument('--out', metavar='DIR', help='draw sheets of wrong poses, one for each cause, into this folder')
    parser.add_argument('--pictures', type=int, default=16, metavar='N', help='most targets of a sheet (default: 16)')
    add_engine_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Analyse, print the tables, draw."""
    from pathlib import Path

    from kd6d_ros.cli.estimate import target_options
    from kd6d_ros.cli.output import check_folder, write_json
    from kd6d_ros.data.error_analysis import ErrorAnalysis
    from kd6d_ros.data.error_pictures import write_sheets
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.engines.select import make_engine
    from kd6d_ros.inference.locate import find_bundle

    if args.pictures < 1 or (args.limit is not None and args.limit < 1):
        raise ConfigError('--pictures and --limit must be at least 1')
    if args.out:
        check_folder(f'--out {args.out}', Path(args.out))
    bundle = load_bundle(find_bundle(args.bundle))
    work = ErrorAnalysis(bundle, target_options(args))
    engine = make_engine(bundle, args.engine, args.precision, args.threads)
    found = work.run(engine, _progress)
    record = _record(found)
    _print(args, record)
    if args.out:
        sheets = write_sheets(Path(args.out), work.dataset, args.split, bundle, found, args.pictures)
        record['sheets'] = {cause: str(path) for cause, path in sheets.items()}
    write_json({'bundle': bundle.name, 'engine': engine.description, **record}, args.json)
    return 0


def _progress(what: str) -> Progress:
    import sys

    from kd6d_ros.cli.estimate import progress_line

    sys.stderr.write(f'boxes: {what}\n')
    return progress_line


def _record(found: List[Analysed]) -> Dict[str, Any]:
    from kd6d_ros.evaluation.error_sources import groups, summarise

    return {'groups': {label: summarise(members) for label, members in groups([item.errors for item in found])}}


def _print(args: argparse.Namespace, record: Dict[str, Any]) -> None:
    from kd6d_ros.cli.output import format_table, wants_table
    from kd6d_ros.evaluation.error_sources import CAUSES

    if not wants_table(args):
        return
    rows = [_row(label, group) for label, group in record['groups'].items()]
    print(format_table(HEADER, rows))
    causes = record['groups']['all']['causes']
    print('causes: ' + ', '.join(f'{cause} {100 * causes[cause]:.1f} %' for cause in CAUSES if causes[cause]))


def _row(label: str, group: Dict[str, Any]) -> List[str]:
    boxes, parts = group['recall_with_box'], group['recall_with_true']
    return [
        label, str(group['targets']), _percent(group['recall']),
        *(_percent(value) for value in list(boxes.values())[1:]), *(_percent(value) for value in parts.values()),
        _percent(group['median_corners']), _percent(group['median_pose_corners']),
        '-' if group['median_mask_iou'] is None else f'{group["median_mask_iou"]:.2f}',
    ]  # fmt: skip


def _percent(share: Optional[float]) -> str:
    return '-' if share is None else f'{100 * share:.1f}'
