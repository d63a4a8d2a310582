"""``kd6d info BUNDLE``: what is in a bundle, checked."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Dict, List, Optional

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle

EXAMPLE = """example:
  kd6d info models/demo
  kd6d info lmo --json lmo.json

BUNDLE is a folder, or the name of a bundle that came with the package. Every file is hashed and compared.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of ``kd6d``."""
    from kd6d_ros.cli.output import add_json_argument

    parser = subparsers.add_parser(
        'info',
        help='what is in a bundle, checked',
        description='Check a bundle and print what is in it (sizes in mm and pixels).',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('bundle', metavar='BUNDLE', help='bundle folder, or name of an installed bundle')
    add_json_argument(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Load the bundle (which checks it), print it."""
    from kd6d_ros.cli.output import wants_table, write_json
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.locate import find_bundle

    bundle = load_bundle(find_bundle(args.bundle))
    record = bundle_record(bundle)
    if wants_table(args):
        print(describe(bundle, record))
    write_json(record, args.json)
    return 0


def bundle_record(bundle: Bundle) -> Dict[str, Any]:
    """What ``--json`` writes; 'checked' is true because a bundle that fails a check does not load."""
    network = bundle.network
    sizes = {name: (bundle.folder / name).stat().st_size for name in bundle.files}
    return {
        'folder': str(bundle.folder),
        'name': bundle.name,
        'kind': bundle.kind,
        'schema': bundle.schema,
        'objects': [
            {
                'name': item.name,
                'display_name': item.display_name,
                'obj_id': item.obj_id,
                'diameter_mm': round(item.diameter * 1000, 3),
                'symmetries': _symmetry_word(item.symmetries),
                'mesh': bundle.meshes.get(item.name),
                'codes': bundle.codes.get(item.name),
            }
            for item in bundle.objects
        ],
        'network': {
            'architecture': network.architecture,
            'parameters': network.parameters,
            'crop_size_px': network.crop_size,
            'crop_padding': network.crop_padding,
            'frame_size_px': None if network.frame_size is None else list(network.frame_size),
            'max_cells': network.max_cells,
            'strides_px': [level.stride for level in network.levels],
            'anchor_sizes_px': [level.anchor_size for level in network.levels],
            'surface_stride_px': network.surface_stride,
            'code_stride_px': network.code_stride,
            'crop_macs': network.crop_macs,
            'frame_macs': network.frame_macs,
        },
        'decode': dict(vars(bundle.decode)),
        'engines': {
            key: {'file': name, 'bytes': sizes[name], 'sha256': bundle.files[name]}
            for key, name in bundle.engines.items()
        },
        'bytes': sum(sizes.values()),
        'licence': bundle.licence,
        'origin': bundle.origin,
        'training': dict(bundle.training),
        'expected': dict(bundle.expected),
        'measured': {key: dict(vars(item)) for key, item in bundle.measured.items()},
        'covariance_calibrated': bundle.covariance is not None,
        'files_checked': len(bundle.files),
        'checked': True,
    }


def describe(bundle: Bundle, record: Dict[str, Any]) -> str:
    """The same for people."""
    from kd6d_ros.cli.output import format_table
    from kd6d_ros.inference.settings import MIN_SCORE

    network = record['network']
    frame = network['frame_size_px']
    least = record['decode']['min_score']
    lines = [
        f'bundle     {record["name"]} ({record["kind"]}, schema {record["schema"]}) in {record["folder"]}',
        f'network    {network["architecture"] or "unnamed"}, {network["parameters"]:,} parameters',
        f'crop       {network["crop_size_px"]} px, padding {network["crop_padding"]:g}',
        f'frame      {frame[0]}x{frame[1]} px' if frame else 'frame      none: needs detections',
        *_output_lines(network),
        f'min_score  {MIN_SCORE:g} (the default)' if least is None else f'min_score  {least:g} (recommended here)',
    ]
    lines += _compute_lines(network)
    lines += [f'engine     {k}: {v["file"]}, {v["bytes"] / 1e6:.2f} MB' for k, v in record['engines'].items()]
    lines += [f'licence    {record["licence"]}', f'origin     {record["origin"]}']
    facts = record['training'].items()
    lines += [f'training   {key}: {value}' for key, value in facts if not isinstance(value, (dict, list))]
    lines += [f'training   {key}: see --json' for key, value in facts if isinstance(value, (dict, list)) and value]
    lines += [f'expected   {key}: {value:g}' for key, value in record['expected'].items()]
    lines += [f'measured   {key}: {_measured_words(item)}' for key, item in record['measured'].items()]
    lines.append('covariance ' + ('calibrated' if record['covariance_calibrated'] else 'none'))
    lines.append(f'checked    {record["files_checked"]} files, every sha256 agrees')
    rows = [
        [
            item['name'],
            item['obj_id'],
            f'{item["diameter_mm"]:.1f}',
            item['symmetries'],
            'yes' if item['mesh'] else 'no',
            item['display_name'],
        ]
        for item in record['objects']
    ]
    table = format_table(['object', 'obj_id', 'diameter mm', 'symmetric', 'mesh', 'called'], rows)
    return '\n'.join(lines) + '\n\n' + table


def _measured_words(item: Dict[str, Any]) -> str:
    """What the exporter found out about one precision."""
    words = []
    if item['recall'] is not None:
        words.append(f'{100 * item["recall"]:.1f} % of {item["objects"]} held-out objects')
        if item['keypoint_error_px'] is not None:
            words.append(f'{item["drop_points"]:+.1f} points lost against fp32')
            words.append(f'keypoints {item["keypoint_error_px"]:.2f} px from those of fp32')
    if item['latency_ms'] is not None:
        words.append(f'{item["latency_ms"]:.2f} ms per crop where it was exported')
    return ', '.join(words) or 'nothing'


def _output_lines(network: Dict[str, Any]) -> List[str]:
    """What the network says about an image."""
    if network['code_stride_px'] is not None:
        return [f'codes      a surface code for every {network["code_stride_px"]}x{network["code_stride_px"]} px']
    return [
        f'levels     strides {network["strides_px"]}, anchors {network["anchor_sizes_px"]} px',
        f'surface    {_surface_word(network["surface_stride_px"])}',
    ]


def _surface_word(stride: Optional[int]) -> str:
    return 'none' if stride is None else f'a point of the object for every {stride}x{stride} px'


def _compute_lines(network: Dict[str, Any]) -> List[str]:
    """Nothing for a bundle whose exporter did not count."""
    known = [(what, network[f'{what}_macs']) for what in ('crop', 'frame') if network[f'{what}_macs'] is not None]
    parts = [f'{macs / 1e9:.3g} GMAC per {what}' for what, macs in known]
    return [f'compute    {", ".join(parts)} (1 MAC: one multiply-add)'] if parts else []


def _symmetry_word(symmetries: Any) -> str:
    parts = []
    if symmetries.discrete:
        parts.append(f'{len(symmetries.discrete)} discrete')
    if symmetries.continuous:
        parts.append(f'{len(symmetries.continuous)} continuous')
    return ', '.join(parts) or 'no'
