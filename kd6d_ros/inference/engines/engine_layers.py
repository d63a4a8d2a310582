"""The precision that the layers of a TensorRT engine really run at, read off the engine inspector's JSON."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional

WORDS = (
    ('fp8', ('fp8',)),
    ('bf16', ('bfloat16', 'bf16')),
    ('fp16', ('fp16', 'half')),
    ('int8', ('int8',)),
    ('fp32', ('fp32', 'float')),
)
"""Precision -> words in a format. Order counts: 'float' is part of 'bfloat16', 'int8' of 'uint8'."""

HEAVY = ('conv', 'gemm', 'matmul', 'fullyconnected')


def layer_precisions(information: str) -> Dict[str, int]:
    """Number of layers per precision: of the convolutions and matrix products, which take nearly all the time; of
    all layers where TensorRT fused those into something else; empty where the engine does not tell.

    A layer counts by what it reads: a quantised convolution with float output runs in INT8.

    Args:
        information: ``IEngineInspector.getEngineInformation`` as JSON, of TensorRT 8.6 to 11.
    """
    try:
        record = json.loads(information)
    except ValueError:
        return {}
    layers = record.get('Layers') if isinstance(record, dict) else None
    told = [layer for layer in layers or [] if isinstance(layer, dict)]
    heavy = [layer for layer in told if _is_heavy(layer)]
    counts: Dict[str, int] = {}
    for layer in heavy or told:
        precision = _precision(layer)
        if precision is not None:
            counts[precision] = counts.get(precision, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _is_heavy(layer: Mapping[str, Any]) -> bool:
    kind = f'{layer.get("LayerType", "")} {layer.get("ParameterType", "")}'.lower()
    return any(word in kind for word in HEAVY)


def _precision(layer: Mapping[str, Any]) -> Optional[str]:
    tensors: List[Any] = layer.get('Inputs') or layer.get('Outputs') or []
    if not isinstance(tensors, list) or not tensors or not isinstance(tensors[0], dict):
        return None
    first = tensors[0]
    # Up to 10 one field holds both; 11 has the data type in a field of its own.
    text = str(first.get('DataType') or first.get('Datatype') or first.get('Format/Datatype') or '').lower()
    if 'uint8' in text:
        return None
    return next((name for name, words in WORDS if any(word in text for word in words)), None)


def in_words(counts: Mapping[str, int]) -> str:
    """For example '57 layers in fp16, 2 in fp32'."""
    if not counts:
        return 'its layers do not tell their precision'
    first, *others = [f'{count} in {name}' for name, count in counts.items()]
    number, rest = first.split(' ', 1)
    return ', '.join([f'{number} layers {rest}', *others])
