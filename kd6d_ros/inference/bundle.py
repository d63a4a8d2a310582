"""Reading and writing bundles: the folder that the workshop hands to the robot.

A bundle is data: a YAML manifest, ONNX files and optional meshes as plain arrays. Loading checks everything
and says which line or file is wrong.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

import yaml

from kd6d_ros.errors import BundleError
from kd6d_ros.filled_aside import filled_aside
from kd6d_ros.inference.bundle_files import check_files, load_mesh, mesh_bytes, sha256_file
from kd6d_ros.inference.bundle_records import (
    MANIFEST,
    SCHEMA,
    Bundle,
    DecodeSpec,
    LevelSpec,
    Measured,
    NetworkSpec,
)
from kd6d_ros.inference.bundle_schema import read_bundle
from kd6d_ros.inference.code_files import load_codes, write_codes
from kd6d_ros.inference.manifest_fields import MAX_MANIFEST_BYTES, parse_manifest
from kd6d_ros.inference.manifest_record import manifest_record

if TYPE_CHECKING:
    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.types import Mesh, ObjectModel

__all__ = [
    'MANIFEST',
    'SCHEMA',
    'Bundle',
    'DecodeSpec',
    'LevelSpec',
    'Measured',
    'NetworkSpec',
    'load_bundle',
    'load_mesh',
    'set_covariance',
    'with_engines',
    'write_bundle',
]

REPORT = 'report.json'
CODES = 'codes'


def load_bundle(folder: Path, with_covariance: bool = True) -> Bundle:
    """Read a bundle and check its manifest, its files and their hashes.

    with_covariance: False leaves a covariance unread, which may be of another version's kind, as it gets replaced.

    Raises:
        BundleError: one line that names the file, the line and the field, and the cure.
    """
    folder = Path(folder)
    manifest = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f'{folder}: no such bundle folder')
    if not manifest.is_file():
        raise BundleError(f'{folder}: has no {MANIFEST}, so it is not a bundle')
    with manifest.open('rb') as handle:
        data = handle.read(MAX_MANIFEST_BYTES + 1)
    bundle = read_bundle(parse_manifest(data, str(manifest)), folder, with_covariance)
    check_files(bundle)
    return replace(bundle, books=load_codes(bundle))


def write_bundle(
    folder: Path,
    *,
    name: str,
    objects: Sequence[ObjectModel],
    network: NetworkSpec,
    decode: DecodeSpec,
    engines: Mapping[str, Path],
    licence: str,
    origin: str,
    training: Optional[Mapping[str, Any]] = None,
    expected: Optional[Mapping[str, float]] = None,
    measured: Optional[Mapping[str, Measured]] = None,
    report: Optional[Mapping[str, Any]] = None,
    covariance: Optional[Mapping[str, Any]] = None,
    meshes: Optional[Mapping[str, Mesh]] = None,
    books: Sequence[CodeBook] = (),
) -> Bundle:
    """Write a bundle aside, check it by loading it, and put it in place of `folder`.

    Args:
        folder: the bundle folder; an existing bundle there is replaced, anything else is refused.
        engines: precision -> file to copy (it becomes ``model_<precision>.<suffix>``, hyphens as underscores).
        meshes: object name -> mesh, stored as plain arrays under ``meshes/``.
        report: plain values, stored as ``report.json``.
        books: surface codes of the objects, stored under ``codes/``; they make it a bundle of the kind dense.

    Raises:
        BundleError: what would be written does not load, or `folder` holds something else.
    """
    folder = Path(folder)
    _check_target(folder)
    with filled_aside(folder) as aside:
        engine_files = {key: _copy(Path(source), aside, key) for key, source in engines.items()}
        mesh_files = {key: _mesh(mesh, aside, key) for key, mesh in (meshes or {}).items()}
        code_files = {book.name: write_codes(aside / CODES, book).relative_to(aside).as_posix() for book in books}
        bundle = Bundle(
            name=name,
            objects=tuple(objects),
            network=network,
            decode=decode,
            folder=aside,
            kind='dense' if books else 'keypoints',
            engines=engine_files,
            licence=licence,
            origin=origin,
            training=training or {},
            expected=expected or {},
            measured=measured or {},
            covariance=covariance,
            meshes=mesh_files,
            codes=code_files,
        )
        documents = [] if report is None else [_report(report, aside)]
        written = (*engine_files.values(), *mesh_files.values(), *code_files.values(), *documents)
        hashes = {x: sha256_file(aside / x) for x in written}
        _write_manifest(aside / MANIFEST, manifest_record(replace(bundle, files=hashes)))
        loaded = load_bundle(aside)
    return replace(loaded, folder=folder)


def set_covariance(folder: Path, covariance: Mapping[str, Any]) -> Bundle:
    """Put a covariance into a bundle's manifest, in place of the one that may be there; nothing else changes.

    Raises:
        BundleError: the bundle does not load, or not with this covariance.
    """
    folder = Path(folder)
    bundle = replace(load_bundle(folder, with_covariance=False), covariance=covariance)
    aside = folder / f'.{MANIFEST}.part'
    try:
        _write_manifest(aside, manifest_record(bundle))
        loaded = read_bundle(parse_manifest(aside.read_bytes(), str(folder / MANIFEST)), folder)
        aside.replace(folder / MANIFEST)
    finally:
        aside.unlink(missing_ok=True)
    return replace(loaded, books=bundle.books)


def with_engines(
    bundle: Bundle,
    folder: Path,
    *,
    engines: Mapping[str, Path],
    measured: Mapping[str, Measured],
    report: Mapping[str, Any],
    name: str = '',
) -> Bundle:
    """Write a bundle with further engines beside what it has, checked, as ``write_bundle`` does.

    Args:
        bundle: a loaded one, whose other files are copied as they are, also those that its manifest does not list.
        folder: where it goes; may be the bundle's own folder.
        engines: precision -> file to copy; one that the bundle has already is replaced.
        measured, report: of all precisions, in place of the bundle's.
        name: of the new bundle, '' for that of the old one.

    Raises:
        BundleError: see ``write_bundle``.
    """
    folder = Path(folder)
    _check_target(folder)
    with filled_aside(folder) as aside:
        files = {precision: _copy(Path(source), aside, precision) for precision, source in engines.items()}
        stale = {bundle.engines[precision] for precision in files if precision in bundle.engines} | {REPORT}
        hashes = {x: digest for x, digest in bundle.files.items() if x not in stale}
        for x in {*hashes, *_unlisted(bundle)}:
            (aside / x).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / x, aside / x)
        hashes.update({x: sha256_file(aside / x) for x in (*files.values(), _report(report, aside))})
        merged = replace(
            bundle,
            name=name or bundle.name,
            engines={**bundle.engines, **files},
            measured=measured,
            files=hashes,
            schema=SCHEMA,
        )
        _write_manifest(aside / MANIFEST, manifest_record(merged))
        loaded = load_bundle(aside)
    return replace(loaded, folder=folder)


def _unlisted(bundle: Bundle) -> List[str]:
    """Plain files in a bundle's folder that its manifest does not list, such as a README."""
    found = [path for path in bundle.folder.rglob('*') if path.is_file() and not path.is_symlink()]
    names = [path.relative_to(bundle.folder).as_posix() for path in found]
    return [name for name in names if name not in (MANIFEST, REPORT, *bundle.files)]


def _check_target(folder: Path) -> None:
    """A folder for a bundle: a new one, an empty one or one with a bundle; else BundleError."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise BundleError(f'{folder}: exists and is not a bundle; choose another folder')
    if folder.exists() and not folder.is_dir():
        raise BundleError(f'{folder}: exists and is not a folder')


def _copy(source: Path, folder: Path, precision: str) -> str:
    if not source.is_file():
        raise BundleError(f'{source}: no such engine file')
    relative = f'model_{precision.replace("-", "_")}{source.suffix}'
    shutil.copyfile(source, folder / relative)
    return relative


def _report(report: Mapping[str, Any], folder: Path) -> str:
    (folder / REPORT).write_text(json.dumps(report, indent=2, allow_nan=False) + '\n', encoding='utf-8')
    return REPORT


def _mesh(mesh: Mesh, folder: Path, name: str) -> str:
    relative = f'meshes/{name}.npz'
    (folder / 'meshes').mkdir(exist_ok=True)
    (folder / relative).write_bytes(mesh_bytes(mesh))
    return relative


class _Dumper(yaml.SafeDumper):
    """No anchors: the reader refuses aliases, and equal lists may well be one object."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_manifest(path: Path, record: Dict[str, Any]) -> None:
    text = yaml.dump(record, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    path.write_text(text, encoding='utf-8')
