"""INT8 networks with explicit quantisation (Q/DQ), per-channel weights, from one calibration.

`int8` has signed activations with zero point 0, as TensorRT wants them; `int8-cpu` has unsigned ones, for which ONNX
Runtime has its fast kernels on x86. Weights are signed and symmetric in both.

References: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from kd6d_ros.deployment.graph_parts import decoding, final_convolutions, readers_of
from kd6d_ros.deployment.prepare import ACTIVATIONS, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kd6d_ros.types import ImageArray

TYPES = {'int8': QuantType.QInt8, 'int8-cpu': QuantType.QUInt8}
OPERATORS = ('Conv', 'Add', 'Clip', 'Relu', 'LeakyRelu', 'MaxPool', 'Resize', 'Concat')
METHODS = {
    'minmax': (CalibrationMethod.MinMax, {}),
    'average': (CalibrationMethod.MinMax, {'moving_average': True, 'averaging_constant': 0.05}),
    'percentile': (CalibrationMethod.Percentile, {'percentile': 99.99}),
    'entropy': (CalibrationMethod.Entropy, {}),
}
METHOD = 'minmax'
IMAGE_CHANNELS = 3
AT_ONCE = 16
"""Images whose activations are held in memory together."""


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
        prepared: from ``prepare.prepare``.
        method: one of METHODS.
    """
    kind, options = METHODS[method]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'prepared.onnx'
        onnx.save(prepared, source)
        with quiet():
            calibrator = create_calibrator(
                source, list(OPERATORS), f'{folder}/augmented.onnx', kind, extra_options=options
            )
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
    scale and shift of a normalisation (an addition of constants), nor what is done to the image before the second
    convolution: with three channels it has no fast INT8 kernel, and alone takes longer in eight bits than the rest."""
    kept = {*final_convolutions(graph), *decoding(graph)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    early = {item.name for item in graph.input}
    for node in graph.node:
        weights = constants.get(node.input[1]) if node.op_type == 'Conv' else None
        groups = next((item.i for item in node.attribute if item.name == 'group'), 1)
        reads_image = weights is not None and groups == 1 and weights.dims[1] == IMAGE_CHANNELS
        if node.input and node.input[0] in early and (node.op_type != 'Conv' or reads_image):
            early.update(node.output)
            kept.add(node.name)
        elif node.op_type == 'Add' and set(node.input) & set(constants):
            kept.add(node.name)
    return [node.name for node in graph.node if node.op_type in OPERATORS and node.name not in kept]


def quantise(prepared: onnx.ModelProto, ranges: Any, precision: str, in_float: Sequence[str] = ()) -> onnx.ModelProto:
    """The INT8 network; what stays in float is float32 yet (``shrink``).

    Args:
        ranges: from ``calibrate`` of the same network.
        precision: a key of TYPES.
        in_float: names of further nodes that stay in float; what is not ``quantisable`` always does.
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    chosen = sorted(set(quantisable(model.graph)) - set(in_float))
    activations = TYPES[precision]
    options = {'ActivationSymmetric': activations == QuantType.QInt8, 'WeightSymmetric': True}
    quantiser = QDQQuantizer(
        model, True, False, QuantType.QInt8, activations, ranges, chosen, [], list(OPERATORS), options
    )
    with quiet():
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
    for activation in [node for node in graph.node if node.op_type in ACTIVATIONS]:
        back = maker.get(activation.input[0])
        quantised = maker.get(back.input[0]) if back is not None and back.op_type == 'DequantizeLinear' else None
        conv = maker.get(quantised.input[0]) if quantised is not None else None
        if back is None or quantised is None or conv is None or conv.op_type != 'Conv':
            continue
        if len(readers[back.output[0]]) == len(readers[quantised.output[0]]) == 1:
            activation.input[0] = quantised.input[0]
            graph.node.remove(back)
            graph.node.remove(quantised)
