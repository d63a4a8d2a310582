"""Our calls to TensorRT and CUDA in the right order with the right arguments, against doubles of both modules.

The doubles keep 'GPU memory' in host memory and run engines with ONNX Runtime. That the real packages have these names
and signatures is what ``test_tensorrt_names.py`` checks.
"""

from __future__ import annotations

import ctypes
import enum
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines import cuda_api
from kd6d_ros.inference.engines.tensorrt_api import TensorRt
from kd6d_ros.inference.engines.tensorrt_seam import BuildRequest
from kd6d_ros.inference.onnx_static import evaluate_with_onnxruntime, static_network

onnxruntime = pytest.importorskip('onnxruntime')

MODELS = Path(__file__).resolve().parents[2] / 'models'
TYPES = {'uint8': 'UINT8', 'bool': 'BOOL', 'int64': 'INT64', 'float32': 'FLOAT'}


class FakeCuda(types.ModuleType):
    """``cuda.bindings.runtime``: every call returns a tuple whose first item is the error."""

    cudaHostAllocDefault = 0  # noqa: N815
    cudaMemcpyKind = enum.IntEnum('Kind', {'cudaMemcpyHostToDevice': 1, 'cudaMemcpyDeviceToHost': 2})  # noqa: N815
    cudaDeviceAttr = enum.IntEnum(  # noqa: N815
        'Attr', {'cudaDevAttrComputeCapabilityMajor': 75, 'cudaDevAttrComputeCapabilityMinor': 76}
    )

    def __init__(self, count=1, limit=1 << 30):
        super().__init__('cudart')
        self.count, self.limit, self.memory, self.log = count, limit, {}, []

    def _allocate(self, size):
        if sum(len(block) for block in self.memory.values()) + size > self.limit:
            return 2, None
        block = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaGetDeviceCount(self):  # noqa: N802
        return (0, self.count) if self.count else (100, None)

    def cudaSetDevice(self, device):  # noqa: N802
        self.log.append(f'device {device}')
        return (0,)

    def cudaGetDeviceProperties(self, device):  # noqa: N802
        return 0, types.SimpleNamespace(name=b'Orin')

    def cudaDeviceGetAttribute(self, attribute, device):  # noqa: N802
        return 0, 8 if attribute == self.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor else 7

    def cudaStreamCreate(self):  # noqa: N802
        return 0, 77

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        self.log.append('wait')
        return (0,)

    def cudaStreamDestroy(self, stream):  # noqa: N802
        self.log.append('destroy')
        return (0,)

    def cudaHostAlloc(self, size, flags):  # noqa: N802
        return self._allocate(size)

    def cudaMalloc(self, size):  # noqa: N802
        return self._allocate(size)

    def cudaFree(self, address):  # noqa: N802
        del self.memory[address]
        return (0,)

    def cudaFreeHost(self, address):  # noqa: N802
        del self.memory[address]
        return (0,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):  # noqa: N802
        assert stream == 77
        ctypes.memmove(target, source, size)
        self.log.append('to device' if kind == 1 else 'to host')
        return (0,)

    def cudaGetErrorString(self, error):  # noqa: N802
        return 0, {2: b'out of memory', 100: b'no CUDA-capable device is detected'}[int(error)]


class FakeTrt(types.ModuleType):
    """The module tensorrt of one version."""

    MemoryPoolType = enum.Enum('MemoryPoolType', ['WORKSPACE'])
    ProfilingVerbosity = enum.Enum('ProfilingVerbosity', ['DETAILED'])
    LayerInformationFormat = enum.Enum('LayerInformationFormat', ['JSON'])
    TensorIOMode = enum.Enum('TensorIOMode', ['INPUT', 'OUTPUT'])
    DataType = enum.Enum('DataType', list(TYPES.values()))
    BuilderFlag = enum.Enum('BuilderFlag', ['TF32', 'FP16', 'INT8'])
    NetworkDefinitionCreationFlag = enum.IntEnum('Flag', {'EXPLICIT_BATCH': 0, 'STRONGLY_TYPED': 1})

    class ILogger:
        Severity = enum.IntEnum('Severity', {'INTERNAL_ERROR': 0, 'ERROR': 1, 'WARNING': 2, 'INFO': 3, 'VERBOSE': 4})

    class IProgressMonitor:
        pass

    def __init__(self, version='10.3.0', **faults):
        super().__init__('tensorrt')
        self.__version__, self.faults, self.seen = version, faults, {}
        if version.startswith('8'):
            self.IProgressMonitor = None
            del self.IProgressMonitor
        else:
            self.OnnxParserFlag = enum.Enum('OnnxParserFlag', ['NATIVE_INSTANCENORM'])

    def __getattribute__(self, name):
        if name == 'IProgressMonitor' and self.__version__.startswith('8'):
            raise AttributeError(name)
        return super().__getattribute__(name)

    def init_libnvinfer_plugins(self, logger, namespace):
        assert namespace == ''
        return True

    def Builder(self, logger):  # noqa: N802
        if 'builder' in self.faults:
            logger.log(self.ILogger.Severity.ERROR, 'CUDA initialization\nfailure')
            raise TypeError('pybind11::init(): factory function returned nullptr')
        self.logger = logger
        return FakeBuilder(self)

    def OnnxParser(self, network, logger):  # noqa: N802
        return FakeParser(self, network)

    def Runtime(self, logger):  # noqa: N802
        return FakeRuntime(self, logger)


class FakeBuilder:
    def __init__(self, trt):
        self.trt = trt

    def create_network(self, flags):
        self.trt.seen['flags'] = flags
        return types.SimpleNamespace(onnx=b'', num_inputs=2, get_input=self._input)

    def _input(self, index):
        name, rest = (('image', (128, 128, 3)), ('classes', (3,)))[index]
        return types.SimpleNamespace(name=name, shape=(-1, *rest))

    def create_optimization_profile(self):
        shapes = self.trt.seen['profile'] = {}
        return types.SimpleNamespace(set_shape=lambda name, low, best, most: shapes.update({name: (low, best, most)}))

    def create_builder_config(self):
        flags, pools = {'TF32'}, {}
        self.trt.seen.update(builder_flags=flags, pools=pools)
        return types.SimpleNamespace(
            clear_flag=lambda flag: flags.discard(flag.name),
            set_flag=lambda flag: flags.add(flag.name),
            set_memory_pool_limit=lambda pool, size: pools.update({pool.name: size}),
            add_optimization_profile=lambda profile: -1 if 'profile' in self.trt.faults else 0,
        )

    def build_serialized_network(self, network, config):
        severity = self.trt.ILogger.Severity
        self.trt.logger.log(severity.INFO, 'Total Activation\nMemory: 5')
        monitor = getattr(config, 'progress_monitor', None)
        if monitor is not None:
            monitor.phase_start('Building', None, 10)
            if not all(monitor.step_complete('Building', step) for step in range(10)):
                return None
            monitor.phase_finish('Building')
        self.trt.seen['verbosity'] = config.profiling_verbosity.name
        if 'build' in self.trt.faults:
            self.trt.logger.log(severity.ERROR, 'out of memory')
            return None
        return memoryview(b'PLAN' + network.onnx)


class FakeParser:
    def __init__(self, trt, network):
        self.trt, self.network, self.num_errors = trt, network, 1

    def set_flag(self, flag):
        self.trt.seen['parser_flag'] = flag.name

    def parse(self, onnx):
        self.network.onnx = onnx
        return 'parse' not in self.trt.faults

    def get_error(self, index):
        return types.SimpleNamespace(desc=lambda: 'In node 3 (Clip): UNSUPPORTED_NODE')


class FakeRuntime:
    def __init__(self, trt, logger):
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, plan):
        if not plan.startswith(b'PLAN'):
            self.logger.log(self.trt.ILogger.Severity.ERROR, 'magicTag failed')
            return None
        return FakeEngine(self.trt, plan[4:])


class FakeEngine:
    def __init__(self, trt, onnx):
        import onnxruntime

        self.trt = trt
        self.session = onnxruntime.InferenceSession(onnx, providers=['CPUExecutionProvider'])
        self.inputs, self.outputs = self.session.get_inputs(), self.session.get_outputs()
        self.tensors = {item.name: item for item in (*self.inputs, *self.outputs)}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        modes = self.trt.TensorIOMode
        return modes.INPUT if name in [item.name for item in self.inputs] else modes.OUTPUT

    def get_tensor_shape(self, name):
        return tuple(-1 if isinstance(size, str) else size for size in self.tensors[name].shape)

    def get_tensor_profile_shape(self, name, profile_index):
        assert profile_index == 0
        return self.trt.seen['profile'][name]

    def get_tensor_dtype(self, name):
        word = self.tensors[name].type[7:-1].replace('float', 'float32')
        return self.trt.DataType[TYPES[word]]

    def create_execution_context(self):
        return None if 'context' in self.trt.faults else FakeContext(self)

    def create_engine_inspector(self):
        return types.SimpleNamespace(get_engine_information=lambda form: f'{{"Layers": [], "as": "{form.name}"}}')


class FakeContext:
    def __init__(self, engine):
        self.engine, self.addresses, self.shapes = engine, {}, {}

    def set_input_shape(self, name, shape):
        low, _, most = self.engine.trt.seen['profile'][name]
        self.shapes[name] = shape
        return all(a <= b <= c for a, b, c in zip(low, shape, most, strict=True))

    def get_tensor_shape(self, name):
        """Known only when those of all inputs are."""
        number = self.shapes[name][0] if name in self.shapes else {shape[0] for shape in self.shapes.values()}.pop()
        known = len(self.shapes) == len(self.engine.inputs)
        return tuple(number if known and size == -1 else size for size in self.engine.get_tensor_shape(name))

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def _array(self, item):
        dtype = np.dtype(item.type[7:-1].replace('float', 'float32'))
        shape = self.get_tensor_shape(item.name) if self.shapes else item.shape
        size = int(np.prod(shape)) * dtype.itemsize
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.addresses[item.name]))
        return raw.view(dtype).reshape(shape)

    def execute_async_v3(self, stream_handle):
        assert stream_handle == 77
        if 'execute' in self.engine.trt.faults:
            return False
        feeds = {item.name: self._array(item) for item in self.engine.inputs}
        for item, array in zip(self.engine.outputs, self.engine.session.run(None, feeds), strict=True):
            self._array(item)[...] = array
        return True


@pytest.fixture
def onnx(onnx_file):
    given = {'image': (1, 128, 128, 3), 'classes': (1, 3)}
    return static_network(onnx_file.read_bytes(), given, evaluate_with_onnxruntime)


@pytest.fixture
def machine(monkeypatch):
    """TensorRt on doubles; keyword arguments are faults."""

    def _machine(version='10.3.0', cudart=None, **faults):
        trt, cudart = FakeTrt(version, **faults), cudart or FakeCuda()
        monkeypatch.setitem(sys.modules, 'tensorrt', trt)
        monkeypatch.setattr(cuda_api, 'load_cuda', lambda: cudart)
        return TensorRt(), trt, cudart

    return _machine


def test_a_network_is_built_loaded_and_run(machine, onnx):
    backend, trt, cudart = machine()
    said = []
    assert (backend.platform().gpu, backend.platform().compute_capability) == ('Orin', '8.7')
    program = backend.load(backend.build(BuildRequest(onnx, 'fp32', True, 64), said.append))
    assert said == ['Building: 10 steps', *(f'Building: {step} of 10' for step in (2, 4, 6, 8))]
    assert trt.seen['flags'] == 1 << 1
    assert trt.seen['builder_flags'] == set(), 'TF32 is off'
    assert trt.seen['pools'] == {'WORKSPACE': 64 << 20}
    assert (trt.seen['verbosity'], trt.seen['parser_flag']) == ('DETAILED', 'NATIVE_INSTANCENORM')
    assert program.outputs == ('class_index', 'score', 'level', 'centre', 'keypoints')
    assert program.layers() == '{"Layers": [], "as": "JSON"}'
    cudart.log.clear()
    feeds = {'image': np.full((1, 128, 128, 3), 128, np.uint8), 'classes': np.ones((1, 3), bool)}
    first = program.run(feeds)
    assert first['score'][0] == pytest.approx([0.5] * 6)
    assert first['class_index'].dtype == np.int64
    assert cudart.log == ['to device'] * 2 + ['to host'] * 5 + ['wait']
    second = program.run({**feeds, 'image': feeds['image'] // 2})
    assert second['score'][0] == pytest.approx([0.25] * 6)
    assert first['score'][0] == pytest.approx([0.5] * 6), "a run's arrays are its caller's own"
    program.attach()
    assert len(cudart.memory) == 2 * 7
    program.close()
    program.close()
    assert cudart.memory == {}
    assert cudart.log[-1] == 'destroy'


@pytest.fixture
def any_number():
    """The network of models/demo, for crops of 160 pixels, whose number is open."""
    return static_network(
        (MODELS / 'demo' / 'model_fp32.onnx').read_bytes(), {'image': (1, 160, 160, 3), 'classes': (1, 1)},
        evaluate_with_onnxruntime, any_number=True,
    )  # fmt: skip


def test_a_profile_takes_any_number_of_images_up_to_the_most(machine, any_number, monkeypatch):
    backend, trt, cudart = machine()
    rest = {'image': (160, 160, 3), 'classes': (1,)}
    inputs = [types.SimpleNamespace(name=name, shape=(-1, *sizes)) for name, sizes in rest.items()]
    monkeypatch.setattr(FakeBuilder, '_input', lambda self, index: inputs[index])
    program = backend.load(backend.build(BuildRequest(any_number, 'fp32', True, most_images=4), lambda line: None))
    assert trt.seen['profile'] == {name: ((1, *sizes), (4, *sizes), (4, *sizes)) for name, sizes in rest.items()}
    reference = onnxruntime.InferenceSession(any_number, providers=['CPUExecutionProvider'])
    for number in (3, 1, 4):
        image = np.random.default_rng(number).integers(0, 256, (number, *rest['image'])).astype(np.uint8)
        feeds = {'image': image, 'classes': np.ones((number, 1), bool)}
        wanted = dict(zip(program.outputs, reference.run(list(program.outputs), feeds), strict=True))
        found = program.run(feeds)
        for name, array in wanted.items():
            assert found[name].shape == array.shape
            assert found[name] == pytest.approx(array, abs=1e-5), name
    with pytest.raises(ValueError, match='broadcast'):
        program.run({'image': np.zeros((5, *rest['image']), np.uint8), 'classes': np.ones((5, 1), bool)})
    program.close()
    assert cudart.memory == {}


def test_a_profile_that_is_refused_is_one_line(machine, onnx):
    backend, _, _ = machine(profile=True)
    with pytest.raises(EngineError, match=r'^TensorRT does not take 1 to 4 images: it does not say why$'):
        backend.build(BuildRequest(onnx, 'fp32', True, most_images=4), lambda line: None)


def test_without_several_images_there_is_no_profile(machine, onnx):
    backend, trt, _ = machine()
    backend.build(BuildRequest(onnx, 'fp32', True), lambda line: None)
    assert 'profile' not in trt.seen


def test_memory_is_given_back_when_nobody_holds_the_program(machine, onnx):
    backend, _, cudart = machine()
    program = backend.load(b'PLAN' + onnx)
    assert cudart.memory
    del program
    assert cudart.memory == {}


@pytest.mark.parametrize(
    ('version', 'precision', 'strongly', 'flags', 'builder_flags'),
    [
        ('8.6.2', 'fp32', False, 1, set()),
        ('8.6.2', 'fp16', False, 1, {'FP16'}),
        ('8.6.2', 'int8', False, 1, {'INT8'}),
        ('10.3.0', 'fp16', False, 0, {'FP16'}),
        ('10.3.0', 'fp16', True, 2, set()),
        ('11.4.0.106', 'int8', True, 2, set()),
    ],
)
def test_flags_follow_version_and_typing(machine, onnx, version, precision, strongly, flags, builder_flags):
    backend, trt, _ = machine(version)
    said = []
    backend.build(BuildRequest(onnx, precision, strongly), said.append)
    assert (trt.seen['flags'], trt.seen['builder_flags'], trt.seen['pools']) == (flags, builder_flags, {})
    if version.startswith('8'):  # without a progress monitor the log is all there is
        assert said == ['Total Activation Memory: 5']
        assert 'parser_flag' not in trt.seen


@pytest.mark.parametrize(
    ('fault', 'message'),
    [
        ('builder', 'TensorRT does not start: CUDA initialization failure'),
        ('parse', r'TensorRT does not take the network: In node 3 \(Clip\): UNSUPPORTED_NODE'),
        ('build', 'TensorRT cannot build it: out of memory'),
    ],
)
def test_a_failed_build_is_one_line(machine, onnx, fault, message):
    backend, _, _ = machine(**{fault: True})
    with pytest.raises(EngineError, match=f'^{message}$'):
        backend.build(BuildRequest(onnx, 'fp32', True), lambda _: None)


def test_a_plan_that_is_none_is_one_line(machine):
    backend, _, _ = machine()
    with pytest.raises(EngineError, match=r'^TensorRT does not take the engine: magicTag failed$'):
        backend.load(b'something else')


def test_no_context_and_a_failed_run_are_one_line(machine, onnx):
    backend, trt, _ = machine(context=True)
    with pytest.raises(EngineError, match='makes no execution context: out of memory'):
        backend.load(b'PLAN' + onnx)
    trt.faults.clear()
    program = backend.load(b'PLAN' + onnx)
    trt.faults['execute'] = True
    feeds = {'image': np.zeros((1, 128, 128, 3), np.uint8), 'classes': np.ones((1, 3), bool)}
    with pytest.raises(EngineError, match='TensorRT failed: it does not say why'):
        program.run(feeds)


def test_arrays_of_another_type_or_size_never_reach_the_gpu(machine, onnx):
    backend, _, _ = machine()
    program = backend.load(b'PLAN' + onnx)
    with pytest.raises(TypeError):
        program.run({'image': np.zeros((1, 128, 128, 3), np.float32), 'classes': np.ones((1, 3), bool)})
    with pytest.raises(ValueError, match='broadcast'):
        program.run({'image': np.zeros((1, 64, 128, 3), np.uint8), 'classes': np.ones((1, 3), bool)})


def test_a_gpu_without_room_is_one_line_and_keeps_nothing(machine, onnx):
    backend, _, cudart = machine(cudart=FakeCuda(limit=60_000))
    with pytest.raises(EngineError, match=r'^CUDA: out of memory \(error 2\)$'):
        backend.load(b'PLAN' + onnx)
    assert cudart.memory == {}


def test_no_gpu_is_one_line(machine):
    with pytest.raises(EngineError, match=r'^no CUDA device: CUDA: no CUDA-capable device is detected \(error 100\)$'):
        machine(cudart=FakeCuda(count=0))


def test_ctrl_c_ends_the_build(machine, onnx):
    backend, _, _ = machine()

    def notify(line):
        if 'of' in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.build(BuildRequest(onnx, 'fp32', True), notify)
