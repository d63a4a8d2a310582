"""`kd6d engine`: the TensorRT engines of a bundle, built on the machine that will run them."""

from __future__ import annotations

import argparse
from typing import Any, Dict, Tuple

EXAMPLE = """example:
  kd6d engine models/mug --precision fp16
  kd6d engine models/mug --precision int8 --workspace-mb 512 --force
  kd6d engine models/kitchen --batch 4

One engine per input size of the bundle (crop, and whole frame where the bundle can search); with --batch also one for
several crops of a frame at once, which is used as soon as it is there. The node, kd6d bench and
kd6d estimate then find them with engine:=auto or engine:=tensorrt. An engine runs on this GPU with this TensorRT only;
after an update it is built again. Needs TensorRT, cuda-python and ONNX Runtime, see docs/jetson.md.
"""


def add_parser(subparsers: Any) -> None:
    """Add ``kd6d engine``."""
    from kd6d_ros.cli.output import add_json_argument

    parser = subparsers.add_parser(
        'engine',
        help='build the TensorRT engines of a bundle on this machine',
        description='Build the TensorRT engines of a bundle for the GPU of this machine (minutes, once) and keep '
        'them in the cache folder. What is there already and still fits is not built again.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('bundle', metavar='BUNDLE', help='bundle folder, or name of an installed bundle')
    parser.add_argument('--precision', default='fp16', help="one of the bundle's precisions (default: %(default)s)")
    parser.add_argument(
        '--workspace-mb', type=int, metavar='N', help='most scratch memory of one layer in MiB (default: no limit)'
    )
    parser.add_argument(
        '--weakly-typed',
        action='store_true',
        help='let TensorRT choose precisions of layers (engine:=tensorrt-weak runs it; always so in TensorRT 8)',
    )
    parser.add_argument(
        '--batch',
        type=int,
        metavar='N',
        help='also an engine for 1 to N crops at once (N from 2 to 16): for several objects in a frame',
    )
    parser.add_argument(
        '--cache',
        metavar='DIR',
        help='folder for engines (default: $KD6D_CACHE, else kd6d_ros in $XDG_CACHE_HOME or ~/.cache)',
    )
    parser.add_argument('--force', action='store_true', help='build them even if they are there')
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Build what is missing, print one line per engine."""
    import sys

    from kd6d_ros.cli.output import format_table, wants_table, write_json
    from kd6d_ros.errors import ConfigError
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.engines.network_io import input_sizes
    from kd6d_ros.inference.engines.select import engine_source
    from kd6d_ros.inference.engines.tensorrt_build import MOST_IMAGES, BuildOptions
    from kd6d_ros.inference.locate import find_bundle

    if args.workspace_mb is not None and not 1 <= args.workspace_mb <= 1 << 20:
        raise ConfigError(f'--workspace-mb {args.workspace_mb}: expected 1 .. {1 << 20}')

    if args.batch is not None and not 2 <= args.batch <= MOST_IMAGES:
        raise ConfigError(f'--batch {args.batch}: expected 2 .. {MOST_IMAGES}')

    def notify(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    bundle = load_bundle(find_bundle(args.bundle))
    options = BuildOptions(False if args.weakly_typed else None, args.workspace_mb)
    source = engine_source(bundle, args.precision, options, notify, args.cache)
    crop = bundle.network.crop_size
    wanted = [(size, 1) for size in input_sizes(bundle.network)]
    wanted += [((crop, crop), args.batch)] if args.batch else []
    records = []
    for size, most in wanted:
        program, facts = source.program(size, args.force, most=most)
        program.close()
        records.append(_record(source.entry(size, most).name, size, most, facts))
    if wants_table(args):
        header = ['engine', 'size px', 'images', 'state', 'built in s', 'layers']
        print(format_table(header, [list(record.values()) for record in records]))
        if args.cache:
            print(f'the node finds these engines with the environment variable KD6D_CACHE={args.cache}')
    write_json({'folder': source.folder, 'engines': records, **vars(source.platform)}, args.json)
    return 0


def _record(name: str, size: Tuple[int, int], most: int, facts: Dict[str, Any]) -> Dict[str, Any]:
    from kd6d_ros.inference.engines.engine_layers import in_words

    return {
        'engine': name,
        'size': f'{size[1]}x{size[0]}',
        'images': '1' if most == 1 else f'1 to {most}',
        'state': 'built' if facts['built'] else 'was there',
        'build_seconds': facts.get('build_seconds'),
        'layers': in_words(facts.get('layers') or {}),
    }
