"""The few CUDA runtime calls that the engine makes, through cuda-python. Nothing is imported before it is used.

cuda-python 12.8 and newer have them in ``cuda.bindings.runtime``, older ones in ``cuda.cudart``. Every call returns a
tuple whose first item is the error.
"""

from __future__ import annotations

import ctypes
import importlib.util
from typing import TYPE_CHECKING, Any, List, Tuple

import numpy as np

from kd6d_ros.errors import EngineError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray

MODULES = ('cuda.bindings.runtime', 'cuda.cudart')
INSTALL = 'pip install --user cuda-python of your CUDA version, see docs/jetson.md'


def load_cuda() -> Any:
    """The module of the CUDA runtime.

    Raises:
        EngineError: cuda-python is not installed.
    """
    name = next((name for name in MODULES if _is_there(name)), None)
    if name is None:
        raise EngineError(f'cuda-python is not installed: {INSTALL}')
    try:
        return importlib.import_module(name)
    except Exception as error:  # a build for another CUDA
        raise EngineError(f'cuda-python does not load ({error}): {INSTALL}') from error


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it should be in
        return False


class Cuda:
    """CUDA device 0.

    Raises:
        EngineError: cuda-python is missing, there is no driver or no GPU.
    """

    def __init__(self, device: int = 0) -> None:
        self._cudart = load_cuda()
        self._device = device
        cudart = self._cudart
        try:
            count = self._call(cudart.cudaGetDeviceCount())
        except (EngineError, RuntimeError) as error:
            raise EngineError(f'no CUDA device: {" ".join(str(error).split())[:200]}') from error
        if count <= device:
            raise EngineError(f'no CUDA device {device}: there are {count}')
        self.attach()

    def attach(self) -> None:
        """Make the device current in the calling thread."""
        cudart = self._cudart
        self._call(cudart.cudaSetDevice(self._device))

    def describe(self) -> Tuple[str, str]:
        """Name of the GPU and its compute capability."""
        cudart = self._cudart
        properties = self._call(cudart.cudaGetDeviceProperties(self._device))
        major, minor = (
            self._call(cudart.cudaDeviceGetAttribute(attribute, self._device))
            for attribute in (
                cudart.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor,
                cudart.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor,
            )
        )
        name = properties.name
        return (name.decode() if isinstance(name, bytes) else str(name)).strip(), f'{major}.{minor}'

    def stream(self) -> Any:
        """A new stream; ``int(stream)`` is its handle."""
        cudart = self._cudart
        return self._call(cudart.cudaStreamCreate())

    def synchronise(self, stream: Any) -> None:
        """Wait for everything that was enqueued."""
        cudart = self._cudart
        self._call(cudart.cudaStreamSynchronize(stream))

    def allocate(self, shape: Tuple[int, ...], dtype: str) -> Buffer:
        """Pinned host memory and device memory for one array.

        Raises:
            EngineError: out of memory.
        """
        cudart = self._cudart
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        host = self._call(cudart.cudaHostAlloc(max(count, 1), cudart.cudaHostAllocDefault))
        try:
            device = self._call(cudart.cudaMalloc(max(count, 1)))
        except EngineError:
            cudart.cudaFreeHost(host)
            raise
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(int(host)))
        return Buffer(int(host), int(device), raw.view(dtype).reshape(shape), count)

    def to_device(self, buffer: Buffer, stream: Any) -> None:
        """Enqueue the copy of the host array to the GPU."""
        cudart = self._cudart
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(cudart.cudaMemcpyAsync(buffer.device, buffer.host, buffer.size, kind, stream))

    def to_host(self, buffer: Buffer, stream: Any) -> None:
        """Enqueue the copy of the GPU's array to the host."""
        cudart = self._cudart
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(cudart.cudaMemcpyAsync(buffer.host, buffer.device, buffer.size, kind, stream))

    def free(self, buffers: List[Buffer], stream: Any) -> None:
        """Free everything; errors do not matter any more."""
        cudart = self._cudart
        cudart.cudaSetDevice(self._device)
        for buffer in buffers:
            cudart.cudaFree(buffer.device)
            cudart.cudaFreeHost(buffer.host)
        cudart.cudaStreamDestroy(stream)

    def _call(self, result: Tuple[Any, ...]) -> Any:
        cudart = self._cudart
        error, *values = result
        if int(error) != 0:
            text = cudart.cudaGetErrorString(error)[1]
            text = text.decode() if isinstance(text, bytes) else str(text)
            raise EngineError(f'CUDA: {text} (error {int(error)})')
        return values[0] if values else None


class Buffer:
    """One array in pinned host memory (`array`) and on the GPU (`device`, an address)."""

    def __init__(self, host: int, device: int, array: AnyArray, size: int) -> None:
        self.host, self.device, self.array, self.size = host, device, array, size
