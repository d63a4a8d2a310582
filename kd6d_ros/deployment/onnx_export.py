"""The deployed graph as one ONNX file: symbolic batch, height and width, weights stored in half precision.

Weights are float16 initialisers followed by a Cast, which every engine folds at load: the file is half as
large and computes in float32. What is exported is therefore the network with weights rounded to float16.
"""

from __future__ import annotations

import copy
import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from kd6d_ros.networks.deployed_graph import INPUTS, SURFACE, deployed, output_names

if TYPE_CHECKING:
    from typing import TypeVar

    from kd6d_ros.networks.make_network import AnyNetwork

    Network = TypeVar('Network', bound=AnyNetwork)

OPSET = 17
DYNAMIC = {
    'image': {0: 'batch', 1: 'height', 2: 'width'},
    'classes': {0: 'batch'},
    SURFACE: {0: 'batch', 3: 'surface_height', 4: 'surface_width'},
    'mask': {0: 'batch', 1: 'map_height', 2: 'map_width'},
    'code': {0: 'batch', 2: 'map_height', 3: 'map_width'},
}
MAP_INDEX = {0: 'batch', 1: 'map_height', 2: 'map_width'}
"""Of the output class_index of a dense network; that of a keypoint network has another shape."""


def rounded_weights(network: Network) -> Network:
    """A copy whose floating-point parameters and buffers are rounded to float16 precision (float32 type)."""
    copied = copy.deepcopy(network)
    copied.float().eval()
    with torch.no_grad():
        for tensor in copied.parameters():
            if tensor.ndim > 1:
                tensor.copy_(tensor.half().float())
    return copied


def export_graph(network: AnyNetwork, crop_size: int, max_cells: int) -> onnx.ModelProto:
    """The FP32 file: ``trace_graph`` with its weights stored in float16."""
    model = trace_graph(network, crop_size, max_cells)
    store_half(model)
    onnx.checker.check_model(model)
    return model


def trace_graph(network: AnyNetwork, crop_size: int, max_cells: int) -> onnx.ModelProto:
    """ONNX model of ``deployed`` with batch normalisation folded, all in float32."""
    graph, names = deployed(network.float().eval(), max_cells), output_names(network)
    dense = 'code' in names
    image = torch.zeros((2, crop_size, crop_size, 3), dtype=torch.uint8)
    classes = torch.ones((2, network.spec.classes), dtype=torch.bool)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the tracer warns about loops over levels, which are fixed
        torch.onnx.export(
            graph, (image, classes), buffer,  # type: ignore[arg-type]
            input_names=list(INPUTS), output_names=list(names),
            dynamic_axes={**DYNAMIC, 'class_index': MAP_INDEX} if dense else DYNAMIC,
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    if not dense:
        _name_outputs(model, max_cells)
    return model


def _name_outputs(model: onnx.ModelProto, max_cells: int) -> None:
    """Declare (batch, max_cells, ...) instead of the tracer's anonymous dimensions."""
    tails = {'class_index': (), 'score': (), 'level': (), 'centre': (2,), 'keypoints': (8, 2)}
    for output in model.graph.output:
        if output.name == SURFACE:
            continue
        kind = output.type.tensor_type.elem_type
        shape = ['batch', max_cells, *tails[output.name]]
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, shape))


def store_half(model: onnx.ModelProto) -> None:
    """Replace float32 initialisers of two dimensions and more by float16 ones and a Cast to float32."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name = tensor.name
        values = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(values).all():
            continue  # beyond float16's range: keep it as it is
        tensor.CopyFrom(numpy_helper.from_array(values, f'{name}_half'))
        casts.append(helper.make_node('Cast', [f'{name}_half'], [name], f'{name}_cast', to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
