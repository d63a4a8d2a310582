"""Native TensorRT behind the one engine interface: one engine per input size, every shape fixed.

Several crops of one frame run one after the other through the batch-1 engine.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Dict, List, Tuple

import numpy as np

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.engine_layers import in_words
from kd6d_ros.inference.engines.network_io import check_input, input_sizes, outputs_of, predictions

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.tensorrt_build import EngineSource
    from kd6d_ros.inference.engines.tensorrt_seam import Notify, Program
    from kd6d_ros.types import AnyArray, ImageArray, LocalPredictions


class TensorRtEngine:
    """Runs the engines of one bundle; both input sizes are loaded, and built if need be, when it is made.

    `precision` is that of most layers in the engine for crops, as the engine says; `precision_asked` that of the file.
    """

    name = 'tensorrt'

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
            told = dict(facts.get('layers') or {})
            layers = told if size == (crop, crop) else layers
            if told and precision not in told:
                what = f'the engine for {size[1]}x{size[0]}: {in_words(told)}'
                notify(f'{self._path}: no layer runs in {precision} in {what}')
        self.precision_asked = precision
        self.precision = max(layers, key=lambda key: layers[key]) if layers else precision
        platform, typing = source.platform, 'strongly' if source.strongly_typed else 'weakly'
        self.description = (
            f'TensorRT {platform.tensorrt}, {platform.gpu} (compute capability {platform.compute_capability}), '
            f'{precision} file, {typing} typed, {in_words(layers)}'
        )

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
        program = self._programs[size]
        out = []
        # The buffers and the execution context serve one caller at a time.
        with self._lock:
            self._attach()
            for index in range(len(image)):
                feeds = {'image': image[index : index + 1], 'classes': classes[index : index + 1]}
                arrays = program.run(feeds)
                out.append(predictions(self._bundle, self._path, [arrays[name] for name in self._outputs], size))
        return out

    def warm_up(self) -> None:
        """Run each input size once, so that the first frame is no slower."""
        classes = np.ones((1, len(self._bundle.objects)), dtype=bool)
        for height, width in self._programs:
            self.run(np.zeros((1, height, width, 3), dtype=np.uint8), classes)

    def close(self) -> None:
        """Free the memory of the GPU."""
        with self._lock:
            self._attach()
            for program in self._programs.values():
                program.close()
            self._programs.clear()

    def _attach(self) -> None:
        """CUDA's current device belongs to a thread: tell a thread that was not the last one here."""
        if self._thread != threading.get_ident():
            for program in self._programs.values():
                program.attach()
            self._thread = threading.get_ident()
