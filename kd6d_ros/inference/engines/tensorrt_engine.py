"""Native TensorRT behind the one engine interface: one engine per input size, every shape fixed.

Several crops of one frame run together where ``kd6d engine --batch`` has built an engine for that, else one after the
other.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

import numpy as np

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.engine_cache import NotBuiltError
from kd6d_ros.inference.engines.engine_layers import in_words
from kd6d_ros.inference.engines.network_io import check_input, input_sizes, outputs_of, predictions
from kd6d_ros.inference.engines.tensorrt_build import MOST_IMAGES

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.tensorrt_build import EngineSource
    from kd6d_ros.inference.engines.tensorrt_seam import Notify, Program
    from kd6d_ros.types import AnyArray, ImageArray, LocalPredictions


class TensorRtEngine:
    """Runs the engines of one bundle; both input sizes are loaded, and built if need be, when it is made. An engine for
    several crops is loaded where there is one; it is never built here.

    `precision` is that of most layers in the engine for crops, as the engine says; `precision_asked` that of the file.
    """

    name = 'tensorrt'
    side_by_side = 1

    def __init__(
        self, bundle: Bundle, precision: str, source: EngineSource, notify: Notify, may_build: bool = True
    ) -> None:
        """
        Raises:
            EngineError: an engine cannot be loaded, nor built (or only built, with `may_build` false).
        """
        self._bundle, self._path = bundle, source.path
        self._outputs = outputs_of(bundle.network)
        self._lock, self._thread = threading.Lock(), threading.get_ident()
        self._programs: Dict[Tuple[int, int], Program] = {}
        layers: Dict[str, int] = {}
        crop = bundle.network.crop_size
        for size in input_sizes(bundle.network):
            program, facts = source.program(size, may_build=may_build)
            self._programs[size] = program
            lacking = set(self._outputs) - set(program.outputs)
            if lacking:
                raise EngineError(f'{self._path}: the engine lacks the outputs {", ".join(sorted(lacking))}')
            told: Dict[str, int] = dict(facts.get('layers') or {})
            layers = told if size == (crop, crop) else layers
            if told and precision not in told:
                what = f'the engine for {size[1]}x{size[0]}: {in_words(told)}'
                notify(f'{self._path}: no layer runs in {precision} in {what}')
        self._several, self._most = self._prepared(source, (crop, crop))
        self.precision_asked = precision
        self.precision = max(layers, key=lambda key: layers[key]) if layers else precision
        platform, typing = source.platform, 'strongly' if source.strongly_typed else 'weakly'
        self.description = (
            f'TensorRT {platform.tensorrt}, {platform.gpu} (compute capability {platform.compute_capability}), '
            f'{precision} file, {typing} typed, {in_words(layers)}'
        )
        if self._several is not None:
            self.description += f', up to {self._most} crops at once'

    def run(self, image: ImageArray, classes: AnyArray) -> List[LocalPredictions]:
        """See ``Engine.run``. Only sizes that the bundle declares are possible.

        Raises:
            EngineError: wrong input, another size, or TensorRT failed.
        """
        check_input(self._bundle, image, classes)
        size = (image.shape[1], image.shape[2])
        if size not in self._programs:
            have = ' and '.join(f'{width}x{height}' for height, width in self._programs)
            raise EngineError(f'no engine for images of {size[1]}x{size[0]}: there is one for {have}')
        several = self._several if size == (self._bundle.network.crop_size,) * 2 else None
        most = 1 if several is None else self._most
        out: List[LocalPredictions] = []
        # The buffers and the execution context serve one caller at a time.
        with self._lock:
            self._attach()
            for start in range(0, len(image), most):
                part = slice(start, start + most)
                program = self._programs[size] if several is None or len(image[part]) == 1 else several
                out += self._run_once(program, image[part], classes[part])
        return out

    def _run_once(self, program: Program, image: ImageArray, classes: AnyArray) -> List[LocalPredictions]:
        """Predictions of as many images as the program takes."""
        arrays = program.run({'image': image, 'classes': classes})
        size = (image.shape[1], image.shape[2])
        rows = [[arrays[name][row : row + 1] for name in self._outputs] for row in range(len(image))]
        return [predictions(self._bundle, self._path, row, size) for row in rows]

    def warm_up(self) -> None:
        """Run each input size once, so that the first frame is no slower."""
        classes = np.ones((1, len(self._bundle.objects)), dtype=bool)
        for height, width in self._programs:
            self.run(np.zeros((1, height, width, 3), dtype=np.uint8), classes)
        if self._several is not None:
            size = self._bundle.network.crop_size
            self.run(np.zeros((self._most, size, size, 3), dtype=np.uint8), classes.repeat(self._most, axis=0))

    def close(self) -> None:
        """Free the memory of the GPU."""
        with self._lock:
            self._attach()
            for program in self._all():
                program.close()
            self._programs.clear()
            self._several = None

    def _attach(self) -> None:
        """CUDA's current device belongs to a thread: tell a thread that was not the last one here."""
        if self._thread != threading.get_ident():
            for program in self._all():
                program.attach()
            self._thread = threading.get_ident()

    def _all(self) -> List[Program]:
        return [*self._programs.values(), *([] if self._several is None else [self._several])]

    def _prepared(self, source: EngineSource, size: Tuple[int, int]) -> Tuple[Optional[Program], int]:
        """The program in the cache that takes most crops at once, and how many; None and 1 where there is none."""
        for most in range(MOST_IMAGES, 1, -1):
            with contextlib.suppress(NotBuiltError):
                return source.program(size, may_build=False, most=most)[0], most
        return None, 1
