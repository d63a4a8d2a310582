"""What the engine needs of TensorRT and CUDA: a narrow seam, so that everything else is tested without a GPU.

``tensorrt_api`` implements it with the real packages; the tests have one that computes with NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Dict, Mapping, Optional, Protocol, Tuple

from kd6d_ros.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray

Notify = Callable[[str], None]
"""Takes one line for people: progress, or why something is done again."""

OLDEST = (8, 6)
"""execute_async_v3 and uint8 inputs came with 8.6."""


@dataclass(frozen=True)
class Platform:
    """What an engine is built for; it runs nowhere else.

    tensorrt: full version; gpu: name of the device; compute_capability: for example '8.7'.
    """

    tensorrt: str
    gpu: str
    compute_capability: str

    @property
    def version(self) -> Tuple[int, int]:
        """Major and minor version of TensorRT."""
        major, minor = self.tensorrt.split('.')[:2]
        return int(major), int(minor)

    def check(self) -> None:
        """
        Raises:
            EngineError: this TensorRT is too old.
        """
        if self.version < OLDEST:
            raise EngineError(f'TensorRT {self.tensorrt} is too old: 8.6 or newer is needed (JetPack 6)')


@dataclass(frozen=True)
class BuildRequest:
    """A network with fixed shapes, and how to build it.

    most_images: with more than one, the first size of every input is open, and the engine takes 1 to so many images;
    precision: that of the file, which decides what a weakly typed build may use; strongly_typed: every layer runs
    in the type that the file gives it; workspace_mb: most scratch memory of one layer [MiB], None: no limit.
    """

    onnx: bytes
    precision: str
    strongly_typed: bool
    workspace_mb: Optional[int] = None
    most_images: int = 1


class Program(Protocol):
    """An engine in memory with its buffers. One thread at a time; a thread attaches before its first call."""

    @property
    def outputs(self) -> Tuple[str, ...]:
        """Names of the outputs."""
        ...

    def attach(self) -> None:
        """Make the GPU that holds the engine the current one of the calling thread."""
        ...

    def layers(self) -> str:
        """What the engine inspector says about every layer, as JSON."""
        ...

    def run(self, feeds: Mapping[str, AnyArray]) -> Dict[str, AnyArray]:
        """Outputs by name, in arrays of the caller's own, for as many images as the engine takes.

        Raises:
            EngineError: TensorRT or CUDA failed.
        """
        ...

    def close(self) -> None:
        """Free the buffers; the program is not used any more."""
        ...


class Backend(Protocol):
    """TensorRT on one GPU."""

    def platform(self) -> Platform:
        """
        Raises:
            EngineError: no GPU, or a package is missing; names the cure.
        """
        ...

    def build(self, request: BuildRequest, notify: Notify) -> bytes:
        """A serialised engine.

        Raises:
            EngineError: TensorRT refuses the network or cannot build it.
        """
        ...

    def load(self, plan: bytes) -> Program:
        """
        Raises:
            EngineError: TensorRT does not take the engine.
        """
        ...


def typing_of(platform: Platform, strongly: Optional[bool]) -> bool:
    """Whether to build strongly typed. None: strongly where TensorRT can (10 and newer), so that layers run in
    the precision that the file says.

    Raises:
        ConfigError: this TensorRT cannot do what is asked for.
    """
    major = platform.version[0]
    if strongly is None:
        return major >= 10
    if strongly and major < 10:
        raise ConfigError(f'TensorRT {platform.tensorrt} has no strongly typed networks: 10 or newer has')
    if not strongly and major >= 11:
        raise ConfigError(f'TensorRT {platform.tensorrt} has strongly typed networks only')
    return strongly
