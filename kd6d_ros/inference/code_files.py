"""Files of surface codes: one npz per object, plain arrays only, looked at before anything is unpacked."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, NoReturn, Tuple

import numpy as np

from kd6d_ros.errors import BundleError, CodesError
from kd6d_ros.inference.bundle_files import BROKEN_ARCHIVE, inside
from kd6d_ros.inference.bundle_schema import DIAMETERS, NAME, SHA256
from kd6d_ros.inference.surface_codes import BITS, LEAVES, CodeBook

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import AnyArray, ObjectModel

VERSION = 1
SUFFIX = '.codes.npz'
MAX_BYTES = 2 << 20
"""Of a file, and of what it unpacks to."""

CURE = 'make it again with `kd6d codes`'
SHAPES: Dict[str, Tuple[str, Tuple[int, ...]]] = {
    'version': ('i', ()), 'name': ('U', ()), 'obj_id': ('i', ()), 'diameter_m': ('f', ()), 'mesh_sha256': ('U', ()),
    'samples': ('i', ()), 'seed': ('i', ()), 'low_m': ('f', (3,)), 'step_m': ('f', (3,)), 'grid': ('u', (LEAVES, 3)),
}  # fmt: skip
"""Kind and shape of every array in a file."""

TREE_BITS = 8
TREE_LEAST = 0.5
"""In a tree the points that share TREE_BITS bits spread over less than this share of the whole surface's spread."""

SIZE_TOLERANCE = 0.02
"""How far diameter and box may differ between codes and object [diameters]: decimated meshes shrink a little."""


def code_file(folder: Path, name: str) -> Path:
    """Where the codes of the object called `name` stand."""
    return folder / f'{name}{SUFFIX}'


def write_codes(folder: Path, book: CodeBook) -> Path:
    """Write aside, then rename; same codes, same bytes."""
    path = code_file(folder, book.name)
    arrays: Dict[str, Any] = {
        'version': VERSION, 'name': book.name, 'obj_id': book.obj_id, 'diameter_m': book.diameter,
        'mesh_sha256': book.mesh_sha256, 'samples': book.samples, 'seed': book.seed,
        'low_m': np.asarray(book.low, np.float64), 'step_m': np.asarray(book.step, np.float64),
        'grid': np.asarray(book.grid, np.uint16),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with aside.open('wb') as file:
            np.savez_compressed(file, **arrays)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return path


def read_codes(path: Path) -> CodeBook:
    """Read and check a file of ``write_codes``.

    Raises:
        CodesError: missing, too large, no archive of plain arrays, an array that is missing or of another shape,
            values out of bounds, or rows that are not in the order of a tree.
    """
    arrays = _arrays(path)
    if int(arrays['version']) != VERSION:
        _refuse(path, f'has version {int(arrays["version"])}, this kd6d_ros reads {VERSION}')
    low, step, diameter = arrays['low_m'], arrays['step_m'], float(arrays['diameter_m'])
    if not (DIAMETERS[0] <= diameter <= DIAMETERS[1]):
        _refuse(path, f'diameter_m is {diameter:g}; expected {DIAMETERS[0]:g} .. {DIAMETERS[1]:g} metres')
    if not (np.isfinite(low).all() and np.isfinite(step).all() and (step >= 0).all()):
        _refuse(path, 'low_m and step_m must be finite, step_m not negative')
    name, digest = str(arrays['name']), str(arrays['mesh_sha256'])
    if not NAME.fullmatch(name) or not SHA256.fullmatch(digest):
        _refuse(path, f'name ({name!r}) or mesh_sha256 is not of the right form')
    book = CodeBook(
        name, int(arrays['obj_id']), diameter, low.astype(np.float64), step.astype(np.float64), arrays['grid'], digest,
        int(arrays['samples']), int(arrays['seed']),
    )  # fmt: skip
    _check_points(path, book)
    return book


def _arrays(path: Path) -> Dict[str, AnyArray]:
    """The arrays of SHAPES; a lying header cannot take more memory than MAX_BYTES allows."""
    try:
        if path.stat().st_size > MAX_BYTES:
            _refuse(path, f'over the limit of {MAX_BYTES >> 20} MiB')
        with zipfile.ZipFile(path) as archive:
            members = {item.filename: item.file_size for item in archive.infolist()}
        if sum(members.values()) > MAX_BYTES or set(members) != {f'{key}.npy' for key in SHAPES}:
            _refuse(path, 'not a file of surface codes (other arrays than expected)')
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in SHAPES}
    except FileNotFoundError:
        raise CodesError(f'{path}: no such file; make it with `kd6d codes`') from None
    except BROKEN_ARCHIVE as error:
        _refuse(path, f'not an archive of plain arrays ({str(error) or type(error).__name__})')
    for key, (kind, shape) in SHAPES.items():
        array = arrays[key]
        if array.dtype.kind != kind or array.shape != shape:
            _refuse(path, f'{key}: expected shape {shape} of kind {kind!r}, got {array.dtype} {array.shape}')
    if arrays['grid'].dtype != np.uint16:
        _refuse(path, f'grid: expected uint16, got {arrays["grid"].dtype}')
    return arrays


def _check_points(path: Path, book: CodeBook) -> None:
    points = book.points.astype(np.float64)
    size = float(np.linalg.norm(points.max(0) - points.min(0)))
    if not 0.5 * book.diameter <= size <= 1.8 * book.diameter:
        _refuse(path, f'the surface spans {size:.4g} m, which does not fit its diameter of {book.diameter:.4g} m')
    regions = points.reshape(1 << TREE_BITS, -1, 3)
    within = np.sqrt(((regions - regions.mean(1, keepdims=True)) ** 2).sum(2).mean())
    whole = np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())
    if within > TREE_LEAST * whole:
        _refuse(path, f'codes that share {TREE_BITS} of {BITS} bits are not near each other; the rows were mixed up')


def _refuse(path: Path, what: str) -> NoReturn:
    raise CodesError(f'{path}: {" ".join(what.split())}; {CURE}')


def check_fits(path: Path, book: CodeBook, model: ObjectModel) -> None:
    """Whether the codes in the file `path` may be those of `model`, by what is known without its mesh.

    Raises:
        CodesError: another object, or another size or place.
    """
    if (book.name, book.obj_id) != (model.name, model.obj_id):
        _refuse(path, f'codes of object {book.obj_id} {book.name!r}; expected {model.obj_id} {model.name!r}')
    tolerance = SIZE_TOLERANCE * model.diameter
    low, high = model.keypoints.min(0) - tolerance, model.keypoints.max(0) + tolerance
    outside = (book.points < low).any() or (book.points > high).any()
    if abs(book.diameter - model.diameter) > tolerance or outside:
        _refuse(path, f'codes of a mesh of another size or place than that of {model.name!r}')


def load_codes(bundle: Bundle) -> Tuple[CodeBook, ...]:
    """The codes of a bundle's objects, in their order; none for a bundle of another kind.

    Raises:
        BundleError: a file is missing, damaged, or holds the codes of another object.
    """
    if bundle.kind != 'dense':
        return ()
    books = []
    for model in bundle.objects:
        path = inside(bundle.folder, bundle.codes[model.name])
        try:
            book = read_codes(path)
            check_fits(path, book, model)
        except CodesError as error:
            raise BundleError(f'{error} and export the bundle again') from error
        books.append(book)
    return tuple(books)
