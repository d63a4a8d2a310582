"""`kd6d codes`: binary surface codes of objects, for networks of the kind dense."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

from kd6d_ros.cli.output import add_json_argument, check_folder, format_table, wants_table, write_json

if TYPE_CHECKING:
    from kd6d_ros.data.codes import Samples
    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.types import ObjectModel

EXAMPLE = """example:
  kd6d codes --models my_meshes --out runs/mug_codes
  kd6d train config/train_dense_cpu.yaml name=mug data.train=runs/mug_data data.codes=runs/mug_codes

Writes OUT/NAME.codes.npz per object. 'radius' is the distance from the centre of a leaf to its farthest sample, as a
share of the object's diameter. The same meshes and seed give the same codes."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of ``kd6d``."""
    parser = subparsers.add_parser(
        'codes',
        help='binary surface codes for the dense kind',
        description='Give every small piece of the surface of each object a code of 16 bits, coarse to fine; '
        'networks of the kind dense learn them.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--models', type=Path, required=True, metavar='DIR',
                        help='BOP models folder (models_info.json, mm) or folder of PLY/OBJ/STL meshes')  # fmt: skip
    parser.add_argument('--objects-config', type=Path, metavar='FILE',
                        help='objects.yaml with names, unit and symmetries of a plain folder')  # fmt: skip
    parser.add_argument('--objects', nargs='+', metavar='NAME', help='only these objects of the folder (default: all)')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write the codes to')
    parser.add_argument('--samples-per-leaf', type=int, default=4, metavar='N',
                        help='surface points per code, 1 to 64 (default 4: 262144 points in all)')  # fmt: skip
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of the surface points (default 0)')
    parser.add_argument('--poses', type=int, default=0, metavar='N',
                        help='also render N code maps of each object in random poses, of 64x64 cells, and solve the '
                        'poses back from them (default 0)')  # fmt: skip
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Make and write the codes of every object; returns 0."""
    from kd6d_ros.data.codes import make_codes
    from kd6d_ros.data.objects import load_objects
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.inference.code_files import read_codes, write_codes

    for option in ('seed', 'poses'):
        if getattr(args, option) < 0:
            raise ConfigError(f'--{option} {getattr(args, option)}: must not be negative')
    check_folder(f'--out {args.out}', args.out)
    models = load_objects(args.models, args.objects, args.objects_config)
    facts = []
    for number, model in enumerate(models, start=1):
        book, samples = make_codes(model, args.samples_per_leaf, args.seed)
        path = write_codes(args.out, book)
        book = read_codes(path)  # what was written is what training will accept
        facts.append({**_facts(path, model, samples), **_solved(model, book, args.poses, args.seed)})
        print(f'{number}/{len(models)} {path}', file=sys.stderr, flush=True)
    if wants_table(args):
        print(_table(facts))
    write_json({'out': args.out, 'seed': args.seed, 'objects': facts}, args.json)
    return 0


def _facts(path: Path, model: ObjectModel, samples: Samples) -> Dict[str, Any]:
    """What ``--json`` says of one object; radii and distances are shares of the diameter."""
    import numpy as np

    from kd6d_ros.data.codes import distance_by_prefix, leaf_radii

    radii = leaf_radii(samples) / model.diameter
    return {
        'name': model.name,
        'obj_id': model.obj_id,
        'file': path,
        'bytes': path.stat().st_size,
        'samples': samples.points.shape[0] * samples.points.shape[1],
        'diameter_mm': 1000 * model.diameter,
        'symmetric': bool(model.symmetries),
        'radius_median': np.median(radii),
        'radius_p95': np.quantile(radii, 0.95),
        'radius_max': radii.max(),
        'distance_by_shared_bits': [value / model.diameter for value in distance_by_prefix(samples)],
    }


def _solved(model: ObjectModel, book: CodeBook, poses: int, seed: int) -> Dict[str, Any]:
    """How far the poses that were solved from rendered code maps lie from those that were rendered."""
    if not poses:
        return {}
    import numpy as np

    from kd6d_ros.data.code_check import check_codes

    gaps = np.array(check_codes(model, book, poses, np.random.default_rng(seed)))
    found = gaps[np.isfinite(gaps).all(axis=1)]
    shift, turn = (1000 * found[:, 0], np.degrees(found[:, 1])) if len(found) else (np.array([np.nan]),) * 2
    return {
        'poses': poses,
        'poses_found': len(found),
        'shift_mm_median': np.median(shift),
        'shift_mm_max': shift.max(),
        'turn_deg_median': np.median(turn),
        'turn_deg_max': turn.max(),
    }


def _table(facts: Sequence[Dict[str, Any]]) -> str:
    checked = 'poses' in facts[0]
    rows: List[List[Any]] = [
        [
            item['name'], f'{item["diameter_mm"]:.1f}', *(f'{100 * item[key]:.2f}' for key in _RADII),
            *(f'{100 * item["distance_by_shared_bits"][shared]:.1f}' for shared in _SHARED), item['bytes'],
            *([f'{item["poses_found"]}/{item["poses"]}', *(f'{item[key]:.2f}' for key in _GAPS)] if checked else []),
        ]
        for item in facts
    ]  # fmt: skip
    header = ['object', 'diameter mm', 'radius % median', 'p95', 'max']
    header += [f'{"distance % " if shared == 0 else ""}at {shared}' for shared in _SHARED]
    return format_table([*header, 'bytes', *(['poses', *_GAPS] if checked else [])], rows)


_RADII = ('radius_median', 'radius_p95', 'radius_max')
_GAPS = ('shift_mm_median', 'shift_mm_max', 'turn_deg_median', 'turn_deg_max')
_SHARED = (0, 4, 8, 12, 16)
"""Lengths of the shared prefix whose mean distance the table shows."""
