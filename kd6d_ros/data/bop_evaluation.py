"""What the evaluation needs of a BOP dataset: meshes to score by, and targets with their ground truth."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Dict, Iterator, List, Sequence, Tuple

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
    """All targets at once; see ``iterate_targets``."""
    return list(iterate_targets(dataset, split, wanted, source))


def iterate_targets(
    dataset: BopDataset, split: str, wanted: Sequence[Target], source: Path
) -> Iterator[EvaluationTarget]:
    """Targets with camera and ground truth, image by image; one scene is in memory at a time.

    Raises:
        DatasetError: a target names a scene, image or object that the split's ground truth lacks.
    """
    ordered = sorted(wanted, key=lambda target: (target.scene_id, target.image_id))
    for scene_id, of_scene in itertools.groupby(ordered, key=lambda target: target.scene_id):
        scene = dataset.scene(split, scene_id)
        for image_id, of_image in itertools.groupby(of_scene, key=lambda target: target.image_id):
            camera, annotations = scene.camera(image_id), scene.annotations(image_id)
            for target in of_image:
                truths = tuple(
                    GroundTruth(item.cam_from_obj, item.visible_fraction)
                    for item in annotations
                    if item.obj_id == target.obj_id
                )
                if len(truths) < target.count:
                    raise DatasetError(
                        f'{source}: scene {scene_id} image {image_id} asks for {target.count} of object '
                        f'{target.obj_id}, the ground truth of split {split!r} has {len(truths)}'
                    )
                yield EvaluationTarget(scene_id, image_id, target.obj_id, target.count, camera, truths)
        dataset.forget(split, scene_id)


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
