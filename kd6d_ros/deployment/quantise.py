"""INT8 networks with explicit quantisation (Q/DQ), per-channel weights, from one calibration.

`int8` has signed activations with zero point 0, as TensorRT wants them; `int8-cpu` has unsigned ones, for which ONNX
Runtime has its fast kernels on x86. Weights are signed and symmetric in both.

References: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from kd6d_ros.deployment.graph_parts import decoding, final_convolutions, readers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kd6d_ros.types import ImageArray

ACTIVATIONS = {'int8': QuantType.QInt8, 'int8-cpu': QuantType.QUInt8}
OPERATORS = ('Conv', 'Add', 'Clip', 'Relu', 'LeakyRelu', 'MaxPool', 'Resize', 'Concat')
METHODS = {
    'minmax': (CalibrationMethod.MinMax, {}),
    'average': (CalibrationMethod.MinMax, {'moving_average': True, 'averaging_constant': 0.05}),
    'percentile': (CalibrationMethod.Percentile, {'percentile': 99.99}),
    'entropy': (CalibrationMethod.Entropy, {}),
}
METHOD = 'minmax'
AT_ONCE = 16
"""Images whose activations are held in memory together."""


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with constants folded and padding inside its convolutions, as calibration needs it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / 'prepared.onnx'
        with _quiet():
            quant_pre_process(model, target, skip_symbolic_shape=True)
        prepared = onnx.load(target)
    fold_padding(prepared.graph)
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


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Sequence[ImageArray], classes: int) -> None:
        self._images: Iterator[ImageArray] = iter(images)
        self._classes = np.ones((1, classes), dtype=bool)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {'image': image[None], 'classes': self._classes}


def calibrate(prepared: onnx.ModelProto, images: Sequence[ImageArray], classes: int, method: str = METHOD) -> Any:
    """Range of every activation over `images`, (H, W, 3) uint8 RGB of any sizes that the network takes.

    Args:
        prepared: from ``prepare``.
        method: one of METHODS.
    """
    kind, options = METHODS[method]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'prepared.onnx'
        onnx.save(prepared, source)
        calibrator = create_calibrator(source, list(OPERATORS), f'{folder}/augmented.onnx', kind, extra_options=options)
        with _quiet():
            for group in _groups(images):
                calibrator.collect_data(_Images(group, classes))
            return calibrator.compute_data()


def _groups(images: Sequence[ImageArray]) -> Iterator[list[ImageArray]]:
    """At most AT_ONCE images of one size: a histogram takes no others."""
    for shape in sorted({image.shape for image in images}):
        same = [image for image in images if image.shape == shape]
        for start in range(0, len(same), AT_ONCE):
            yield same[start : start + AT_ONCE]


def quantisable(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that may compute in eight bits: neither the decoding, nor the convolutions before it, nor the
    scale and shift of a normalisation (an addition of constants)."""
    kept = {*final_convolutions(graph), *decoding(graph)}
    constants = {tensor.name for tensor in graph.initializer}
    kept |= {node.name for node in graph.node if node.op_type == 'Add' and constants & set(node.input)}
    return [node.name for node in graph.node if node.op_type in OPERATORS and node.name not in kept]


def quantise(prepared: onnx.ModelProto, ranges: Any, precision: str, in_float: Sequence[str] = ()) -> onnx.ModelProto:
    """The INT8 network; what stays in float is float32 yet (``shrink``).

    Args:
        ranges: from ``calibrate`` of the same network.
        precision: a key of ACTIVATIONS.
        in_float: names of further nodes that stay in float; what is not ``quantisable`` always does.
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    chosen = sorted(set(quantisable(model.graph)) - set(in_float))
    activations = ACTIVATIONS[precision]
    options = {'ActivationSymmetric': activations == QuantType.QInt8, 'WeightSymmetric': True}
    quantiser = QDQQuantizer(
        model, True, False, QuantType.QInt8, activations, ranges, chosen, [], list(OPERATORS), options
    )
    with _quiet():
        quantiser.quantize_model()
        quantiser.model.clean_initializers()
        quantiser.model.topological_sort()
    out: onnx.ModelProto = quantiser.model.model
    if precision == 'int8':
        _one_scale_behind_activations(out.graph)
    return out


def _one_scale_behind_activations(graph: onnx.GraphProto) -> None:
    """Take out a Q/DQ pair between a convolution and its activation: the range before a Clip or Relu is wider than the
    one behind it, and TensorRT fuses the two only without it. (Unsigned, the tool has removed the activation.)"""
    maker = {name: node for node in graph.node for name in node.output}
    readers = readers_of(graph)
    for activation in [node for node in graph.node if node.op_type in ('Clip', 'Relu', 'LeakyRelu')]:
        back = maker.get(activation.input[0])
        quantised = maker.get(back.input[0]) if back is not None and back.op_type == 'DequantizeLinear' else None
        conv = maker.get(quantised.input[0]) if quantised is not None else None
        if back is None or quantised is None or conv is None or conv.op_type != 'Conv':
            continue
        if len(readers[back.output[0]]) == len(readers[quantised.output[0]]) == 1:
            activation.input[0] = quantised.input[0]
            graph.node.remove(back)
            graph.node.remove(quantised)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress and warnings that ONNX Runtime's tools print."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
