"""`kd6d export`: a checkpoint becomes a bundle that the robot loads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLE = """example:
  kd6d export --checkpoint runs/mug/final.pt --out models/mug --meshes my_meshes

The exported graph is compared with PyTorch before anything is written."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        'export',
        help='write a bundle from a checkpoint',
        description='Export a trained network to a bundle: ONNX file, keypoints, diameters, symmetries, manifest.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--checkpoint', type=Path, required=True, metavar='FILE', help='final.pt of `kd6d train`')
    parser.add_argument('--out', type=Path, required=True, metavar='BUNDLE', help='bundle folder to write')
    parser.add_argument('--precisions', nargs='+', default=['fp32'], metavar='P', help='fp32 (default)')
    parser.add_argument('--name', default='', help='name of the bundle (default: name of the folder)')
    parser.add_argument('--licence', default='Apache-2.0', help='licence of the weights (default Apache-2.0)')
    parser.add_argument('--origin', default='own renders', help='where the training data came from')
    parser.add_argument(
        '--meshes', type=Path, metavar='DIR', help='models folder, as for kd6d synth: store decimated meshes too'
    )
    parser.add_argument('--mesh-faces', type=int, default=1500, metavar='N', help='faces per mesh (default 1500)')
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

    name = args.name or args.out.absolute().name
    if not NAME.fullmatch(name):
        raise ConfigError(f'{name!r} cannot be the name of a bundle (letters, digits and _); give another with --name')

    from kd6d_ros.deployment.export import ExportRequest, export_bundle

    bundle = export_bundle(
        ExportRequest(
            args.checkpoint,
            args.out,
            args.precisions,
            name=name,
            licence=args.licence,
            origin=args.origin,
            meshes=args.meshes,
            mesh_faces=args.mesh_faces,
            crop_padding=args.crop_padding,
            min_score=args.min_score,
        )
    )
    size = sum(path.stat().st_size for path in args.out.rglob('*') if path.is_file())
    print(f'wrote {args.out}: {", ".join(bundle.names)}; {size / 1e6:.1f} MB; check it: kd6d info {args.out}')
    return 0
