"""`kd6d make-bag`: an MCAP bag with ground truth from a scene of a BOP dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

if TYPE_CHECKING:
    from kd6d_ros.benchmark.records import TruthObject
    from kd6d_ros.data.bop import BopScene

START_NS = 1_700_000_000_000_000_000
"""Stamp of the first image: fixed, so that the same scene gives the same bag."""


def add_parser(subparsers: Any) -> None:
    """Add ``kd6d make-bag``."""
    parser = subparsers.add_parser(
        'make-bag',
        help='an MCAP bag with ground truth from a BOP scene',
        description='Write the images of one scene of a BOP dataset as a ROS 2 bag (MCAP): image, CameraInfo and '
        'ground truth (vision_msgs/Detection3DArray, score = visible fraction), one after the other at --rate.',
        epilog='example: kd6d make-bag --dataset lmo --scene 2 --out lmo_bag --names config/objects_lmo.yaml',
    )
    parser.add_argument('--dataset', required=True, type=Path, metavar='BOP_DIR', help='dataset folder')
    parser.add_argument('--split', default='test', help='split of the scene (default: test)')
    parser.add_argument('--scene', required=True, type=int, metavar='ID', help='scene number')
    parser.add_argument('--out', required=True, type=Path, metavar='BAG', help='bag folder to write; must not exist')
    parser.add_argument('--rate', type=float, default=30.0, help='images per second of bag time (default: 30)')
    parser.add_argument('--format', choices=('jpeg', 'png', 'raw'), default='jpeg', help='of the images')
    parser.add_argument('--quality', type=int, default=92, help='JPEG quality 1 to 100 (default: 92)')
    parser.add_argument('--names', type=Path, metavar='OBJECTS_YAML', help='object id to name; else obj_000001')
    parser.add_argument('--frame-id', default='camera_color_optical_frame', help='frame of the images')
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Write the bag; it appears under its name only when complete."""
    from kd6d_ros.benchmark.bag_writer import BagWriter
    from kd6d_ros.data.bop import BopDataset
    from kd6d_ros.errors import ConfigError, DatasetError

    if not 0.01 <= args.rate <= 1000:
        raise ConfigError(f'--rate {args.rate:g}: must be 0.01 to 1000 images per second')
    if not 1 <= args.quality <= 100:
        raise ConfigError(f'--quality {args.quality}: must be 1 to 100')
    dataset = BopDataset.open(args.dataset)
    scenes = dataset.split(args.split)
    if args.scene not in scenes:
        known = ', '.join(str(scene) for scene in scenes) or 'none'
        raise DatasetError(f'{args.dataset}: split {args.split} has no scene {args.scene}; it has {known}')
    scene = dataset.scene(args.split, args.scene)
    if not scene.image_ids:
        raise DatasetError(f'{args.dataset}: scene {args.scene} of split {args.split} has no images')
    names = _names(args.names)
    objects = 0
    with BagWriter(args.out, args.format, args.quality) as writer:
        for number, image_id in enumerate(scene.image_ids):
            image = scene.image(image_id)
            camera = scene.camera(image_id, (image.shape[1], image.shape[0]))
            truth = _truth(scene, image_id, names)
            stamp = START_NS + round(number * 1e9 / args.rate)
            writer.write_frame(stamp, args.frame_id, image, camera, truth)
            objects += len(truth)
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 1e6
    print(f'{args.out}: {len(scene.image_ids)} images, {objects} objects, {size:.2f} MB')
    return 0


def _names(path: Optional[Path]) -> Dict[int, str]:
    if path is None:
        return {}
    from kd6d_ros.data.objects_yaml import read_objects_yaml

    return {ident: entry.name for ident, entry in read_objects_yaml(path).objects.items()}


def _truth(scene: BopScene, image_id: int, names: Dict[int, str]) -> Tuple[TruthObject, ...]:
    """Ground truth of an image; a dataset without visible fractions counts everything as visible."""
    from kd6d_ros.benchmark.records import TruthObject

    found = []
    for item in scene.annotations(image_id):
        name = names.get(item.obj_id, f'obj_{item.obj_id:06d}')
        visible = 1.0 if item.visible_fraction is None else item.visible_fraction
        found.append(TruthObject(name, item.cam_from_obj, visible))
    return tuple(found)
