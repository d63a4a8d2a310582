"""``kd6d predict``: a bundle on a folder of photos, into poses and pictures."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLE = """examples:
  kd6d predict --bundle models/mug --images my_photos --camera camera.yaml --out looked_at
  kd6d predict --bundle mug --images empty_table --camera camera.yaml --out nothing     # counts poses that are wrong

The camera file is the calibration of the images as they are, not rectified: what camera_calibration wrote, a
CameraInfo as `ros2 topic echo --once /camera/camera_info` prints it, or BOP's camera.json. Every photo stands alone
and is searched as a whole, with the same gates as on the robot. The folder --out gets poses.json (metres,
quaternions x y z w, camera frame) and a picture of every photo.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of ``kd6d``."""
    from kd6d_ros.cli.output import add_engine_arguments, add_json_argument

    parser = subparsers.add_parser(
        'predict',
        help='estimate poses in photos of your own, with pictures',
        description='Find the objects of a bundle in a folder of photos, write their poses and draw them.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--bundle', required=True, metavar='BUNDLE', help='bundle folder or installed name')
    parser.add_argument(
        '--images', required=True, metavar='DIR', help='folder of PNG, JPEG or TIFF images, or one image'
    )
    parser.add_argument('--camera', required=True, metavar='FILE', help='calibration of the images (px)')
    parser.add_argument('--out', required=True, metavar='DIR', help='new folder for poses.json and the pictures')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE',
                        help='a setting of the estimator, e.g. min_score=0.3; may be given several times')  # fmt: skip
    parser.add_argument('--models', metavar='DIR', help='BOP models folder (mm) for --set fit_outline=true')
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images by name')
    add_engine_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Look at the photos, write what was found, print a summary."""
    import json
    from pathlib import Path

    from kd6d_ros.cli.estimate import chosen_settings, print_summary, progress_line
    from kd6d_ros.cli.output import check_new_folder
    from kd6d_ros.data.bop_write import write_aside
    from kd6d_ros.data.photo_run import PhotoOptions, PhotoRun
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.filled_aside import filled_aside
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.camera_file import read_camera
    from kd6d_ros.inference.engines.select import make_engine
    from kd6d_ros.inference.locate import find_bundle

    out = Path(args.out)
    check_new_folder('--out', out)
    if args.limit is not None and args.limit < 1:
        raise ConfigError('--limit must be at least 1')
    settings = chosen_settings(
        args.set, {'track': 'is off, as every photo stands alone', 'find': 'is on, as every photo is searched'}
    )
    bundle = load_bundle(find_bundle(args.bundle))
    meshes = Path(args.models) if args.models else None
    options = PhotoOptions(Path(args.images), settings, meshes, args.limit)
    work = PhotoRun(bundle, read_camera(Path(args.camera)), options)
    engine = make_engine(bundle, args.engine, args.precision, args.threads)
    with filled_aside(out.resolve()) as folder:  # an empty working folder has no name to put another one beside
        record = {'bundle': bundle.name, 'images': work.run(engine, folder / 'pictures', progress_line)}
        write_aside(folder / 'poses.json', (json.dumps(record, indent=1) + '\n').encode())
    print_summary(args, {**work.summary(), 'out': str(out)})
    return 0
