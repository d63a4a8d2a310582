"""The files of a bundle: hashes, containment, and meshes as plain arrays."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

import numpy as np

from kd6d_ros.errors import BundleError, MeshError
from kd6d_ros.geometry.meshes import validate_mesh
from kd6d_ros.inference.bundle_records import MANIFEST
from kd6d_ros.inference.onnx_file import tensor_in_another_file
from kd6d_ros.types import Mesh

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import AnyArray

BROKEN_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError),
    *(OSError, ValueError, OverflowError, MemoryError),
)
"""What zipfile and NumPy raise on bytes that somebody damaged or made up."""

MAX_FILE_BYTES = 1 << 30
MAX_MESH_BYTES = 64 << 20
MAX_VERTICES = 2_000_000
ENGINE_SUFFIXES = ('.onnx', '.ort', '.engine', '.plan')


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def inside(folder: Path, relative: str) -> Path:
    """Path of a regular file in the bundle; no link on the way, no size beyond the bound.

    Raises:
        BundleError: missing, a link, not a file, too large.
    """
    path = folder
    for part in relative.split('/'):
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except OSError as error:
            raise BundleError(f'{path}: named in {MANIFEST} but {(error.strerror or "missing").lower()}') from error
        if stat.S_ISLNK(mode):
            raise BundleError(f'{path}: is a link; a bundle holds its own files, copy the target there')
    if not stat.S_ISREG(mode):
        raise BundleError(f'{path}: named in {MANIFEST} but not a file')
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise BundleError(f'{path}: {size} bytes, a file of a bundle has at most {MAX_FILE_BYTES}')
    return path


def check_files(bundle: Bundle) -> None:
    """Every file is listed, present, contained and unchanged; no engine lies there unlisted or takes weights
    from another file.

    Raises:
        BundleError: names the file.
    """
    manifest = bundle.folder / MANIFEST
    for relative in [*bundle.engines.values(), *bundle.meshes.values(), *bundle.codes.values()]:
        if relative not in bundle.files:
            raise BundleError(f'{manifest}: {relative} has no sha256 under files')
    for relative, wanted in bundle.files.items():
        path = inside(bundle.folder, relative)
        if sha256_file(path) != wanted:
            raise BundleError(
                f'{path}: its sha256 is not the one in {MANIFEST}: the file was changed or cut short; '
                'copy the bundle again'
            )
        if path.suffix == '.onnx':
            _check_self_contained(path)
    for path in sorted(bundle.folder.rglob('*')):
        relative = path.relative_to(bundle.folder).as_posix()
        if path.suffix in ENGINE_SUFFIXES and relative not in bundle.files:
            raise BundleError(f'{path}: an engine that {MANIFEST} does not list; remove it or export again')


def _check_self_contained(path: Path) -> None:
    try:
        outside = tensor_in_another_file(path.read_bytes())
    except ValueError:
        return  # the engine says that this is no network
    if outside is not None:
        raise BundleError(
            f'{path}: its weights ({outside}) lie in another file, which no hash covers; '
            'save the network as one file: onnx.save(model, path, save_as_external_data=False)'
        )


def mesh_bytes(mesh: Mesh) -> bytes:
    """A mesh as an npz archive: vertices float32 [m], faces int32, colours uint8 if any. Same mesh, same
    bytes: NumPy would stamp the archive's members with a fixed date anyway."""
    arrays: Dict[str, AnyArray] = {
        'vertices': np.asarray(mesh.vertices, dtype=np.float32),
        'faces': np.asarray(mesh.faces, dtype=np.int32),
    }
    if mesh.colours is not None:
        arrays['colours'] = np.asarray(mesh.colours, dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_mesh(bundle: Bundle, name: str) -> Optional[Mesh]:
    """The mesh of an object, or None when the bundle carries none.

    Raises:
        BundleError: not an archive of plain arrays of the right shapes, or too large.
        ConfigError: the bundle does not know the object.
    """
    bundle.index(name)
    if name not in bundle.meshes:
        return None
    path = inside(bundle.folder, bundle.meshes[name])
    arrays = _read_arrays(path)
    try:
        vertices = _array(arrays, 'vertices', 'f', MAX_VERTICES, path)
        faces = _array(arrays, 'faces', 'iu', 4 * MAX_VERTICES, path)
        colours = _array(arrays, 'colours', 'u', MAX_VERTICES, path) if 'colours' in arrays else None
        if colours is not None and (len(colours) != len(vertices) or colours.dtype != np.uint8):
            raise BundleError(f'{path}: colours must be uint8, one per vertex')
        if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
            raise BundleError(f'{path}: faces name vertices that do not exist')
        mesh = Mesh(vertices.astype(np.float64), faces.astype(np.int64), colours)
        validate_mesh(mesh, str(path))
    except MeshError as error:
        raise BundleError(str(error)) from error
    return mesh


def _read_arrays(path: Path) -> Dict[str, Any]:
    """Arrays of an npz after a look at what they would unpack to."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
            if unpacked > MAX_MESH_BYTES or len(archive.infolist()) > 8:
                raise BundleError(f'{path}: unpacks to {unpacked} bytes, at most {MAX_MESH_BYTES} are allowed')
        with np.load(path, allow_pickle=False) as archive_arrays:
            return {name: archive_arrays[name] for name in archive_arrays.files}
    except BROKEN_ARCHIVE as error:
        raise BundleError(f'{path}: not an archive of plain arrays ({str(error) or type(error).__name__})') from error


def _array(arrays: Dict[str, Any], name: str, kinds: str, most: int, path: Path) -> AnyArray:
    array = arrays.get(name)
    fits = array is not None and array.dtype.kind in kinds and array.ndim == 2 and array.shape[1] == 3
    if array is None or not fits or len(array) > most:
        got = 'nothing' if array is None else f'{array.dtype} {array.shape}'
        raise BundleError(f'{path}: {name}: expected up to {most} rows of 3 numbers, got {got}')
    checked: AnyArray = array
    return checked
