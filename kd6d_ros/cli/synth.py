"""`kd6d synth`: render a BOP-format training set from meshes."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd6d_ros.cli.output import add_json_argument, check_folder, wants_table, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.data.scenes.recipe import SynthRecipe
    from kd6d_ros.data.synth import SynthJob
    from kd6d_ros.types import Camera, ObjectModel

EXAMPLE = """example:
  kd6d synth --models ycb/models --out data/train --images 10000 --seed 1 --workers 8
  kd6d synth --models lmo/models --out data/lmo --images 12000 --config config/synth_lmo.yaml \\
      --backgrounds photos --distractors ycb

The same arguments and seed give the same bytes for any number of workers; repeat the command to resume.
"""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        'synth',
        help='a BOP-format training set from meshes',
        description='Render random scenes of the objects: colour, depth, masks and poses in BOP format.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--models', type=Path, required=True, metavar='DIR',
                        help='BOP models folder (models_info.json, mm) or folder of PLY/OBJ/STL meshes')  # fmt: skip
    parser.add_argument('--objects-config', type=Path, metavar='FILE',
                        help='objects.yaml with names, unit and symmetries of a plain folder')  # fmt: skip
    parser.add_argument('--objects', nargs='+', default=[], metavar='NAME',
                        help='only these objects of the folder (default: all)')  # fmt: skip
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the data set to write')
    parser.add_argument('--images', type=int, required=True, metavar='N', help='images in the whole set')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of the set (default 0)')
    parser.add_argument('--workers', type=int, default=1, metavar='W', help='processes (default 1)')
    parser.add_argument('--config', type=Path, metavar='FILE', help='recipe, e.g. config/synth_lmo.yaml')
    parser.add_argument('--backgrounds', type=Path, metavar='DIR', help='photos; none: procedural only')
    parser.add_argument('--distractors', type=Path, nargs='+', default=[], metavar='DIR',
                        help='folders of further meshes as clutter, beside procedural shapes')  # fmt: skip
    parser.add_argument('--size', metavar='WxH', help='image size in pixels (default 640x480)')
    parser.add_argument('--camera', type=Path, metavar='FILE', help='BOP camera.json (fx fy cx cy width height)')
    parser.add_argument('--distance', type=float, nargs=2, metavar=('MIN', 'MAX'), help='object distance [m]')
    parser.add_argument('--preview', type=int, default=0, metavar='N',
                        help='also write OUT/preview.png, a contact sheet of the first N images')  # fmt: skip
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Make the set; returns 0."""
    from kd6d_ros.errors import ConfigError

    if args.images < 1 or args.workers < 1 or args.seed < 0:
        raise ConfigError('--images and --workers must be at least 1, --seed at least 0')
    check_folder(f'--out {args.out}', args.out)
    from kd6d_ros.data.synth import run_synth
    from kd6d_ros.data.synth_models import write_models  # needs trimesh, which not everybody has who mistypes a folder

    job = make_job(args)
    result = run_synth(job, args.images, args.workers)
    write_models(args.models, job)
    if args.preview > 0:
        from kd6d_ros.data.synth_preview import write_preview

        print(write_preview(job, min(args.preview, args.images)), file=sys.stderr)
    record = {'out': args.out, 'seed': args.seed, 'workers': args.workers, **asdict(result)}
    write_json(record, args.json)
    if wants_table(args):
        rate = result.images_per_second
        speed = f' at {rate:.1f} images/s' if rate else ''
        print(f'{args.out}: {result.images} images, {result.made} made now{speed}')
    return 0


def make_job(args: argparse.Namespace) -> SynthJob:
    """Load everything the arguments name."""
    from kd6d_ros.data.objects import load_objects
    from kd6d_ros.data.scenes.assets import list_backgrounds
    from kd6d_ros.data.scenes.loading import load_distractors, ready_models
    from kd6d_ros.data.scenes.recipe import load_recipe
    from kd6d_ros.data.synth import SynthJob

    recipe = _with_arguments(load_recipe(args.config), args)
    backgrounds = list_backgrounds(args.backgrounds)
    options = {'config': args.objects_config} if args.objects_config else {}
    objects = _chosen(load_objects(args.models, **options), args.objects)
    models = ready_models(objects, recipe.scene.mesh_faces)
    distractors = load_distractors(args.distractors, recipe.scene.distractor_faces)
    return SynthJob(
        args.out, args.seed, recipe, _camera(args.camera, recipe),
        tuple(models), tuple(distractors), tuple(backgrounds),
    )  # fmt: skip


def _chosen(objects: Sequence[ObjectModel], names: list[str]) -> list[ObjectModel]:
    """The objects of these names, all without any.

    Raises:
        ConfigError: no object has that name.
    """
    from kd6d_ros.errors import ConfigError

    known = [item.name for item in objects]
    for name in names:
        if name not in known:
            raise ConfigError(f'--objects {name}: the folder has {", ".join(known)}')
    return [item for item in objects if not names or item.name in names]


def _with_arguments(recipe: SynthRecipe, args: argparse.Namespace) -> SynthRecipe:
    from dataclasses import replace

    from kd6d_ros.errors import ConfigError

    if args.size:
        parts = args.size.lower().split('x')
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            raise ConfigError(f'--size {args.size}: expected WIDTHxHEIGHT in pixels, e.g. 640x480')
        old = recipe.size
        size = (int(parts[0]), int(parts[1]))
        fx, fy, cx, cy = recipe.camera_matrix
        sx, sy = size[0] / old[0], size[1] / old[1]
        # pixel centres at integers: the image scales about its corner at -0.5
        matrix = (fx * sx, fy * sy, (cx + 0.5) * sx - 0.5, (cy + 0.5) * sy - 0.5)
        recipe = replace(recipe, size=size, camera_matrix=matrix)
    if args.distance:
        low, high = args.distance
        if not 0.05 <= low <= high <= 20:
            raise ConfigError(f'--distance {low:g} {high:g}: expected 0.05 <= MIN <= MAX <= 20 metres')
        recipe = replace(recipe, scene=replace(recipe.scene, distance_m=(low, high)))
    return recipe


def _camera(path: Path | None, recipe: SynthRecipe) -> Camera:
    import json

    import numpy as np

    from kd6d_ros.errors import CameraError
    from kd6d_ros.geometry.cameras import make_camera

    fx, fy, cx, cy = recipe.camera_matrix
    width, height = recipe.size
    if path is not None:
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            fx, fy, cx, cy = (float(content[key]) for key in ('fx', 'fy', 'cx', 'cy'))
            width, height = int(content['width']), int(content['height'])
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise CameraError(f'{path}: not a BOP camera.json with fx fy cx cy width height ({error})') from error
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise CameraError(f'image size {width}x{height}: each side must be 16..8192 px')
    return make_camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), width, height)
