"""What the evaluation needs of a BOP dataset: meshes to score by, and targets with their ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from kd6d_ros.errors import ConfigError, DatasetError
from kd6d_ros.evaluation.records import EvaluationObject, EvaluationTarget, GroundTruth
from kd6d_ros.geometry.ply import read_ply

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.data.bop import BopDataset, ModelInfo, Target
    from kd6d_ros.types import ObjectModel

SAME_OBJECT = 0.1
"""Relative difference of diameters within which a bundle and a dataset mean the same object."""


def models_folder(dataset: BopDataset) -> Tuple[Path, Dict[int, ModelInfo]]:
    """The folder BOP evaluates with: models_eval (closed, evenly sampled meshes) when there, else models."""
    for name in ('models_eval', 'models'):
        if (dataset.root / name / 'models_info.json').is_file():
            return dataset.root / name, dataset.models_info(name)
    raise DatasetError(f'{dataset.root}: neither models_eval nor models has a models_info.json')


def load_evaluation_objects(
    folder: Path, infos: Dict[int, ModelInfo], obj_ids: Sequence[int]
) -> Dict[int, EvaluationObject]:
    """Vertices (metres), diameters and symmetries of the objects that the targets name."""
    objects = {}
    for obj_id in obj_ids:
        if obj_id not in infos:
            raise DatasetError(f'{folder / "models_info.json"}: has no object {obj_id}, which a target names')
        info = infos[obj_id]
        mesh = read_ply(folder / f'obj_{obj_id:06d}.ply', 0.001)
        objects[obj_id] = EvaluationObject(obj_id, info.diameter, mesh.vertices, info.symmetries)
    return objects


def collect_targets(dataset: BopDataset, split: str, wanted: Sequence[Target], source: Path) -> List[EvaluationTarget]:
    """Targets with camera and ground truth.

    Raises:
        DatasetError: a target names a scene, image or object that the split's ground truth lacks.
    """
    targets, cameras, annotations = [], {}, {}
    for target in wanted:
        image = (target.scene_id, target.image_id)
        if image not in cameras:
            scene = dataset.scene(split, target.scene_id)
            cameras[image] = scene.camera(target.image_id)
            annotations[image] = scene.annotations(target.image_id)
        truths = tuple(
            GroundTruth(item.cam_from_obj, item.visible_fraction)
            for item in annotations[image]
            if item.obj_id == target.obj_id
        )
        if len(truths) < target.count:
            raise DatasetError(
                f'{source}: scene {image[0]} image {image[1]} asks for {target.count} of object '
                f'{target.obj_id}, the ground truth of split {split!r} has {len(truths)}'
            )
        targets.append(
            EvaluationTarget(*image, target.obj_id, target.count, cameras[image], truths),
        )
    return targets


def check_sizes(dataset: BopDataset, objects: Sequence[ObjectModel], owner: str) -> None:
    """Object 1 of one dataset is not object 1 of another: their diameters tell.

    Args:
        owner: whose objects these are, for the message: "bundle 'mug'".

    Raises:
        ConfigError: an object of the same id has another size in the dataset.
    """
    name = next((x for x in ('models', 'models_eval') if (dataset.root / x / 'models_info.json').is_file()), '')
    infos = dataset.models_info(name) if name else {}
    for model in objects:
        info = infos.get(model.obj_id)
        if info is not None and abs(info.diameter - model.diameter) > SAME_OBJECT * info.diameter:
            ours, theirs = 1000 * model.diameter, 1000 * info.diameter
            raise ConfigError(
                f'object {model.obj_id} of {owner} ({model.name}) is {ours:.1f} mm across, '
                f'that of {dataset.root} {theirs:.1f} mm: take the bundle that was trained on these objects'
            )
