"""The calls to TensorRT's Python API, all of them: 8.6, 10 and 11. Nothing is imported before it is used.

``test/inference/test_tensorrt_names.py`` takes every name and call in here and looks it up in the installed package,
so variables are named after the class that they hold: builder, network, parser, config, runtime, engine, context,
inspector.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.cuda_api import Cuda
from kd6d_ros.inference.engines.tensorrt_seam import Platform

if TYPE_CHECKING:
    from kd6d_ros.inference.engines.cuda_api import Buffer
    from kd6d_ros.inference.engines.tensorrt_seam import BuildRequest, Notify
    from kd6d_ros.types import AnyArray

DTYPES = {
    'FLOAT': 'float32', 'HALF': 'float16', 'INT8': 'int8', 'INT32': 'int32', 'INT64': 'int64', 'BOOL': 'bool',
    'UINT8': 'uint8',
}  # fmt: skip
"""trt.DataType -> NumPy. trt.nptype is no help: that of 8.6 needs names that newer NumPy does not have."""

INSTALL = 'it comes with JetPack (apt install python3-libnvinfer), see docs/jetson.md'


def load_tensorrt() -> Any:
    """The module.

    Raises:
        EngineError: TensorRT is not installed, or does not load.
    """
    try:
        import tensorrt as trt
    except ModuleNotFoundError:
        raise EngineError(f'tensorrt is not installed: {INSTALL}') from None
    except Exception as error:
        raise EngineError(f'tensorrt does not load ({" ".join(str(error).split())[:200]})') from error
    return trt


class TensorRt:
    """TensorRT on CUDA device 0; see ``tensorrt_seam.Backend``."""

    def __init__(self) -> None:
        """
        Raises:
            EngineError: TensorRT, cuda-python or a GPU is missing.
        """
        self._trt = load_tensorrt()
        # TensorRT without a GPU fails in ways that range from an exception to a crash: look first.
        self._cuda = Cuda()
        self._log: List[str] = []
        self._notify: Optional[Notify] = None
        self._logger = _logger(self._trt, self._heard)
        self._runtime: Any = None

    def platform(self) -> Platform:
        """See ``Backend.platform``."""
        trt = self._trt
        gpu, capability = self._cuda.describe()
        return Platform(trt.__version__, gpu, capability)

    def build(self, request: BuildRequest, notify: Notify) -> bytes:
        """See ``Backend.build``."""
        trt = self._trt
        self._log.clear()
        # 10 and newer report progress; before, the lines of the log are all there is.
        self._notify = None if hasattr(trt, 'IProgressMonitor') else notify
        try:
            trt.init_libnvinfer_plugins(self._logger, '')  # 8.6.0 makes a plugin of InstanceNormalization
            builder = self._made(trt.Builder, self._logger)
            network = builder.create_network(_network_flags(trt, request.strongly_typed))
            self._parse(network, request.onnx)
            config = builder.create_builder_config()
            _configure(trt, config, request)
            if request.most_images > 1:
                self._add_profile(builder, network, config, request.most_images)
            monitor = _monitor(trt, notify) if hasattr(trt, 'IProgressMonitor') else None
            if monitor is not None:
                config.progress_monitor = monitor
            plan = builder.build_serialized_network(network, config)
        finally:
            self._notify = None
        if monitor is not None and monitor.interrupted:
            raise KeyboardInterrupt
        if plan is None:
            raise EngineError(f'TensorRT cannot build it: {self._last()}')
        return bytes(plan)

    def load(self, plan: bytes) -> TensorRtProgram:
        """See ``Backend.load``."""
        trt = self._trt
        self._log.clear()
        if self._runtime is None:
            self._runtime = self._made(trt.Runtime, self._logger)
        runtime = self._runtime
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f'TensorRT does not take the engine: {self._last()}')
        return TensorRtProgram(trt, self._cuda, engine, self._log)

    def _parse(self, network: Any, onnx: bytes) -> None:
        trt = self._trt
        parser = trt.OnnxParser(network, self._logger)
        if hasattr(trt, 'OnnxParserFlag'):
            parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
        if not parser.parse(onnx):
            errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            raise EngineError(f'TensorRT does not take the network: {"; ".join(errors)[:300] or self._last()}')

    def _add_profile(self, builder: Any, network: Any, config: Any, most: int) -> None:
        """Inputs of 1 to `most` images, quickest for `most`."""
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            rest = tuple(tensor.shape)[1:]
            profile.set_shape(tensor.name, (1, *rest), (most, *rest), (most, *rest))
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f'TensorRT does not take 1 to {most} images: {self._last()}')

    def _made(self, kind: Any, *arguments: Any) -> Any:
        """An object of TensorRT; without a working GPU its constructors raise TypeError."""
        try:
            return kind(*arguments)
        except TypeError as error:
            raise EngineError(f'TensorRT does not start: {self._last() or error}') from error

    def _heard(self, severe: bool, text: str) -> None:
        line = ' '.join(text.split())
        if severe:
            self._log.append(line)
        elif self._notify is not None:
            self._notify(line[:200])

    def _last(self) -> str:
        """The last thing TensorRT complained about."""
        return self._log[-1][:300] if self._log else 'it does not say why'


class TensorRtProgram:
    """A deserialised engine with its execution context, stream and buffers; see ``tensorrt_seam.Program``."""

    def __init__(self, trt: Any, cuda: Cuda, engine: Any, log: List[str]) -> None:
        """
        Raises:
            EngineError: not enough memory, or a type of tensor that this package does not know.
        """
        self._trt, self._cuda, self._engine, self._log = trt, cuda, engine, log
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(f'TensorRT makes no execution context: {log[-1] if log else "out of memory"}')
        self._context = context
        self._buffers: Dict[str, Buffer] = {}
        self._open = False
        self._stream = cuda.stream()
        self._free = weakref.finalize(self, _free, cuda, self._buffers, self._stream)
        try:
            self._inputs, self.outputs = self._bind()
        except EngineError:
            self._free()
            raise

    def _bind(self) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
        """Memory for every input and output, of an open number of images for the most; their names."""
        trt, engine, context = self._trt, self._engine, self._context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = tuple(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
        for name in inputs:
            if -1 in tuple(engine.get_tensor_shape(name)):
                self._open = True
                self._set_shape(name, tuple(engine.get_tensor_profile_shape(name, 0)[2]))
        for name in names:
            # The context knows all sizes once those of the inputs are set.
            shape = tuple(context.get_tensor_shape(name) if self._open else engine.get_tensor_shape(name))
            self._buffers[name] = self._cuda.allocate(shape, _type(engine, name))
            if not context.set_tensor_address(name, self._buffers[name].device):
                raise EngineError(f'TensorRT does not take the memory for {name}')
        return inputs, tuple(name for name in names if name not in inputs)

    def _set_shape(self, name: str, shape: Tuple[int, ...]) -> None:
        context = self._context
        if not context.set_input_shape(name, shape):
            raise EngineError(f'TensorRT does not take {name} of {shape}')

    def attach(self) -> None:
        """See ``Program.attach``."""
        self._cuda.attach()

    def layers(self) -> str:
        """See ``Program.layers``."""
        trt, engine = self._trt, self._engine
        inspector = engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def run(self, feeds: Mapping[str, AnyArray]) -> Dict[str, AnyArray]:
        """See ``Program.run``."""
        context, cuda, stream = self._context, self._cuda, self._stream
        count = len(feeds[self._inputs[0]])
        for name in self._inputs:
            np.copyto(self._buffers[name].array[:count], feeds[name], casting='no')
            cuda.to_device(self._buffers[name], stream)
            if self._open:
                self._set_shape(name, feeds[name].shape)
        if not context.execute_async_v3(int(stream)):
            raise EngineError(f'TensorRT failed: {self._log[-1][:300] if self._log else "it does not say why"}')
        for name in self.outputs:
            cuda.to_host(self._buffers[name], stream)
        cuda.synchronise(stream)
        # The buffers are written again by the next run.
        return {name: self._buffers[name].array[:count].copy() for name in self.outputs}

    def close(self) -> None:
        """See ``Program.close``."""
        self._free()
        self._context = self._engine = None


def _free(cuda: Cuda, buffers: Dict[str, Buffer], stream: Any) -> None:
    cuda.free(list(buffers.values()), stream)
    buffers.clear()


def _type(engine: Any, name: str) -> str:
    kind = engine.get_tensor_dtype(name).name
    if kind not in DTYPES:
        raise EngineError(f'the engine has {name} of type {kind}, which this package does not know')
    return DTYPES[kind]


def _network_flags(trt: Any, strongly_typed: bool) -> int:
    """Explicit batch must be asked for in 8.6 only; 11 knows strongly typed networks only."""
    major = int(trt.__version__.split('.')[0])
    if major < 10:
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if strongly_typed else 0


def _configure(trt: Any, config: Any, request: BuildRequest) -> None:
    if request.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mb << 20)
    # Else the inspector knows names only, and the precision of layers could not be told.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # On by default: float32 would be rounded to 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    if request.strongly_typed:
        return
    if request.precision == 'fp16':
        config.set_flag(trt.BuilderFlag.FP16)
    elif request.precision == 'int8':
        config.set_flag(trt.BuilderFlag.INT8)


def _logger(trt: Any, heard: Any) -> Any:
    """A logger that hands on what matters: heard(is it an error or a warning, text)."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.INFO):
                heard(int(severity) <= int(trt.ILogger.Severity.ERROR), text)

    return Logger()


def _monitor(trt: Any, notify: Notify) -> Any:
    """Progress as lines: one at the start of a phase and at each fifth of it; Ctrl-C ends the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self._steps: Dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            if parent_phase is None or num_steps >= 5:
                notify(f'{phase_name}: {num_steps} steps')

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                steps = self._steps.get(phase_name, 0)
                if steps >= 5 and step * 5 // steps != (step - 1) * 5 // steps and step > 0:
                    notify(f'{phase_name}: {step} of {steps}')
            except KeyboardInterrupt:  # an exception cannot pass through TensorRT
                self.interrupted = True
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
