"""Inputs and outputs of a bundle's network, the same for every engine: names, checks, arrays to records."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Tuple

import numpy as np

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.surface_codes import BITS
from kd6d_ros.types import CodeMaps, LocalPredictions

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.inference.bundle_records import Bundle, NetworkSpec
    from kd6d_ros.types import AnyArray, ImageArray

INPUTS = ('image', 'classes')
OUTPUTS = ('class_index', 'score', 'level', 'centre', 'keypoints')
SURFACE = 'surface'
CODE_OUTPUTS = ('class_index', 'mask', 'code')


def outputs_of(network: NetworkSpec) -> Tuple[str, ...]:
    """Names of the outputs that a network has, in the order in which they are read."""
    if network.code_stride is not None:
        return CODE_OUTPUTS
    return OUTPUTS if network.surface_stride is None else (*OUTPUTS, SURFACE)


def input_sizes(network: NetworkSpec) -> List[Tuple[int, int]]:
    """(height, width) of every input that the estimator will run: the crop, and the whole frame if it can search."""
    sizes = {(network.crop_size, network.crop_size)}
    if network.frame_size is not None:
        sizes.add((network.frame_size[1], network.frame_size[0]))
    return sorted(sizes)


def check_input(bundle: Bundle, image: ImageArray, classes: AnyArray) -> None:
    """
    Raises:
        EngineError: not (N, H, W, 3) uint8 with sides that fit the stride, or not (N, C) bool.
    """
    count = len(bundle.objects)
    stride = bundle.network.finest_stride
    good_image = image.ndim == 4 and image.shape[3] == 3 and image.dtype == np.uint8
    if not good_image or image.shape[1] % stride or image.shape[2] % stride:
        raise EngineError(
            f'image: expected uint8 (N, H, W, 3) with H and W multiples of {stride}, got {image.dtype} {image.shape}'
        )
    if classes.shape != (len(image), count) or classes.dtype != np.bool_:
        raise EngineError(f'classes: expected bool ({len(image)}, {count}), got {classes.dtype} {classes.shape}')


def check_interface(path: Path, inputs: List[str], outputs: List[str], wanted: Tuple[str, ...]) -> None:
    """
    Raises:
        EngineError: the network has other inputs, or lacks an output that the bundle promises.
    """
    if set(inputs) == set(INPUTS) and set(OUTPUTS) <= set(outputs) and SURFACE in set(wanted) - set(outputs):
        raise EngineError(
            f'{path}: has no output {SURFACE}, which network.surface_stride in bundle.yaml promises: '
            'export the bundle again'
        )
    if set(inputs) != set(INPUTS) or not set(wanted) <= set(outputs):
        raise EngineError(
            f'{path}: not a network of kd6d_ros: inputs {sorted(inputs)}, outputs {sorted(outputs)}, '
            f'expected {list(INPUTS)} and {list(wanted)}'
        )


def predictions(bundle: Bundle, path: Path, arrays: List[AnyArray], size: Tuple[int, int]) -> LocalPredictions:
    """Outputs of one image of `size` (height, width); arrays as ``outputs_of`` names them, batch axis first.

    Raises:
        EngineError: shapes that do not belong together.
    """
    if bundle.network.code_stride is not None:
        return _code_maps(bundle, path, arrays, size, bundle.network.code_stride)
    index, score, level, centre, keypoints = (array[0] for array in arrays[: len(OUTPUTS)])
    count = len(score)
    shapes = [(count,), (count,), (count,), (count, 2), (count, 8, 2)]
    if [array[0].shape for array in arrays[: len(OUTPUTS)]] != shapes:
        raise EngineError(f'{path}: outputs of unexpected shapes: export the bundle again')
    # A network that overflowed must not reach PnP: its cells get score zero.
    bad = ~(np.isfinite(score) & np.isfinite(keypoints).all(axis=(1, 2)))
    bad |= (index < 0) | (index >= len(bundle.objects))
    if bad.any():
        score = np.where(bad, 0.0, score).astype(np.float32)
        keypoints = np.where(bad[:, None, None], 0.0, keypoints).astype(np.float32)
    return LocalPredictions(index, score, level, centre, keypoints, _surface(bundle, path, arrays, size))


def _code_maps(
    bundle: Bundle, path: Path, arrays: List[AnyArray], size: Tuple[int, int], stride: int
) -> LocalPredictions:
    cells = (size[0] // stride, size[1] // stride)
    shapes, kinds = [(1, *cells), (1, *cells), (1, BITS, *cells)], ['i', 'f', 'f']
    if [(array.shape, array.dtype.kind) for array in arrays] != list(zip(shapes, kinds, strict=True)):
        got = ', '.join(f'{array.dtype} {array.shape}' for array in arrays)
        raise EngineError(f'{path}: outputs {", ".join(CODE_OUTPUTS)} are {got}, expected {shapes}: export it again')
    index, mask, code = (array[0] for array in arrays)
    # Neither overflow nor what is no probability may reach PnP: such a cell shows nothing.
    good = (mask >= 0) & (mask <= 1) & ((code >= 0) & (code <= 1)).all(axis=0)
    good &= (index >= 0) & (index < len(bundle.objects))
    if not good.all():
        index, mask, code = np.where(good, index, 0), np.where(good, mask, 0.0), np.where(good, code, 0.5)
    return LocalPredictions.of_codes(CodeMaps(index, mask, code))


def _surface(bundle: Bundle, path: Path, arrays: List[AnyArray], size: Tuple[int, int]) -> Optional[AnyArray]:
    stride = bundle.network.surface_stride
    if stride is None:
        return None
    surface = arrays[-1][0]
    shape = (len(bundle.objects), 4, size[0] // stride, size[1] // stride)
    if surface.shape != shape:
        raise EngineError(f'{path}: output surface of shape {surface.shape}, expected {shape}: export the bundle again')
    # Overflow must not reach PnP: no cell of such an output belongs to an object.
    return surface if np.isfinite(surface).all() else np.full_like(surface, -1.0)  # type: ignore[no-any-return]


def network_bytes(path: Path) -> bytes:
    """The ONNX file, checked to hold all its weights: what is checked is what runs.

    Raises:
        EngineError: not an ONNX file, or its weights lie in another file.
    """
    from kd6d_ros.inference.onnx_file import tensor_in_another_file

    try:
        data = path.read_bytes()
        outside = tensor_in_another_file(data)
    except OSError as error:
        raise EngineError(f'{path}: {(error.strerror or str(error)).lower()}') from error
    except ValueError as error:
        raise EngineError(f'{path}: {error}; export the bundle again') from None
    if outside is not None:
        raise EngineError(f'{path}: its weights ({outside}) lie in another file, which no hash covers')
    return data


def one_line(error: BaseException) -> str:
    """The first 300 characters of an error, in one line."""
    return ' '.join(str(error).split())[:300]
