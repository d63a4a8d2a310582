"""Networks with a fixed input size for TensorRT: the same answers, and nothing in them that its parser refuses."""

from __future__ import annotations

import contextlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.inference.engines.precision_choice import int8_is_exact, processor_flags, runtime_version
from kd6d_ros.inference.locate import find_bundle
from kd6d_ros.inference.onnx_edit import CODES, cast_node, message, read_graph, read_node, tensor
from kd6d_ros.inference.onnx_file import fields, tensor_in_another_file
from kd6d_ros.inference.onnx_static import evaluate_with_onnxruntime, static_network

onnxruntime = pytest.importorskip('onnxruntime')

SHAPE_ARITHMETIC = {'Shape', 'Range', 'ConstantOfShape', 'Constant', 'Slice', 'Where', 'Equal', 'Identity'}


def shapes(height, width, classes):
    return {'image': (1, height, width, 3), 'classes': (1, classes)}


def run(data, image, classes):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=['CPUExecutionProvider'])
    return session, session.run(None, {'image': image, 'classes': classes})


@pytest.fixture(params=['demo', 'lmo'])
def bundle(request):
    return load_bundle(find_bundle(request.param))


@pytest.mark.parametrize('whole', [False, True])
def test_a_shipped_network_gives_the_same_answers(bundle, whole):
    data, network, count = bundle.engine_path('fp32').read_bytes(), bundle.network, len(bundle.objects)
    width, height = network.frame_size if whole else (network.crop_size, network.crop_size)
    image = np.random.default_rng(1).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
    classes = np.ones((1, count), bool)
    static = static_network(data, shapes(height, width, count), evaluate_with_onnxruntime)
    session, ours = run(static, image, classes)
    _, theirs = run(data, image, classes)
    for item, one, other in zip(session.get_outputs(), ours, theirs, strict=True):
        assert one.dtype == other.dtype
        assert list(one.shape) == item.shape == list(other.shape)
    assert ours[1] == pytest.approx(theirs[1], abs=1e-6)
    assert ours[5] == pytest.approx(theirs[5], abs=1e-4)
    sure = theirs[1] > 2e-3  # cells of nearly equal score may change places
    assert sure.any()
    assert ours[4][sure] == pytest.approx(theirs[4][sure], abs=1e-3)


@pytest.mark.parametrize('precision', ['fp32', 'int8-cpu'])
def test_the_number_of_images_may_stay_open(bundle, precision):
    if precision not in bundle.engines:
        pytest.skip('the bundle has no INT8')
    if precision != 'fp32' and not int8_is_exact(processor_flags(), runtime_version()):
        pytest.skip('this ONNX Runtime computes INT8 inexactly on this processor, see precision_choice')
    data, size, count = bundle.engine_path(precision).read_bytes(), bundle.network.crop_size, len(bundle.objects)
    static = static_network(data, shapes(size, size, count), evaluate_with_onnxruntime, any_number=True)
    kinds = Counter(node.kind for node in read_graph(static).nodes)
    assert SHAPE_ARITHMETIC & set(kinds) == set()
    for number in (1, 4):
        image = np.random.default_rng(number).integers(0, 256, (number, size, size, 3)).astype(np.uint8)
        classes = np.ones((number, count), bool)
        session, ours = run(static, image, classes)
        assert {item.shape[0] for item in (*session.get_inputs(), *session.get_outputs())} == {'batch'}
        for one, other in zip(ours, run(data, image, classes)[1], strict=True):
            assert one.shape == other.shape
        assert np.sort(ours[1]) == pytest.approx(np.sort(run(data, image, classes)[1][1]), abs=1e-5)


def shaped_by_the_number(place):
    """A network with the number of images at `place` of the shape for a Reshape; None: it repeats a value so often."""
    onnx = pytest.importorskip('onnx')
    from onnx import helper, numpy_helper

    def constant(name, *values):
        return numpy_helper.from_array(np.array(values, np.int64), name)

    nodes = [
        helper.make_node('Shape', ['image'], ['sizes']),
        helper.make_node('Gather', ['sizes', 'first'], ['number']),
        helper.make_node('Cast', ['image'], ['x'], to=onnx.TensorProto.FLOAT),
    ]
    if place is None:
        nodes += [helper.make_node('Expand', ['one', 'number'], ['ones']),
                  helper.make_node('ReduceMax', ['x'], ['most'], axes=[1], keepdims=0),
                  helper.make_node('Add', ['most', 'ones'], ['y'])]  # fmt: skip
    else:
        parts = ['number', 'rest'] if place == 0 else ['rest', 'number']
        nodes += [
            helper.make_node('Concat', parts, ['shape'], axis=0),
            helper.make_node('Reshape', ['x', 'shape'], ['y']),
        ]
    graph = helper.make_graph(
        nodes,
        'g',
        [helper.make_tensor_value_info('image', onnx.TensorProto.UINT8, ['n', 4])],
        [helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, None)],
        [constant('first', 0), constant('rest', -1), numpy_helper.from_array(np.ones(1, np.float32), 'one')],
    )
    graph = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    return graph.SerializeToString()


def test_only_shapes_that_begin_with_the_number_of_images_can_stay_open():
    given = {'image': (1, 4)}
    static = static_network(shaped_by_the_number(0), given, evaluate_with_onnxruntime, any_number=True)
    assert [node.kind for node in read_graph(static).nodes] == ['Cast', 'Reshape']
    for place in (1, None):
        with pytest.raises(ValueError, match='depends on the number of images in a way that cannot stay open'):
            static_network(shaped_by_the_number(place), given, evaluate_with_onnxruntime, any_number=True)


def test_an_output_that_is_not_a_row_per_image_cannot_stay_open():
    onnx = pytest.importorskip('onnx')
    from onnx import helper

    graph = helper.make_graph(
        [helper.make_node('Cast', ['image'], ['x'], to=onnx.TensorProto.FLOAT),
         helper.make_node('ReduceMax', ['x'], ['y'], axes=[0], keepdims=1)],
        'g',
        [helper.make_tensor_value_info('image', onnx.TensorProto.UINT8, ['n', 4])],
        [helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8).SerializeToString()
    with pytest.raises(ValueError, match='its output y is not one row for each image'):
        static_network(data, {'image': (1, 4)}, evaluate_with_onnxruntime, any_number=True)


def test_what_tensorrt_refuses_is_gone(bundle):
    data, network = bundle.engine_path('fp32').read_bytes(), bundle.network
    size, count = network.crop_size, len(bundle.objects)
    graph = read_graph(static_network(data, shapes(size, size, count), evaluate_with_onnxruntime))
    kinds = Counter(node.kind for node in graph.nodes)
    assert not SHAPE_ARITHMETIC & set(kinds)
    assert [node.kind for node in graph.nodes if 'image' in node.inputs] == ['Cast']
    made = {name for node in graph.nodes for name in node.outputs}
    assert {name for node in graph.nodes for name in node.inputs} - made - {'image', 'classes', ''} == set(
        graph.initializers
    ), 'every weight is a constant, and none is left over'
    kernels = [node.inputs[1] for node in graph.nodes if node.kind == 'Conv']
    assert kernels
    assert all(name in graph.initializers for name in kernels)
    codes = [
        next(value for number, value in fields(memoryview(graph.initializers[name])) if number == 2) for name in kernels
    ]
    assert set(codes) == {CODES['float32']}


def test_onnx_itself_accepts_the_result(bundle):
    onnx = pytest.importorskip('onnx')
    from onnx import shape_inference

    data, network = bundle.engine_path('fp32').read_bytes(), bundle.network
    size = network.crop_size
    static = static_network(data, shapes(size, size, len(bundle.objects)), evaluate_with_onnxruntime)
    assert tensor_in_another_file(static) is None
    model = onnx.load_from_string(static)
    onnx.checker.check_model(model, full_check=True)
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    known = {item.name for item in inferred.graph.value_info}
    assert {name for node in model.graph.node for name in node.output} - known <= {o.name for o in model.graph.output}


TAKEN = {
    'FLOAT': {'Add', 'Cast', 'Clip', 'Concat', 'Conv', 'Div', 'Flatten', 'Gather', 'GatherElements',
              'GlobalAveragePool', 'HardSigmoid', 'HardSwish', 'InstanceNormalization', 'Max', 'MaxPool', 'Min',
              'Mul', 'Pad', 'Relu',
              'Reshape', 'Resize', 'Sigmoid', 'Slice', 'Split', 'Squeeze', 'Sub', 'TopK', 'Transpose', 'Unsqueeze'},
    'INT64': {'Add', 'Cast', 'Concat', 'Div', 'Expand', 'Flatten', 'Gather', 'Max', 'Min', 'Mod', 'Mul', 'Reshape',
              'Sub', 'Unsqueeze'},
    'BOOL': {'Cast', 'Concat', 'Expand', 'Reshape', 'Transpose', 'Unsqueeze'},
    'UINT8': {'Cast'},
}  # fmt: skip
"""Type of the first input -> operators that both the 8.6 and the 10.1 parser take for it, INT64 as INT32 in 8.6
(docs/operators.md of onnx-tensorrt, branches 8.6-GA and 10.1-GA)."""


def test_every_operator_is_one_that_tensorrts_parser_takes_for_its_type(bundle):
    onnx = pytest.importorskip('onnx')

    network = bundle.network
    given = shapes(network.crop_size, network.crop_size, len(bundle.objects))
    static = static_network(bundle.engine_path('fp32').read_bytes(), given, evaluate_with_onnxruntime)
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(static), strict_mode=True).graph
    types = {item.name: item.type.tensor_type.elem_type for item in (*graph.value_info, *graph.input, *graph.output)}
    types.update({item.name: item.data_type for item in graph.initializer})
    name = onnx.TensorProto.DataType.Name
    used = {(name(types[node.input[0]]), node.op_type) for node in graph.node}
    assert {(kind, operator) for kind, operator in used if operator not in TAKEN.get(kind, ())} == set()


@pytest.mark.parametrize('limits', [(2, 5), (None, 5), (2, None)])
@pytest.mark.parametrize('dtype', ['int64', 'float32'])
def test_clip_of_whole_numbers_becomes_max_and_min(limits, dtype):
    onnx = pytest.importorskip('onnx')
    from onnx import helper, numpy_helper

    names = [name if limit is not None else '' for name, limit in zip(('low', 'high'), limits, strict=True)]
    given = {name: np.asarray(limit, dtype) for name, limit in zip(names, limits, strict=True) if name}
    value, code = helper.make_tensor_value_info, CODES[dtype]
    graph = helper.make_graph(
        [helper.make_node('Clip', ['x', *names], ['y'])], 'g', [value('x', code, ['n'])], [value('y', code, ['n'])],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    static = static_network(model.SerializeToString(), {'x': (8,)}, evaluate_with_onnxruntime)
    kinds = [node.kind for node in read_graph(static).nodes]
    wanted = [kind for kind, limit in zip(('Max', 'Min'), limits, strict=True) if limit is not None]
    assert kinds == (wanted if dtype == 'int64' else ['Clip'])
    x = np.arange(8).astype(dtype)
    onnx.checker.check_model(onnx.load_from_string(static), full_check=True)
    assert np.array_equal(evaluate_with_onnxruntime(static, ['y'], {'x': x})[0], np.clip(x, *limits))


def quantised(zero_point):
    """image -> Cast -> Q -> DQ -> Conv with DQ weights -> output, and classes unused by it."""
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        'scale': np.float32(0.5), 'zero': np.int8(zero_point), 'w_scale': np.full(2, 0.1, np.float32),
        'w_zero': np.zeros(2, np.int8), 'w': np.arange(6, dtype=np.int8).reshape(2, 3, 1, 1),
    }  # fmt: skip
    nodes = [
        helper.make_node('Transpose', ['image'], ['chw'], perm=[0, 3, 1, 2]),
        helper.make_node('Cast', ['chw'], ['x'], to=TensorProto.FLOAT),
        helper.make_node('QuantizeLinear', ['x', 'scale', 'zero'], ['q']),
        helper.make_node('DequantizeLinear', ['q', 'scale', 'zero'], ['dq']),
        helper.make_node('DequantizeLinear', ['w', 'w_scale', 'w_zero'], ['wf'], axis=0),
        helper.make_node('Conv', ['dq', 'wf'], ['y']),
        helper.make_node('Cast', ['classes'], ['mask'], to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, 'g',
        [value('image', TensorProto.UINT8, ['batch', 'h', 'w', 3]), value('classes', TensorProto.BOOL, ['batch', 3])],
        [value('y', TensorProto.FLOAT, ['batch', 2, 'h', 'w']), value('mask', TensorProto.FLOAT, ['batch', 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    assert onnx.checker.check_model(model) is None
    return model.SerializeToString()


def test_quantisation_stays_for_tensorrt_to_read():
    data = quantised(0)
    static = static_network(data, shapes(4, 4, 3), evaluate_with_onnxruntime)
    kinds = Counter(node.kind for node in read_graph(static).nodes)
    assert kinds == {'Cast': 3, 'Transpose': 1, 'QuantizeLinear': 1, 'DequantizeLinear': 2, 'Conv': 1}
    image, classes = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3), np.ones((1, 3), bool)
    assert np.array_equal(run(static, image, classes)[1][0], run(data, image, classes)[1][0])


def test_half_precision_stays_half():
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node('Cast', ['image'], ['x'], to=TensorProto.FLOAT16),
            helper.make_node('Mul', ['x', 'w'], ['h']),
            helper.make_node('Cast', ['h'], ['y'], to=TensorProto.FLOAT),
        ],
        'g',
        [value('image', TensorProto.UINT8, ['batch', 'height', 'width', 3])],
        [value('y', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float16([0.5]), 'w')],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    static = static_network(model.SerializeToString(), {'image': (1, 2, 2, 3)}, evaluate_with_onnxruntime)
    loaded = onnx.load_from_string(static)
    assert [item.data_type for item in loaded.graph.initializer] == [TensorProto.FLOAT16]
    assert [node.op_type for node in loaded.graph.node] == ['Cast', 'Mul', 'Cast']


def test_other_inputs_are_named(bundle):
    data = bundle.engine_path('fp32').read_bytes()
    with pytest.raises(ValueError, match=r"its inputs are \['classes', 'image'\], expected \['image'\]"):
        static_network(data, {'image': (1, 64, 64, 3)}, evaluate_with_onnxruntime)


@pytest.mark.parametrize('data', [b'', b'\x00', b'abc', b'\x3a\xff\xff\xff\xff\x0f', message([(7, b''), (7, b'')])])
def test_what_is_no_network_is_refused(data):
    with pytest.raises(ValueError, match='not an ONNX file'):
        read_graph(data)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data):
    for read in (read_graph, lambda x: read_graph(message([(7, x)])), read_node):
        with contextlib.suppress(ValueError):  # UnicodeDecodeError is one
            read(data)


def test_a_cut_network_is_refused(bundle):
    data = bundle.engine_path('fp32').read_bytes()
    for keep in (10, 1000, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match='cut short'):
            read_graph(data[:keep])


@pytest.mark.parametrize('dtype', sorted(CODES))
def test_constants_survive_the_round_trip(dtype):
    onnx = pytest.importorskip('onnx')
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for value in (array, array[0, 1], array[:0], array.T):
        proto = onnx.TensorProto.FromString(tensor('x', np.asarray(value)))
        assert proto.name == 'x'
        back = onnx.numpy_helper.to_array(proto)
        assert back.dtype == np.asarray(value).dtype
        assert np.array_equal(back, value)
        assert back.shape == np.asarray(value).shape


def test_nodes_are_as_onnx_writes_them():
    onnx = pytest.importorskip('onnx')
    node = onnx.NodeProto.FromString(cast_node('a', 'b', CODES['float16']).data)
    assert node == onnx.helper.make_node('Cast', ['a'], ['b'], name='b', to=onnx.TensorProto.FLOAT16)
    clip = onnx.helper.make_node('Clip', ['a', '', 'c'], ['b'])
    renamed = read_node(clip.SerializeToString()).with_input('a', 'z')
    assert (renamed.kind, renamed.inputs, renamed.outputs) == ('Clip', ('z', '', 'c'), ('b',))
    branch = onnx.helper.make_node('If', ['a'], ['b'], then_branch=onnx.GraphProto(), else_branch=onnx.GraphProto())
    with pytest.raises(ValueError, match='its node If holds a graph of its own'):
        read_node(branch.SerializeToString())
