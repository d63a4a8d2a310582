"""Native TensorRT behind the one engine interface: one engine per input size, every shape fixed.

Several crops of one frame run together through engines for so many crops, where ``kd6d engine --batch`` has built some,
else one after the other. The number of images is fixed too: every shape known is what TensorRT optimises best, and a
range of numbers would leave shape arithmetic in the graph, which it takes in few forms.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

import numpy as np

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.engine_cache import NotBuiltError
from kd6d_ros.inference.engines.engine_layers import in_words
from kd6d_ros.inference.engines.network_io import check_input, input_sizes, outputs_of, predictions
from kd6d_ros.inference.engines.tensorrt_build import BATCHES

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.tensorrt_build import EngineSource
    from kd6d_ros.inference.engines.tensorrt_seam import Notify, Program
    from kd6d_ros.types import AnyArray, ImageArray, LocalPredictions


class TensorRtEngine:
    """Runs the engines of one bundle; both input sizes are loaded, and built if need be, when it is made. Engines for
    several crops are loaded where they are there; they are never built here.

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
            told: Dict[str, int] = dict(facts.get('layers') or {})
            layers = told if size == (crop, crop) else layers
            if told and precision not in told:
                what = f'the engine for {size[1]}x{size[0]}: {in_words(told)}'
                notify(f'{self._path}: no layer runs in {precision} in {what}')
        self._crop = (crop, crop)
        self._batches = self._prepared(source)
        self.precision_asked = precision
        self.precision = max(layers, key=lambda key: layers[key]) if layers else precision
        platform, typing = source.platform, 'strongly' if source.strongly_typed else 'weakly'
        self.description = (
            f'TensorRT {platform.tensorrt}, {platform.gpu} (compute capability {platform.compute_capability}), '
            f'{precision} file, {typing} typed, {in_words(layers)}'
        )
        if self._batches:
            self.description += f', up to {max(self._batches)} crops at once'

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
        batches = self._batches if size == self._crop else {}
        out: List[LocalPredictions] = []
        # The buffers and the execution context serve one caller at a time.
        with self._lock:
            self._attach()
            for batch in portions(len(image), (1, *batches)):
                part = slice(len(out), len(out) + batch)
                out += self._run_once(batches.get(batch, self._programs[size]), batch, image[part], classes[part])
        return out

    def _run_once(self, program: Program, batch: int, image: ImageArray, classes: AnyArray) -> List[LocalPredictions]:
        """Predictions of at most `batch` images by the program for so many."""
        arrays = program.run({'image': _filled(image, batch), 'classes': _filled(classes, batch)})
        answered = min(len(arrays[name]) for name in self._outputs)
        if answered < batch:
            raise EngineError(f'{self._path}: answers for {answered} of {batch} images: export the bundle again')
        size = (image.shape[1], image.shape[2])
        rows = [[arrays[name][row : row + 1] for name in self._outputs] for row in range(len(image))]
        return [predictions(self._bundle, self._path, row, size) for row in rows]

    def warm_up(self) -> None:
        """Run each input size once, so that the first frame is no slower."""
        classes = np.ones((1, len(self._bundle.objects)), dtype=bool)
        for height, width in self._programs:
            self.run(np.zeros((1, height, width, 3), dtype=np.uint8), classes)
        for count in self._batches:
            self.run(np.zeros((count, *self._crop, 3), dtype=np.uint8), classes.repeat(count, axis=0))

    def close(self) -> None:
        """Free the memory of the GPU."""
        with self._lock:
            self._attach()
            for program in (*self._programs.values(), *self._batches.values()):
                program.close()
            self._programs.clear()
            self._batches.clear()

    def _attach(self) -> None:
        """CUDA's current device belongs to a thread: tell a thread that was not the last one here."""
        if self._thread != threading.get_ident():
            for program in (*self._programs.values(), *self._batches.values()):
                program.attach()
            self._thread = threading.get_ident()

    def _prepared(self, source: EngineSource) -> Dict[int, Program]:
        """Programs for several crops, by how many, of those engines that are in the cache."""
        found = {}
        for count in BATCHES:
            with contextlib.suppress(NotBuiltError):
                found[count], _ = source.program(self._crop, may_build=False, batch=count)
        return found


def portions(count: int, sizes: Sequence[int]) -> List[int]:
    """Sizes of the runs for `count` images; of the last run a part may be unused, less than half of it.

    Args:
        sizes: of the programs that there are, 1 among them.
    """
    out: List[int] = []
    while count > 0:
        nearly_full = [size for size in sizes if size >= count > size // 2]
        out.append(min(nearly_full) if nearly_full else max(size for size in sizes if size <= count))
        count -= out[-1]
    return out


def _filled(rows: AnyArray, count: int) -> AnyArray:
    """`rows` with rows of zeros behind, `count` in all."""
    if len(rows) == count:
        return rows
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
