"""A painted box drawn with OpenCV (no renderer), with depth in closed form, as a BOP dataset."""

from __future__ import annotations

import json

import cv2
import numpy as np

from kd6d_ros.geometry.cameras import make_camera, project
from kd6d_ros.types import RigidTransform

CAMERA = make_camera(np.array([[200.0, 0, 79.5], [0, 200, 59.5], [0, 0, 1]]), 160, 120)
HALF = np.array([0.06, 0.045, 0.03])
FACES = {
    (0, -1): (230, 40, 40), (0, 1): (40, 200, 60), (1, -1): (50, 70, 230),
    (1, 1): (240, 220, 40), (2, -1): (220, 60, 220), (2, 1): (40, 220, 230),
}  # fmt: skip
BASE = cv2.Rodrigues(np.array([0.5, -0.7, 0.2]))[0]


def face_corners(axis, sign):
    a, b = [i for i in range(3) if i != axis]
    corners = np.zeros((4, 3))
    corners[:, axis] = sign * HALF[axis]
    corners[:, a] = HALF[a] * np.array([-1, 1, 1, -1])
    corners[:, b] = HALF[b] * np.array([-1, -1, 1, 1])
    return corners


def draw(pose, rng):
    """Image and mask of the box: faces that look at the camera, each with its colour."""
    image = cv2.resize(rng.integers(0, 160, (6, 8, 3), dtype=np.uint8), (160, 120))
    mask = np.zeros((120, 160), np.uint8)
    for (axis, sign), colour in FACES.items():
        corners = pose.apply(face_corners(axis, sign))
        normal = pose.rotation[:, axis] * sign
        if normal @ corners.mean(0) < 0:
            outline = (16 * project(CAMERA, corners)).round().astype(np.int32)
            cv2.fillConvexPoly(image, outline, colour, cv2.LINE_AA, shift=4)
            cv2.fillConvexPoly(mask, outline, 255, shift=4)
    return image, mask


def random_pose(rng):
    turn = rng.normal(size=3)
    turn *= np.deg2rad(rng.uniform(0, 35)) / np.linalg.norm(turn)
    place = [rng.uniform(-0.08, 0.08), rng.uniform(-0.05, 0.05), rng.uniform(0.4, 0.6)]
    return RigidTransform(cv2.Rodrigues(turn)[0] @ BASE, place)


def box_depth(pose):
    """Depth (120, 160) float32 [m] of the box, 0 beside it: rays against the slabs between its faces."""
    columns, rows = np.meshgrid(np.arange(160), np.arange(120))
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(CAMERA.matrix).T @ pose.rotation
    origin = -pose.rotation.T @ pose.translation
    ends = (np.stack([-HALF, HALF])[:, None, None] - origin) / rays
    near, far = ends.min(0).max(-1), ends.max(0).min(-1)
    return np.where(near < far, near, 0.0).astype(np.float32)


def write_models(root):
    """models_info.json [mm] and objects.yaml; there is no mesh."""
    size = 2000 * HALF
    info = {'diameter': float(np.linalg.norm(size))}
    for axis, low, length in zip('xyz', -size / 2, size, strict=True):
        info |= {f'min_{axis}': low, f'size_{axis}': length}
    (root / 'models').mkdir()
    (root / 'models' / 'models_info.json').write_text(json.dumps({'1': info}))
    (root / 'models' / 'objects.yaml').write_text('objects: {1: {name: painted_box}}\n')
