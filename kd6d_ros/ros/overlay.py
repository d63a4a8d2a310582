"""The picture for people: the 3D box and the axes of every pose, drawn into the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, List, Mapping, Tuple

import cv2
import numpy as np

from kd6d_ros.geometry.cameras import project

if TYPE_CHECKING:
    from kd6d_ros.types import Camera, FloatArray, ImageArray, ObjectModel, PoseEstimate

COLOURS = ((230, 80, 60), (70, 170, 250), (90, 200, 90), (240, 190, 50), (180, 110, 230), (60, 200, 200))
AXES = ((255, 40, 40), (40, 220, 40), (60, 90, 255))


def draw_poses(
    image: ImageArray, camera: Camera, poses: Iterable[PoseEstimate], models: Mapping[str, ObjectModel]
) -> ImageArray:
    """Copy of an RGB image (H, W, 3) with box, axes (x red, y green, z blue), instance id and score."""
    canvas: ImageArray = np.array(image)
    order = {name: index for index, name in enumerate(models)}
    for pose in poses:
        model = models[pose.object_name]
        colour = COLOURS[order[pose.object_name] % len(COLOURS)]
        corners = project(camera, pose.cam_from_obj.apply(model.keypoints))
        for a, b in box_edges(model.keypoints):
            _line(canvas, corners[a], corners[b], colour)
        length = 0.5 * model.diameter
        tips = np.concatenate([np.zeros((1, 3)), length * np.eye(3)])
        axes = project(camera, pose.cam_from_obj.apply(tips))
        for axis in range(3):
            _line(canvas, axes[0], axes[axis + 1], AXES[axis])
        _label(canvas, corners, f'{pose.instance_id} {pose.score:.2f}', colour)
    return canvas


def box_edges(corners: FloatArray) -> List[Tuple[int, int]]:
    """The 12 pairs out of the 8 corners (8, 3) of an axis-aligned box that differ along one axis only."""
    high = corners > (corners.min(axis=0) + corners.max(axis=0)) / 2
    pairs = [(a, b) for a in range(len(corners)) for b in range(a + 1, len(corners))]
    return [(a, b) for a, b in pairs if int((high[a] != high[b]).sum()) == 1]


def _line(canvas: ImageArray, a: FloatArray, b: FloatArray, colour: Tuple[int, int, int]) -> None:
    # OpenCV overflows on far points; what lies that far out is not visible anyway.
    if np.isfinite([a, b]).all() and np.abs([a, b]).max() < 1e5:
        start, end = np.rint(a).astype(int).tolist(), np.rint(b).astype(int).tolist()
        cv2.line(canvas, tuple(start), tuple(end), colour, 2, cv2.LINE_AA)


def _label(canvas: ImageArray, corners: FloatArray, text: str, colour: Tuple[int, int, int]) -> None:
    seen = corners[np.isfinite(corners).all(axis=1)]
    if not len(seen):
        return
    height, width = canvas.shape[:2]
    x = int(np.clip(seen[:, 0].min(), 2, max(2, width - 100)))
    y = int(np.clip(seen[:, 1].min() - 6, 14, height - 4))
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
