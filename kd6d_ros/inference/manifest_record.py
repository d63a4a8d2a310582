"""What a bundle's manifest holds, as plain values for YAML: the way back of ``bundle_schema``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

import numpy as np

from kd6d_ros.errors import BundleError
from kd6d_ros.inference.bundle_records import SCHEMA_OF_KIND

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle, NetworkSpec
    from kd6d_ros.types import ObjectModel


def manifest_record(bundle: Bundle) -> Dict[str, Any]:
    """What goes into the manifest, in the order of the schema.

    Raises:
        BundleError: the bundle holds a value that YAML cannot.
    """
    dense = bundle.kind == 'dense'
    record = {
        'schema': SCHEMA_OF_KIND[bundle.kind],
        'name': bundle.name,
        'kind': bundle.kind,
        'objects': [_object_record(item) for item in bundle.objects],
        'network': _network_record(bundle.network, dense),
        'decode': {
            'score_threshold': bundle.decode.score_threshold,
            'cells_per_object': bundle.decode.cells_per_object,
            **({} if dense else {'sharpness': bundle.decode.sharpness}),
            **({} if bundle.decode.min_score is None else {'min_score': bundle.decode.min_score}),
        },
        'engines': dict(bundle.engines),
        'licence': bundle.licence,
        'origin': bundle.origin,
        'training': dict(bundle.training),
        'expected': dict(bundle.expected),
        'measured': {
            key: {name: value for name, value in vars(item).items() if value is not None}
            for key, item in bundle.measured.items()
        },
        'covariance': None if bundle.covariance is None else dict(bundle.covariance),
        'meshes': dict(bundle.meshes),
        **({'codes': dict(bundle.codes)} if dense else {}),
        'files': dict(bundle.files),
    }
    plain: Dict[str, Any] = plain_values(record, bundle.name)
    return plain


def _network_record(network: NetworkSpec, dense: bool) -> Dict[str, Any]:
    optional = {name: getattr(network, name) for name in ('surface_stride', 'crop_macs', 'frame_macs')}
    cells = {
        'max_cells': network.max_cells,
        'levels': [{'stride': x.stride, 'anchor_size': x.anchor_size} for x in network.levels],
    }
    return {
        'crop_size': network.crop_size,
        'crop_padding': network.crop_padding,
        'frame_size': None if network.frame_size is None else list(network.frame_size),
        **({'code_stride': network.code_stride} if dense else cells),
        'layout': network.layout,
        'parameters': network.parameters,
        'architecture': network.architecture,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _object_record(item: ObjectModel) -> Dict[str, Any]:
    return {
        'name': item.name,
        'display_name': item.display_name or item.name,
        'obj_id': item.obj_id,
        'diameter_m': item.diameter,
        'keypoints_m': np.round(item.keypoints, 9),
        'symmetries': {
            'discrete': [np.round(x.matrix().reshape(-1), 9) for x in item.symmetries.discrete],
            'continuous': [
                {'axis': np.round(x.axis, 9), 'offset_m': np.round(x.offset, 9)} for x in item.symmetries.continuous
            ],
        },
    }


def plain_values(value: Any, where: str) -> Any:
    """`value` as what safe YAML knows; NumPy numbers and arrays become numbers and lists."""
    if isinstance(value, dict):
        return {str(key): plain_values(item, f'{where}.{key}') for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain_values(value.tolist(), where)
    if isinstance(value, (list, tuple)):
        return [plain_values(item, where) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise BundleError(f'{where}: a manifest cannot hold a {type(value).__name__}: use numbers, text or lists')
