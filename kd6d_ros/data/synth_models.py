"""OUT/models and OUT/camera.json of a synth set, so that it stands alone as a BOP dataset."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from kd6d_ros.data.bop_write import write_aside
from kd6d_ros.data.mesh_files import mesh_ply
from kd6d_ros.data.objects_yaml import write_objects_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.data.synth import SynthJob
    from kd6d_ros.types import ObjectModel


def write_models(models_dir: Path, job: SynthJob) -> None:
    """Copy a BOP models folder's meshes and models_info.json, or write those of a plain folder's objects."""
    folder = job.out / 'models'
    folder.mkdir(parents=True, exist_ok=True)
    source = models_dir / 'models_info.json'
    if source.is_file():
        wanted = {f'obj_{model.obj_id:06d}' for model in job.models}
        for path in sorted(models_dir.iterdir()):
            if path.stem in wanted and path.is_file():
                aside = folder / f'.{path.name}.part'
                shutil.copyfile(path, aside)
                aside.replace(folder / path.name)
        write_aside(folder / 'models_info.json', source.read_bytes())
    else:
        for model in job.models:
            assert model.mesh is not None, 'load_objects read it'
            write_aside(folder / f'obj_{model.obj_id:06d}.ply', mesh_ply(model.mesh))
        info = {str(model.obj_id): model_info(model) for model in job.models}
        write_aside(folder / 'models_info.json', (json.dumps(info, indent=1) + '\n').encode())
    write_objects_yaml(folder, job.models)  # names are not part of models_info.json
    matrix = job.camera.matrix
    camera = {
        'fx': matrix[0, 0], 'fy': matrix[1, 1], 'cx': matrix[0, 2], 'cy': matrix[1, 2],
        'width': job.camera.width, 'height': job.camera.height, 'depth_scale': 0.1,
    }  # fmt: skip
    write_aside(job.out / 'camera.json', (json.dumps(camera, indent=1) + '\n').encode())


def model_info(model: ObjectModel) -> dict[str, Any]:
    """The object's entry of models_info.json [mm]."""
    low, high = model.keypoints.min(axis=0) * 1000.0, model.keypoints.max(axis=0) * 1000.0
    entry: dict[str, Any] = {'diameter': model.diameter * 1000.0}
    for axis, name in enumerate('xyz'):
        entry[f'min_{name}'] = low[axis]
        entry[f'size_{name}'] = high[axis] - low[axis]
    if model.symmetries.discrete:
        entry['symmetries_discrete'] = []
        for transform in model.symmetries.discrete:
            matrix = transform.matrix()
            matrix[:3, 3] *= 1000.0
            entry['symmetries_discrete'].append(matrix.ravel().tolist())
    if model.symmetries.continuous:
        entry['symmetries_continuous'] = [
            {'axis': s.axis.tolist(), 'offset': (np.asarray(s.offset) * 1000.0).tolist()}
            for s in model.symmetries.continuous
        ]
    return entry
