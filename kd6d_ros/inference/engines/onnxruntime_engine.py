"""ONNX Runtime: one session per input size, so that every shape is static.

The graph has symbolic batch, height and width; a session fixes them, which lets ONNX Runtime fold what
depends on them (cell centres) and plan its memory once. Crops of one frame run through the batch-1 session, on a
processor from several threads at once: that keeps one memory plan and costs less than a batch.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.network_io import (
    check_input,
    check_interface,
    input_sizes,
    network_bytes,
    one_line,
    outputs_of,
    predictions,
)
from kd6d_ros.inference.engines.onnxruntime_providers import CPU, DEVICES, provider_list

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import AnyArray, ImageArray, LocalPredictions


def install_hint() -> str:
    """The command that installs ONNX Runtime on this machine's distribution of ROS 2."""
    if sys.version_info < (3, 11):
        return 'pip install --user -c config/constraints-humble.txt onnxruntime'
    return 'pip install --user --break-system-packages -c config/constraints-jazzy.txt onnxruntime'


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f'ONNX Runtime does not load ({error}): {install_hint()}') from error
    return onnxruntime


class OnnxRuntimeEngine:
    """Runs one ONNX file of a bundle; sessions are made at the first use of each input size."""

    name = 'onnxruntime'

    def __init__(
        self,
        bundle: Bundle,
        path: Path,
        precision: str,
        threads: Optional[int] = None,
        provider: str = CPU,
        spins: bool = False,
    ) -> None:
        """
        Args:
            spins: whether idle threads wait for work in a loop, as ONNX Runtime has it by default; see
                ``_new_session``.
            provider: which execution provider of ``DEVICES`` runs the network; another one never replaces it.

        Raises:
            EngineError: onnxruntime or the provider is missing, the file is not a network, or its interface is
                not ours.
        """
        runtime = _runtime()
        self._bundle, self._path, self._threads, self.spins = bundle, path, threads, spins
        self._outputs = outputs_of(bundle.network)
        self._providers = provider_list(runtime, provider, precision)
        self._sessions: Dict[Tuple[int, int, Optional[int]], Any] = {}
        self._lock, self._running = threading.Lock(), 0
        self.side_by_side = (threads or usable_cores()) if provider == CPU else 1
        # ONNX Runtime has float16 convolutions for some ARM cores only; elsewhere it casts them to float32.
        widened = provider == CPU and precision == 'fp16' and platform.machine() in ('x86_64', 'AMD64')
        self.precision = 'fp32' if widened else precision
        crop = bundle.network.crop_size
        session = self._session(crop, crop)
        inputs = [item.name for item in session.get_inputs()]
        check_interface(path, inputs, [item.name for item in session.get_outputs()], self._outputs)
        used = 'all' if threads is None else str(threads)
        device = f'{DEVICES[provider]}, {used} threads' if provider == CPU else DEVICES[provider]
        told = f'{precision} file computed in {self.precision}' if widened else precision
        self.description = f'onnxruntime {runtime.__version__}, {device}, {told}'

    def run(self, image: ImageArray, classes: AnyArray) -> List[LocalPredictions]:
        """See ``Engine.run``."""
        check_input(self._bundle, image, classes)
        with self._counted() as alone:
            return self._run(self._session(image.shape[1], image.shape[2], alone), image, classes)

    @contextmanager
    def _counted(self) -> Iterator[bool]:
        """Whether no other thread is running the network now."""
        with self._lock:
            self._running += 1
            alone = self._running == 1
        try:
            yield alone
        finally:
            with self._lock:
                self._running -= 1

    def _run(self, session: Any, image: ImageArray, classes: AnyArray) -> List[LocalPredictions]:
        out = []
        for index in range(len(image)):
            feed = {
                'image': np.ascontiguousarray(image[index : index + 1]),
                'classes': np.ascontiguousarray(classes[index : index + 1]),
            }
            try:
                arrays = session.run(self._outputs, feed)
            except Exception as error:
                raise EngineError(f'{self._path}: ONNX Runtime failed: {one_line(error)}') from error
            out.append(predictions(self._bundle, self._path, arrays, (image.shape[1], image.shape[2])))
        return out

    def warm_up(self) -> None:
        """Make the sessions of both input sizes and run each once, so that the first frame is no slower."""
        classes, crop = np.ones((1, len(self._bundle.objects)), dtype=bool), self._bundle.network.crop_size
        for height, width in input_sizes(self._bundle.network):
            for alone in (True, False) if height == width == crop else (True,):
                session = self._session(height, width, alone)
                self._run(session, np.zeros((1, height, width, 3), dtype=np.uint8), classes)

    def _session(self, height: int, width: int, alone: bool = True) -> Any:
        """Beside others a run keeps to one thread, which takes a tenth less of all of them. With one object there are
        too few crops to hold the network a second time for that."""
        threads = self._threads if alone or len(self._bundle.objects) == 1 or self.side_by_side == 1 else 1
        key = height, width, threads
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._new_session(*key)
            return self._sessions[key]

    def _new_session(self, height: int, width: int, threads: Optional[int]) -> Any:
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.inter_op_num_threads = 1
        if threads is not None:
            options.intra_op_num_threads = threads
        # Spinning workers take the cores that decode, PnP and the middleware need between two frames.
        options.add_session_config_entry('session.intra_op.allow_spinning', '1' if self.spins else '0')
        for name, size in (('batch', 1), ('height', height), ('width', width)):
            options.add_free_dimension_override_by_name(name, size)
        # Read for each session and let go again: a small file is cheaper to read than to keep. The bytes that are
        # checked are the bytes that run, and ONNX Runtime shall not take them for its own format.
        options.add_session_config_entry('session.load_model_format', 'ONNX')
        data = network_bytes(self._path)
        try:
            session = runtime.InferenceSession(data, options, providers=self._providers)
        except Exception as error:
            raise EngineError(f'{self._path}: ONNX Runtime refuses the network: {one_line(error)}') from error
        wanted = self._providers[0][0]
        if wanted not in session.get_providers():  # ONNX Runtime goes on without a provider that does not start
            raise EngineError(f'ONNX Runtime has {wanted} but it does not start here: is there a GPU, and its driver?')
        return session
