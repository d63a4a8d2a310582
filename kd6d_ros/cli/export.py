"""`kd6d export`: a checkpoint becomes a bundle that the robot loads, or a bundle gets further precisions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle

EXAMPLE = """examples:
  kd6d export --checkpoint runs/mug/final.pt --out models/mug --meshes my_meshes
  kd6d export --checkpoint runs/mug/final.pt --out models/mug --precisions fp32 int8-cpu --calibration runs/mug_data
  kd6d export --bundle models/mug --out models/mug --precisions int8-cpu --calibration runs/mug_data

The exported graph is compared with PyTorch before anything is written. int8 is for TensorRT, int8-cpu for ONNX Runtime
on x86. Their accuracy is measured on objects that were held out of training; see docs/deployment.md. With --bundle the
precisions are made from the bundle's FP32 file and put beside what it has; everything else stays as it is."""

OF_A_CHECKPOINT = ('licence', 'origin', 'meshes', 'mesh_faces', 'crop_padding', 'min_score')
"""Options that a bundle has its own answer to."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        'export',
        help='write a bundle from a checkpoint, or add precisions to a bundle',
        description='Export a trained network of either kind to a bundle: ONNX files, keypoints or surface codes, '
        'diameters, symmetries, manifest.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--checkpoint', type=Path, metavar='FILE', help='final.pt of `kd6d train`')
    source.add_argument(
        '--bundle', metavar='BUNDLE', help='bundle (folder or installed name) that gets more precisions'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='BUNDLE', help='bundle folder to write')
    parser.add_argument(
        '--precisions', nargs='+', default=['fp32'], metavar='P', help='fp32 (default), fp16, int8, int8-cpu'
    )
    parser.add_argument(
        '--calibration', type=Path, metavar='DIR', help='BOP folder of renders, or a bag, that INT8 is calibrated on'
    )
    parser.add_argument(
        '--calibration-images', type=int, default=128, metavar='N', help='crops and frames of it (default %(default)s)'
    )
    parser.add_argument(
        '--evaluate',
        type=Path,
        metavar='BOP_DIR',
        help='renders to measure the accuracy of each precision on (default: what training held out of --calibration)',
    )
    parser.add_argument(
        '--evaluate-instances', type=int, default=500, metavar='N', help='objects to measure on (default %(default)s)'
    )
    parser.add_argument(
        '--allow-drop',
        nargs='+',
        default=[],
        metavar='P',
        help='precisions to write even if they lose more than 2 points of recall, or if nothing is there to measure on',
    )
    parser.add_argument('--name', default='', help='name of the bundle (default: name of the folder, or that it has)')
    parser.add_argument('--licence', help='licence of the weights (default Apache-2.0)')
    parser.add_argument('--origin', help='where the training data came from (default: own renders)')
    parser.add_argument(
        '--meshes', type=Path, metavar='DIR', help='models folder, as for kd6d synth: store decimated meshes too'
    )
    parser.add_argument('--mesh-faces', type=int, metavar='N', help='faces per mesh (default 1500)')
    parser.add_argument(
        '--crop-padding',
        type=float,
        metavar='P',
        help='side of a crop over the box of the object on the robot, 1 to 4 (default: as in training)',
    )
    parser.add_argument(
        '--min-score',
        type=float,
        metavar='S',
        help="least score of a published pose that the bundle recommends, 0 to 1 (default: none, the robot's counts)",
    )
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.inference.bundle_schema import NAME

    name = args.name or ('' if args.bundle else args.out.absolute().name)
    if name and not NAME.fullmatch(name):
        raise ConfigError(f'{name!r} cannot be the name of a bundle (letters, digits and _); give another with --name')

    from kd6d_ros.cli.output import format_table
    from kd6d_ros.deployment.report import TABLE_HEADER, table_rows
    from kd6d_ros.inference.bundle import REPORT

    bundle = _written(args, name)
    size = sum(path.stat().st_size for path in args.out.rglob('*') if path.is_file())
    print(format_table(TABLE_HEADER, table_rows(json.loads((args.out / REPORT).read_text(encoding='utf-8')))))
    print(f'wrote {args.out}: {", ".join(bundle.names)}; {size / 1e6:.1f} MB; check it: kd6d info {args.out}')
    return 0


def _written(args: argparse.Namespace, name: str) -> Bundle:
    """The bundle, from a checkpoint or with more in it."""
    from kd6d_ros.errors import ConfigError

    given = {key: getattr(args, key) for key in OF_A_CHECKPOINT if getattr(args, key) is not None}
    data = {
        'precisions': tuple(dict.fromkeys(args.precisions)),
        'calibration': args.calibration,
        'calibration_images': args.calibration_images,
        'evaluate': args.evaluate,
        'evaluate_instances': args.evaluate_instances,
        'allow_drop': args.allow_drop,
    }
    if args.checkpoint is not None:
        from kd6d_ros.deployment.export import ExportRequest, export_bundle

        return export_bundle(ExportRequest(args.checkpoint, args.out, name=name, **given, **data), progress_line)
    if given:
        option = next(iter(given)).replace('_', '-')
        raise ConfigError(f'--{option}: belongs to --checkpoint; a bundle keeps what it says')

    from kd6d_ros.deployment.bundle_precisions import PrecisionsRequest, add_precisions
    from kd6d_ros.inference.locate import find_bundle

    return add_precisions(PrecisionsRequest(find_bundle(args.bundle), args.out, name=name, **data), progress_line)


def progress_line(what: str, done: int, total: int) -> None:
    """One line on standard error: rewritten on a terminal, now and then in a log."""
    import sys

    terminal = sys.stderr.isatty()
    if terminal or done == total or done % 50 == 0:
        text = f'{what} {done}/{total}'
        sys.stderr.write(f'\r{text:<50}' if terminal else f'{text}\n')
        if terminal and done == total:
            sys.stderr.write('\n')
        sys.stderr.flush()
