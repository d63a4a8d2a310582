"""ONNX Runtime on the CPU: one session per input size, so that every shape is static.

The graph has symbolic batch, height and width; a session fixes them, which lets ONNX Runtime fold what
depends on them (cell centres) and plan its memory once. Crops of one frame run one after the other through
the batch-1 session: on few cores that costs as little as a batch and keeps one memory plan.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.onnx_file import tensor_in_another_file
from kd6d_ros.types import LocalPredictions

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.bundle_records import Bundle, NetworkSpec
    from kd6d_ros.types import AnyArray, ImageArray

OUTPUTS = ('class_index', 'score', 'level', 'centre', 'keypoints')
SURFACE = 'surface'
INPUTS = ('image', 'classes')


def install_hint() -> str:
    """The command that installs ONNX Runtime on this machine's distribution of ROS 2."""
    if sys.version_info < (3, 11):
        return 'pip install --user -c config/constraints-humble.txt onnxruntime'
    return 'pip install --user --break-system-packages -c config/constraints-jazzy.txt onnxruntime'


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f'ONNX Runtime does not load ({error}): {install_hint()}') from error
    return onnxruntime


class OnnxRuntimeEngine:
    """Runs one ONNX file of a bundle; sessions are made at the first use of each input size."""

    name = 'onnxruntime'

    def __init__(self, bundle: Bundle, path: Path, precision: str, threads: Optional[int] = None) -> None:
        """
        Raises:
            EngineError: onnxruntime is missing, the file is not a network, or its interface is not ours.
        """
        runtime = _runtime()
        self._bundle, self._path, self._threads = bundle, path, threads
        self._outputs = outputs_of(bundle.network)
        self._sessions: Dict[Tuple[int, int], Any] = {}
        self.precision = precision
        crop = bundle.network.crop_size
        session = self._session(crop, crop)
        _check_interface(session, path, self._outputs)
        used = 'all' if threads is None else str(threads)
        self.description = f'onnxruntime {runtime.__version__}, CPU, {used} threads, {precision}'

    def run(self, image: ImageArray, classes: AnyArray) -> List[LocalPredictions]:
        """See ``Engine.run``."""
        self._check_input(image, classes)
        session = self._session(image.shape[1], image.shape[2])
        out = []
        for index in range(len(image)):
            feed = {
                'image': np.ascontiguousarray(image[index : index + 1]),
                'classes': np.ascontiguousarray(classes[index : index + 1]),
            }
            try:
                arrays = session.run(self._outputs, feed)
            except Exception as error:
                raise EngineError(f'{self._path}: ONNX Runtime failed: {_line(error)}') from error
            out.append(self._predictions(arrays, (image.shape[1], image.shape[2])))
        return out

    def warm_up(self) -> None:
        """Make the sessions of both input sizes and run each once, so that the first frame is no slower."""
        network = self._bundle.network
        sizes = {(network.crop_size, network.crop_size)}
        if network.frame_size is not None:
            sizes.add((network.frame_size[1], network.frame_size[0]))
        classes = np.ones((1, len(self._bundle.objects)), dtype=bool)
        for height, width in sorted(sizes):
            self.run(np.zeros((1, height, width, 3), dtype=np.uint8), classes)

    def _session(self, height: int, width: int) -> Any:
        if (height, width) not in self._sessions:
            self._sessions[height, width] = self._new_session(height, width)
        return self._sessions[height, width]

    def _new_session(self, height: int, width: int) -> Any:
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.inter_op_num_threads = 1
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        # Spinning workers take the cores that decode, PnP and the middleware need between two frames.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        for name, size in (('batch', 1), ('height', height), ('width', width)):
            options.add_free_dimension_override_by_name(name, size)
        # Read for each session and let go again: a small file is cheaper to read than to keep. The bytes that are
        # checked are the bytes that run, and ONNX Runtime shall not take them for its own format.
        options.add_session_config_entry('session.load_model_format', 'ONNX')
        data = self._path.read_bytes()
        try:
            outside = tensor_in_another_file(data)
        except ValueError as error:
            raise EngineError(f'{self._path}: {error}; export the bundle again') from None
        if outside is not None:
            raise EngineError(f'{self._path}: its weights ({outside}) lie in another file, which no hash covers')
        try:
            return runtime.InferenceSession(data, options, providers=['CPUExecutionProvider'])
        except Exception as error:
            raise EngineError(f'{self._path}: ONNX Runtime refuses the network: {_line(error)}') from error

    def _check_input(self, image: ImageArray, classes: AnyArray) -> None:
        count = len(self._bundle.objects)
        stride = min(level.stride for level in self._bundle.network.levels)
        good_image = image.ndim == 4 and image.shape[3] == 3 and image.dtype == np.uint8
        if not good_image or image.shape[1] % stride or image.shape[2] % stride:
            raise EngineError(
                f'image: expected uint8 (N, H, W, 3) with H and W multiples of {stride}, '
                f'got {image.dtype} {image.shape}'
            )
        if classes.shape != (len(image), count) or classes.dtype != np.bool_:
            raise EngineError(f'classes: expected bool ({len(image)}, {count}), got {classes.dtype} {classes.shape}')

    def _predictions(self, arrays: List[AnyArray], size: Tuple[int, int]) -> LocalPredictions:
        """Outputs of one image of `size` (height, width)."""
        index, score, level, centre, keypoints = (array[0] for array in arrays[: len(OUTPUTS)])
        count = len(score)
        shapes = [(count,), (count,), (count,), (count, 2), (count, 8, 2)]
        if [array[0].shape for array in arrays[: len(OUTPUTS)]] != shapes:
            raise EngineError(f'{self._path}: outputs of unexpected shapes: export the bundle again')
        # A network that overflowed must not reach PnP: its cells get score zero.
        bad = ~(np.isfinite(score) & np.isfinite(keypoints).all(axis=(1, 2)))
        bad |= (index < 0) | (index >= len(self._bundle.objects))
        if bad.any():
            score = np.where(bad, 0.0, score).astype(np.float32)
            keypoints = np.where(bad[:, None, None], 0.0, keypoints).astype(np.float32)
        return LocalPredictions(index, score, level, centre, keypoints, self._surface(arrays, size))

    def _surface(self, arrays: List[AnyArray], size: Tuple[int, int]) -> Optional[AnyArray]:
        stride = self._bundle.network.surface_stride
        if stride is None:
            return None
        surface = arrays[-1][0]
        shape = (len(self._bundle.objects), 4, size[0] // stride, size[1] // stride)
        if surface.shape != shape:
            raise EngineError(
                f'{self._path}: output surface of shape {surface.shape}, expected {shape}: export the bundle again'
            )
        # Overflow must not reach PnP: no cell of such an output belongs to an object.
        return surface if np.isfinite(surface).all() else np.full_like(surface, -1.0)  # type: ignore[no-any-return]


def outputs_of(network: NetworkSpec) -> Tuple[str, ...]:
    """Names of the outputs that a network has, in the order in which they are read."""
    return OUTPUTS if network.surface_stride is None else (*OUTPUTS, SURFACE)


def _check_interface(session: Any, path: Path, wanted: Tuple[str, ...]) -> None:
    inputs = {item.name for item in session.get_inputs()}
    outputs = {item.name for item in session.get_outputs()}
    if inputs == set(INPUTS) and set(OUTPUTS) <= outputs and SURFACE in set(wanted) - outputs:
        raise EngineError(
            f'{path}: has no output {SURFACE}, which network.surface_stride in bundle.yaml promises: '
            'export the bundle again'
        )
    if inputs != set(INPUTS) or not set(wanted) <= outputs:
        raise EngineError(
            f'{path}: not a network of kd6d_ros: inputs {sorted(inputs)}, outputs {sorted(outputs)}, '
            f'expected {list(INPUTS)} and {list(wanted)}'
        )


def _line(error: BaseException) -> str:
    """The first 300 characters of an error, in one line."""
    return ' '.join(str(error).split())[:300]
