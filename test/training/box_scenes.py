"""A BOP dataset of two boxes drawn with OpenCV, for tests of training."""

from __future__ import annotations

import json

import cv2
import numpy as np

from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord
from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.types import ObjectModel, RigidTransform

CAMERA = make_camera(np.array([[200.0, 0, 79.5], [0, 200, 59.5], [0, 0, 1]]), 160, 120)
CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.04, 0.04) for z in (-0.03, 0.03)])
BOX = ObjectModel('box', 1, 0.141, CORNERS)
CAN = ObjectModel('can', 2, 0.141, CORNERS)


def write_scene(root, scene, images=4, seed=0, depth=None):
    """Two objects as filled hulls of their corners, the second before the first; `depth` (H, W) [m] of all images."""
    rng = np.random.default_rng(seed + scene)
    writer = BopSceneWriter(root / 'train' / f'{scene:06d}')
    for image_id in range(images):
        picture = rng.integers(0, 60, (120, 160, 3), dtype=np.uint8)
        masks, poses = [], []
        for index in range(2):
            turn, _ = cv2.Rodrigues(rng.normal(size=3))
            pose = RigidTransform(turn, [-0.06 + 0.12 * index, 0.02 * image_id - 0.03, 0.5])
            mask = np.zeros((120, 160), np.uint8)
            hull = cv2.convexHull(project(CAMERA, pose.apply(CORNERS)).astype(np.float32))
            cv2.fillConvexPoly(mask, hull.round().astype(np.int32), 255)
            picture[mask > 0] = (220, 40 + 100 * index, 40)
            masks.append(mask)
            poses.append(pose)
        visible = [np.where(masks[1] > 0, 0, masks[0]).astype(np.uint8), masks[1]]
        instances = tuple(InstanceRecord(i + 1, poses[i], masks[i], visible[i]) for i in range(2))
        writer.write(ImageRecord(image_id, CAMERA, picture, depth, instances))
    writer.finalise()


def write_models(root):
    """models_info.json and box-shaped meshes of both objects, as `load_objects` reads them [mm]."""
    import trimesh

    folder = root / 'models'
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    size = 1000 * (CORNERS.max(0) - CORNERS.min(0))
    for model in (BOX, CAN):
        trimesh.creation.box(size).export(folder / f'obj_{model.obj_id:06d}.ply')
        low = (-size / 2).tolist()
        entries[str(model.obj_id)] = {
            'diameter': 1000 * model.diameter,
            **{f'min_{axis}': value for axis, value in zip('xyz', low, strict=True)},
            **{f'size_{axis}': value for axis, value in zip('xyz', size.tolist(), strict=True)},
        }
    (folder / 'models_info.json').write_text(json.dumps(entries))


def write_photos(root):
    """Folder photo_set and boxes.json: six images with all their objects as targets, and a box for each but for the
    first object of image 0."""
    write_scene(root / 'photo_set', 0, images=6, seed=99)
    write_models(root / 'photo_set')
    targets, boxes = [], []
    info = json.loads((root / 'photo_set' / 'train' / '000000' / 'scene_gt_info.json').read_text())
    for image, objects in info.items():
        for number, entry in enumerate(objects):
            place = {'scene_id': 0, 'obj_id': number + 1}
            targets.append({**place, 'im_id': int(image), 'inst_count': 1})
            if (image, number) != ('0', 0):
                box = {'scene_id': 0, 'image_id': int(image), 'category_id': number + 1, 'score': 0.9}
                boxes.append({**box, 'bbox': entry['bbox_visib'], 'time': 0.1})
    (root / 'photo_set' / 'test_targets_bop19.json').write_text(json.dumps(targets))
    (root / 'boxes.json').write_text(json.dumps(boxes))
