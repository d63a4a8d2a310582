"""The exported graph made ready for fewer bits: the same values, with fewer and simpler nodes."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from kd6d_ros.deployment.graph_parts import readers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ACTIVATIONS = ('Clip', 'Relu', 'LeakyRelu')
"""All of them grow with their input."""


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with constants folded, padding inside its convolutions and pooling before activations."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / 'prepared.onnx'
        with quiet():
            quant_pre_process(model, target, skip_symbolic_shape=True)
        prepared = onnx.load(target)
    fold_padding(prepared.graph)
    pool_first(prepared.graph)
    return prepared


def fold_padding(graph: onnx.GraphProto) -> None:
    """Zeros around an image go into the convolution that reads them: a Pad would cost a pass over the activations, in
    INT8 a quantisation of its own."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    readers = readers_of(graph)
    for conv in [node for node in graph.node if node.op_type == 'Conv']:
        pad = maker.get(conv.input[0])
        if pad is None or pad.op_type != 'Pad' or pad.input[1] not in constants or len(readers[pad.output[0]]) != 1:
            continue
        amounts = numpy_helper.to_array(constants[pad.input[1]])
        mode = next((item.s for item in pad.attribute if item.name == 'mode'), b'constant')
        has_value = len(pad.input) > 2 and bool(pad.input[2])
        if len(amounts) != 8 or amounts[[0, 1, 4, 5]].any() or (amounts < 0).any() or mode != b'constant' or has_value:
            continue
        old = next((item for item in conv.attribute if item.name == 'pads'), None)
        pads = np.zeros(4, np.int64) if old is None else np.array(old.ints)
        if old is not None:
            conv.attribute.remove(old)
        conv.attribute.append(helper.make_attribute('pads', (pads + amounts[[2, 3, 6, 7]]).tolist()))
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)


def pool_first(graph: onnx.GraphProto) -> None:
    """Largest first, activation then: the same for an activation that grows with its input, on a quarter of the values.
    ONNX Runtime would move the quantisation behind a pooling before it, where in eight bits and channel by channel it
    takes twenty times as long."""
    maker = {name: node for node in graph.node for name in node.output}
    readers = readers_of(graph)
    for pool in [node for node in graph.node if node.op_type == 'MaxPool' and len(node.output) == 1]:
        activation = maker.get(pool.input[0])
        if activation is None or activation.op_type not in ACTIVATIONS or len(readers[activation.output[0]]) != 1:
            continue
        source, middle, result = activation.input[0], activation.output[0], pool.output[0]
        pool.input[0], pool.output[0] = source, middle
        activation.input[0], activation.output[0] = middle, result
        moved = onnx.NodeProto()
        moved.CopyFrom(activation)
        graph.node.remove(activation)
        graph.node.insert(list(graph.node).index(pool) + 1, moved)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress and warnings that ONNX Runtime's tools print."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
        onnxruntime.set_default_logger_severity(2)
