"""From a network of a bundle to a TensorRT engine of one input size: out of the cache, or built into it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from kd6d_ros.errors import BundleError, EngineError
from kd6d_ros.inference.engines.engine_cache import EngineCache, Entry, Stored
from kd6d_ros.inference.engines.engine_layers import layer_precisions
from kd6d_ros.inference.engines.network_io import check_interface, network_bytes, outputs_of
from kd6d_ros.inference.engines.tensorrt_seam import BuildRequest, typing_of
from kd6d_ros.inference.onnx_edit import read_graph
from kd6d_ros.inference.onnx_static import FORM, evaluate_with_onnxruntime, static_network

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.tensorrt_seam import Backend, Notify, Platform, Program

MOST_CELLS = 3840
"""Largest k of TensorRT's TopK layer."""

MOST_IMAGES = 16
"""Of an engine that takes several crops at once, beside the one for a single crop."""

CPU_ONLY = ('int8-cpu',)
"""Precisions with unsigned activations, which TensorRT does not take."""


@dataclass(frozen=True)
class BuildOptions:
    """What a user may choose. strongly_typed: None takes what this TensorRT does best; workspace_mb [MiB]: None
    sets no limit and accepts an engine that was built with one."""

    strongly_typed: Optional[bool] = None
    workspace_mb: Optional[int] = None


class EngineSource:
    """Engines of one bundle at one precision.

    Raises:
        BundleError: the bundle lacks the precision, or it is not one for TensorRT.
        ConfigError: typing that this TensorRT does not have.
        EngineError: no GPU, a TensorRT that is too old, a file that is no network, more cells than TensorRT takes.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: str,
        backend: Backend,
        cache: EngineCache,
        options: BuildOptions,
        notify: Notify,
    ) -> None:
        self.path, self.folder = bundle.engine_path(precision), cache.folder
        if precision in CPU_ONLY:
            raise BundleError(f'{precision} has unsigned activations, which TensorRT does not take: use int8')
        if bundle.network.max_cells > MOST_CELLS:
            raise EngineError(f'{self.path}: {bundle.network.max_cells} cells, TensorRT picks at most {MOST_CELLS}')
        self.platform: Platform = backend.platform()
        self.platform.check()
        self.strongly_typed = typing_of(self.platform, options.strongly_typed)
        self._bundle, self._precision, self._options = bundle, precision, options
        self._backend, self._cache, self._notify = backend, cache, notify
        self._data = network_bytes(self.path)
        self._sha256 = hashlib.sha256(self._data).hexdigest()
        try:
            graph = read_graph(self._data)
        except ValueError as error:
            raise EngineError(f'{self.path}: {error}; export the bundle again') from error
        check_interface(self.path, list(graph.inputs), list(graph.outputs), outputs_of(bundle.network))

    def entry(self, size: Tuple[int, int], most: int = 1) -> Entry:
        """The cache entry of one input size (height, width), for up to `most` images at once."""
        typing = 'strong' if self.strongly_typed else 'weak'
        number = 1 if most == 1 else f'1..{most}'
        key = {
            'onnx_sha256': self._sha256,
            'form': FORM,
            'tensorrt': self.platform.tensorrt,
            'gpu': self.platform.gpu,
            'compute_capability': self.platform.compute_capability,
            'precision': self._precision,
            'shapes': {name: [number, *shape[1:]] for name, shape in self._shapes(size).items()},
            'typing': typing,
            'tf32': False,
        }
        name = f'{self._bundle.name}-{self._sha256[:8]}-{self._precision}-{typing}-{size[1]}x{size[0]}'
        return Entry(name if most == 1 else f'{name}-batch{most}', key)

    def program(
        self, size: Tuple[int, int], force: bool = False, may_build: bool = True, most: int = 1
    ) -> Tuple[Program, Dict[str, Any]]:
        """The engine of a size, ready to run, and the facts about it: 'layers' (number per precision),
        'build_seconds', 'workspace_mb', 'built' (just now).

        Args:
            size: (height, width) [network px].
            force: build it even if it is there.
            may_build: False takes it from the cache or not at all.
            most: how many images it takes at once, or any number below.

        Raises:
            EngineError: it cannot be built, kept or loaded.
        """
        loaded: Dict[str, Program] = {}

        def accept(stored: Stored) -> Optional[str]:
            wanted, had = self._options.workspace_mb, stored.facts.get('workspace_mb')
            if wanted is not None and wanted != had:
                return f'it was built with a workspace of {had or "any"} MiB, {wanted} are asked for'
            try:
                loaded['program'] = self._backend.load(stored.plan)
            except EngineError as error:
                return str(error)
            return None

        def build() -> Stored:
            return self._build(size, most, loaded)

        entry = self.entry(size, most)
        if may_build:
            stored, built = self._cache.get_or_build(entry, build, self._notify, accept, force)
        else:
            stored, built = self._cache.get(entry, accept), False
        return loaded['program'], {**stored.facts, 'built': built}

    def _shapes(self, size: Tuple[int, int]) -> Dict[str, Tuple[int, ...]]:
        return {'image': (1, *size, 3), 'classes': (1, len(self._bundle.objects))}

    def _build(self, size: Tuple[int, int], most: int, loaded: Dict[str, Program]) -> Stored:
        try:
            onnx = static_network(self._data, self._shapes(size), evaluate_with_onnxruntime, any_number=most > 1)
        except ValueError as error:
            raise EngineError(f'{self.path}: {error}; export the bundle again') from error
        except ImportError as error:
            raise EngineError(f'building an engine needs ONNX Runtime to fix the input size ({error})') from error
        typing = 'strongly' if self.strongly_typed else 'weakly'
        self._notify(
            f'building {self._bundle.name} {self._precision} {size[1]}x{size[0]}'
            f'{"" if most == 1 else f", 1 to {most} images"}, {typing} typed, '
            f'TensorRT {self.platform.tensorrt} on {self.platform.gpu}: this takes minutes, once'
        )
        started = time.monotonic()
        request = BuildRequest(onnx, self._precision, self.strongly_typed, self._options.workspace_mb, most)
        try:
            plan = self._backend.build(request, self._notify)
            loaded['program'] = program = self._backend.load(plan)
        except EngineError as error:
            raise EngineError(f'{self.path}: {error}') from error
        facts = {
            'layers': layer_precisions(program.layers()),
            'build_seconds': round(time.monotonic() - started, 1),
            'workspace_mb': self._options.workspace_mb,
        }
        return Stored(plan, facts)
