"""A BOP test set of the demo object in other worlds than the demo bag's, to choose between networks by.

    python -m kd6d_ros.data.demo_worlds --seed 1 --worlds 8 --images 40 --out runs/worlds

One scene per world. Beside the split ``test``: models/ [mm], test_targets_bop19.json, and detections.json with the
2D box of the projected 3D box at the true pose, so that no detector is part of the comparison. Nothing may be chosen by
the bag, and its occluded frames are a handful of situations; here they are many, and never in the bag's own world.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd6d_ros.data.bop_write import BopSceneWriter, detection_row, write_aside, write_rows
from kd6d_ros.data.demo_object import OBJECT_NAME, build_demo_object
from kd6d_ros.data.demo_world_views import OBJ_ID, views
from kd6d_ros.data.mesh_files import mesh_ply
from kd6d_ros.data.objects_yaml import write_objects_yaml
from kd6d_ros.data.synth_models import model_info
from kd6d_ros.errors import ConfigError, Kd6dError
from kd6d_ros.geometry.cameras import project
from kd6d_ros.geometry.meshes import bounding_box_corners, diameter
from kd6d_ros.inference.decode import corners_box
from kd6d_ros.types import ObjectModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kd6d_ros.data.bop_write import ImageRecord

SPLIT = 'test'
JPEG_QUALITY = 90


def write_worlds(out: Path, seed: int, worlds: int, images: int, say: Callable[[str], None] = print) -> None:
    """Write the set: scenes 1..worlds of `images` images each. The same arguments give the same set, and more
    worlds or images only add to it.

    Raises:
        ConfigError: a number out of range, or `out` holds something.
        MissingDependencyError: no moderngl or no EGL device.
    """
    if seed < 0 or worlds < 1 or images < 1:
        raise ConfigError('--worlds and --images must be at least 1, --seed at least 0')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f'--out {out}: exists and is not an empty folder; choose another one')
    rover = demo_model()
    targets, detections = [], []
    for number in range(1, worlds + 1):
        writer = BopSceneWriter(out / SPLIT / f'{number:06d}', JPEG_QUALITY)
        visible = []
        for record in views(seed, number, images):
            writer.write(record)
            targets.append({'scene_id': number, 'im_id': record.image_id, 'obj_id': OBJ_ID, 'inst_count': 1})
            detections.append(_detection(number, record, rover))
            instance = record.instances[0]
            visible.append(np.count_nonzero(instance.mask_visible) / (instance.pixels_all or 1))
        writer.finalise(range(images))
        say(f'world {number} of {worlds}: {images} images, the rover {100 * np.mean(visible):.0f} % visible on average')
    _write_models(out / 'models', rover)
    write_rows(out / 'detections.json', detections)
    write_rows(out / 'test_targets_bop19.json', targets)


def demo_model() -> ObjectModel:
    """The demo object as `kd6d synth` knows it, with its mesh [m]."""
    mesh = build_demo_object()
    corners = bounding_box_corners(mesh.vertices)
    return ObjectModel(OBJECT_NAME, OBJ_ID, diameter(mesh.vertices), corners, display_name='Toy rover', mesh=mesh)


def _detection(scene: int, record: ImageRecord, rover: ObjectModel) -> dict[str, Any]:
    """A row of BOP's detections: the true pose's box x y w h [px], which may leave the image."""
    pixels = project(record.camera, record.instances[0].cam_from_obj.apply(rover.keypoints))
    return detection_row(scene, record.image_id, rover.obj_id, corners_box(pixels))


def _write_models(folder: Path, rover: ObjectModel) -> None:
    assert rover.mesh is not None
    folder.mkdir()
    write_aside(folder / f'obj_{rover.obj_id:06d}.ply', mesh_ply(rover.mesh))
    info = {str(rover.obj_id): model_info(rover)}
    write_aside(folder / 'models_info.json', (json.dumps(info, indent=1) + '\n').encode())
    write_objects_yaml(folder, [rover])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code (2: the user's mistake, in one line)."""
    parser = argparse.ArgumentParser(
        prog='python -m kd6d_ros.data.demo_worlds',
        description="Render the demo object in other worlds than the demo bag's, as a BOP test set (mm, pixels) with "
        'detections.json for kd6d estimate --detections.',
        epilog='example: python -m kd6d_ros.data.demo_worlds --seed 1 --worlds 8 --images 40 --out runs/worlds',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='dataset folder to write; must be empty')
    parser.add_argument('--seed', type=int, default=1, help='of all worlds (default: 1)')
    parser.add_argument('--worlds', type=int, default=8, metavar='W', help='number of scenes (default: 8)')
    parser.add_argument('--images', type=int, default=40, metavar='N', help='images of each world (default: 40)')
    args = parser.parse_args(arguments)
    try:
        write_worlds(args.out, args.seed, args.worlds, args.images)
    except Kd6dError as error:
        print(f'{parser.prog}: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
