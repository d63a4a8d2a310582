"""Reader of BOP datasets in the classic layouts (LM, LM-O, YCB-V, T-LESS, HOPE...).

    ROOT/camera.json  ROOT/models/  ROOT/SPLIT/000002/{rgb|gray,depth,mask,mask_visib}/000017.png
    ROOT/SPLIT/000002/{scene_camera,scene_gt,scene_gt_info}.json

Files are millimetres, everything handed out is metres. Scenes are listed at once and read when first asked.
Layout: https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md. Imports neither torch
nor trimesh, so that commands of the robot side can read datasets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

from kd6d_ros.data import bop_json
from kd6d_ros.data.bop_lists import DetectionTable, read_detections, read_models_info, read_targets
from kd6d_ros.data.bop_records import Annotation, BopDetection, ModelInfo, Target
from kd6d_ros.data.bop_scene import BopScene, shortened
from kd6d_ros.errors import DatasetError

__all__ = [
    'Annotation',
    'BopDataset',
    'BopDetection',
    'BopScene',
    'DetectionTable',
    'ModelInfo',
    'Target',
    'read_detections',
    'read_models_info',
    'read_targets',
]


class BopDataset:
    """A dataset folder with splits such as 'test' or 'train_pbr'; make it with ``BopDataset.open``."""

    def __init__(self, root: Path, splits: Dict[str, Dict[int, Path]]) -> None:
        self.root = root
        self._splits = splits
        self._scenes: Dict[Tuple[str, int], BopScene] = {}

    @staticmethod
    def open(root: Path) -> BopDataset:
        """List the splits and scenes of `root`; no scene is read yet.

        Raises:
            DatasetError: no such folder, or no split with scenes in it.
        """
        root = Path(root)
        if not root.is_dir():
            raise DatasetError(f'{root}: no such folder; expected a BOP dataset (SPLIT/000001/scene_camera.json)')
        splits = {}
        for folder in sorted(item for item in root.iterdir() if item.is_dir()):
            scenes = _scene_folders(folder)
            if scenes:
                splits[folder.name] = scenes
        if not splits:
            raise DatasetError(
                f'{root}: holds no scenes; expected SPLIT/000001/scene_camera.json, with SPLIT such as test'
            )
        return BopDataset(root, splits)

    @property
    def splits(self) -> Tuple[str, ...]:
        """Names of the splits, sorted."""
        return tuple(self._splits)

    def split(self, name: str) -> Tuple[int, ...]:
        """Scene ids of a split, ascending.

        Raises:
            DatasetError: no such split; names those there are.
        """
        return tuple(self._folders(name))

    def _folders(self, name: str) -> Dict[int, Path]:
        if name not in self._splits:
            known = ', '.join(self._splits)
            raise DatasetError(f'{self.root}: no split {name!r} with scenes; it has {known}')
        return self._splits[name]

    def scene(self, split: str, scene_id: int) -> BopScene:
        """One scene; the same object for the same arguments.

        Raises:
            DatasetError: no such split or scene.
        """
        folders = self._folders(split)
        if scene_id not in folders:
            raise DatasetError(f'{self.root / split}: no scene {scene_id}; it has {shortened(list(folders))}')
        key = (split, scene_id)
        if key not in self._scenes:
            self._scenes[key] = BopScene(folders[scene_id], scene_id)
        return self._scenes[key]

    def forget(self, split: str, scene_id: int) -> None:
        """Give up the memory of a scene; it is read again when next asked for."""
        self._scenes.pop((split, scene_id), None)

    def models_info(self, folder: str = 'models') -> Dict[int, ModelInfo]:
        """models_info.json of the folder 'models', 'models_eval'... (see ``read_models_info``)."""
        return read_models_info(self.root / folder / 'models_info.json')


def _scene_folders(folder: Path) -> Dict[int, Path]:
    found = {}
    for item in folder.iterdir():
        ident = bop_json.as_id(item.name)
        if ident is not None and (item / 'scene_camera.json').is_file():
            found[ident] = item
    return dict(sorted(found.items()))
