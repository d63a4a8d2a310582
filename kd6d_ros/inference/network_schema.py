"""The fields `network` and `decode` of a manifest, by kind of bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from kd6d_ros.inference.bundle_records import LAYOUTS, DecodeSpec, LevelSpec, NetworkSpec

if TYPE_CHECKING:
    from kd6d_ros.inference.manifest_fields import Field

SHARED = ('crop_size', 'crop_padding', 'frame_size', 'layout')
OF_KIND = {'keypoints': ('max_cells', 'levels'), 'dense': ('code_stride',)}
OPTIONAL = ('parameters', 'architecture', 'crop_macs', 'frame_macs')

MOST_CODE_CELLS = 1 << 20
"""Of a dense network's map: more would take hundreds of megabytes and seconds for one image."""


def read_network(field: Field, kind: str) -> NetworkSpec:
    """
    Raises:
        BundleError: names the line and the field.
    """
    dense = kind == 'dense'
    fields = field.mapping((*SHARED, *OF_KIND[kind]), OPTIONAL if dense else (*OPTIONAL, 'surface_stride'))
    levels = () if dense else _levels(fields['levels'])
    stride = fields['code_stride'].whole(1, 256) if dense else None
    # The coarser levels round up, so only the finest has to divide the input.
    finest = stride or min(level.stride for level in levels)
    what = 'code stride' if dense else 'finest stride'
    crop_size = fields['crop_size'].whole(16, 2048)
    if crop_size % finest:
        fields['crop_size'].fail(f'{crop_size} is not a multiple of the {what} {finest}')
    size = _frame_size(fields['frame_size'], finest, what)
    for width, height in ((crop_size, crop_size), size or (0, 0)):
        if dense and width * height > MOST_CODE_CELLS * finest**2:
            fields['code_stride'].fail(f'{width}x{height} px make a map of more than {MOST_CODE_CELLS} cells')
    layout = fields['layout'].text(64)
    if layout != LAYOUTS[kind]:
        fields['layout'].fail(
            f'unknown layout {layout!r}: this version of kd6d_ros knows {LAYOUTS[kind]} for kind: {kind}'
        )
    return NetworkSpec(
        crop_size=crop_size,
        crop_padding=fields['crop_padding'].number(1.0, 5.0),
        frame_size=size,
        max_cells=0 if dense else fields['max_cells'].whole(1, 65536),
        levels=levels,
        layout=layout,
        parameters=fields['parameters'].whole(0, 10**12) if 'parameters' in fields else 0,
        architecture=fields['architecture'].text(200) if 'architecture' in fields else '',
        surface_stride=_surface_stride(fields, crop_size, size),
        crop_macs=_macs(fields, 'crop_macs'),
        frame_macs=_macs(fields, 'frame_macs'),
        code_stride=stride,
    )


def _levels(field: Field) -> Tuple[LevelSpec, ...]:
    levels: List[LevelSpec] = []
    for item in field.items(1, 8):
        parts = item.mapping(('stride', 'anchor_size'))
        levels.append(LevelSpec(parts['stride'].whole(1, 256), parts['anchor_size'].number(1.0, 4096.0)))
    return tuple(levels)


def _frame_size(field: Field, finest: int, what: str) -> Optional[Tuple[int, int]]:
    if field.is_null:
        return None
    width, height = (side.whole(16, 8192) for side in field.items(2, 2))
    if width % finest or height % finest:
        field.fail(f'{width}x{height} is not a multiple of the {what} {finest}')
    return width, height


def _surface_stride(fields: Dict[str, Field], crop_size: int, frame: Optional[Tuple[int, int]]) -> Optional[int]:
    if 'surface_stride' not in fields or fields['surface_stride'].is_null:
        return None
    stride = fields['surface_stride'].whole(1, 256)
    for side in (crop_size, *(frame or ())):
        if side % stride:
            fields['surface_stride'].fail(f'{stride} does not divide the input size {side}')
    return stride


def _macs(fields: Dict[str, Field], name: str) -> Optional[int]:
    if name not in fields or fields[name].is_null:
        return None
    return fields[name].whole(1, 10**15)


def read_decode(field: Field, kind: str) -> DecodeSpec:
    """
    Raises:
        BundleError: names the line and the field.
    """
    dense = kind == 'dense'
    names = ('score_threshold', 'cells_per_object')
    fields = field.mapping(names if dense else (*names, 'sharpness'), ('min_score',))
    least = fields.get('min_score')
    return DecodeSpec(
        fields['score_threshold'].number(0.0, 1.0),
        fields['cells_per_object'].whole(1, 1000),
        0.0 if dense else fields['sharpness'].number(0.0, 100.0),
        None if least is None or least.is_null else least.number(0.0, 1.0),
    )
