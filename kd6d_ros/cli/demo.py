"""`kd6d demo`: the whole way on the shipped bag, and the makers of what the demo ships."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

FRAME_ID = 'demo_camera_optical_frame'
START_NS = 1_760_000_000_000_000_000
JPEG_QUALITY = 55
"""Keeps 300 images under the 8 MB that the shipped bag may have."""


def add_parser(subparsers: Any) -> None:
    """Add ``kd6d demo``."""
    parser = subparsers.add_parser(
        'demo',
        help='the whole way on the shipped bag: real node, replay over DDS, table and HTML report',
        description='Starts the pose_estimator node, replays a bag to it from another process over DDS on this '
        'host only, and scores what it published against the ground truth in the bag.',
        epilog='Example: kd6d demo --out runs/demo_report. Exit code 1 when the recall is below --min-recall or a pose '
        'was published while the object was out of view.',
    )
    parser.add_argument('--bundle', type=Path, default=None, help='model bundle (default: models/demo)')
    parser.add_argument('--bag', type=Path, default=None, help='bag with truth (default: models/demo_bag)')
    parser.add_argument('--out', type=Path, default=Path('runs/demo_report'), help='folder of report.html and logs')
    parser.add_argument('--rate', type=float, default=1.0, help='replay speed, 1.0 = as recorded (30 Hz)')
    parser.add_argument('--min-recall', type=float, default=0.9, help='ADD recall at 0.1 diameter to reach, 0 to 1')
    parser.add_argument('--json', nargs='?', const='-', metavar='FILE', help='the result as one JSON object')
    parser.add_argument('--write-object', type=Path, metavar='DIR', help='only write the demo object there')
    parser.add_argument('--write-bag', type=Path, metavar='BAG', help='only render the demo bag there (about a minute)')
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo or one of the makers; return 0, or 1 when the demo's figures are not reached."""
    if args.write_object is not None:
        from kd6d_ros.data.demo_object import write_demo_object

        print(write_demo_object(args.write_object))
        return 0
    if args.write_bag is not None:
        return _write_bag(args.write_bag)
    from kd6d_ros.cli.demo_run import run_demo

    return run_demo(args)


def _write_bag(path: Path) -> int:
    from kd6d_ros.benchmark.bag_writer import BagWriter
    from kd6d_ros.benchmark.records import TruthObject
    from kd6d_ros.data import demo_film
    from kd6d_ros.data.demo_object import OBJECT_NAME

    hidden = occluded = 0
    with BagWriter(path, 'jpeg', JPEG_QUALITY) as writer:
        for frame in demo_film.film():
            stamp = START_NS + round(frame.index * 1e9 / demo_film.RATE_HZ)
            truth = TruthObject(OBJECT_NAME, frame.cam_from_obj, frame.visible_fraction)
            writer.write_frame(stamp, FRAME_ID, frame.image, frame.camera, (truth,))
            hidden += frame.visible_fraction == 0
            occluded += frame.occluded_fraction > 0.3
            if (frame.index + 1) % 50 == 0:
                print(f'frame {frame.index + 1}/{demo_film.FRAMES}', flush=True)
    size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    print(f'{path}: {size:.2f} MB, {occluded} frames more than 30 % occluded, {hidden} out of view')
    return 0
