"""Where a bundle lies: a path, or the name of one that came with the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Union

from kd6d_ros.errors import BundleError
from kd6d_ros.inference.bundle_records import MANIFEST


def model_folders() -> List[Path]:
    """Folders that may hold bundles by name: share/kd6d_ros/models of every sourced ROS 2 workspace (through
    the ament index, without importing it), then models/ of the repository this package is run from."""
    prefixes = [item for item in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if item]
    shares = [Path(prefix) / 'share' / 'kd6d_ros' for prefix in prefixes]
    folders = [share / 'models' for share in shares]
    folders.append(Path(__file__).resolve().parents[2] / 'models')
    return [folder for folder in folders if folder.is_dir()]


def installed_bundles() -> List[str]:
    """Names of the bundles that ``find_bundle`` finds without a path, sorted."""
    found = {item.parent.name for folder in model_folders() for item in folder.glob(f'*/{MANIFEST}')}
    return sorted(found)


def find_bundle(name_or_path: Union[str, Path]) -> Path:
    """Folder of a bundle given by path or by name.

    A path that exists wins; a bare name is looked up in ``model_folders``.

    Raises:
        BundleError: neither exists; names the bundles that are installed.
    """
    text = str(name_or_path).strip()
    if not text:
        raise BundleError(f'no bundle given: give a folder or one of {_known()}')
    path = Path(text).expanduser()
    if path.name == MANIFEST and path.is_file():
        return _real(path)
    if (path / MANIFEST).is_file():
        return _real(path / MANIFEST)
    if path.name == text and text not in ('.', '..'):
        for folder in model_folders():
            if (folder / text / MANIFEST).is_file():
                return _real(folder / text / MANIFEST)
    if path.is_dir():
        raise BundleError(f'{path}: has no {MANIFEST}, so it is not a bundle')
    raise BundleError(f'{text}: no such bundle; give a folder or one of {_known()}')


def _real(manifest: Path) -> Path:
    # colcon build --symlink-install installs each file as a link into the source tree; the loader refuses
    # links, so it is shown the folder where the files themselves lie.
    return manifest.resolve().parent


def _known() -> str:
    return ', '.join(installed_bundles()) or 'the installed bundles (there are none)'
