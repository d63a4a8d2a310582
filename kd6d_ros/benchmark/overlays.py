"""Pictures for the report: the true box in white, the published one in the colour of its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from kd6d_ros.benchmark.scoring import ABSENT_POSE, HIDDEN_WRONG, RIGHT, WRONG, ObjectOutcome
from kd6d_ros.geometry.cameras import project

if TYPE_CHECKING:
    from kd6d_ros.benchmark.records import BagFrame
    from kd6d_ros.types import Camera, FloatArray, ImageArray, ObjectModel, RigidTransform

GREEN, RED, WHITE = (40, 220, 90), (240, 50, 40), (255, 255, 255)


def box_edges(corners: FloatArray) -> List[Tuple[int, int]]:
    """Pairs of the 8 corners (8, 3) that differ along one axis only: the 12 edges, whatever the order."""
    extent = np.ptp(corners, axis=0) + 1e-12
    side = (np.abs(corners - corners.min(axis=0)) / extent).round().astype(int)
    return [(a, b) for a in range(8) for b in range(a) if np.abs(side[a] - side[b]).sum() == 1]


def draw_box(
    image: ImageArray, camera: Camera, pose: RigidTransform, corners: FloatArray, colour: Tuple[int, int, int]
) -> None:
    """Draw the projected box onto image (H, W, 3) RGB; a box that reaches behind the camera is left out."""
    import cv2

    points = pose.apply(corners)
    if points[:, 2].min() <= 0.01:
        return
    pixels = project(camera, points)
    if not np.isfinite(pixels).all() or np.abs(pixels).max() > 20_000:
        return
    for a, b in box_edges(np.asarray(corners)):
        start, end = (tuple(round(float(v) * 16) for v in pixels[i]) for i in (a, b))
        cv2.line(image, start, end, colour, 1, cv2.LINE_AA, 4)


def draw_outcomes(frame: BagFrame, outcomes: Sequence[ObjectOutcome], models: Mapping[str, ObjectModel]) -> ImageArray:
    """The frame with the boxes of all its objects: (H, W, 3) uint8 RGB."""
    image: ImageArray = frame.image.copy()
    for item in outcomes:
        corners = models[item.truth.object_name].keypoints
        if item.truth.visible_fraction > 0:
            draw_box(image, frame.camera, item.truth.cam_from_obj, corners, WHITE)
        if item.pose is not None:
            wrong = item.outcome in (WRONG, HIDDEN_WRONG, ABSENT_POSE)
            draw_box(image, frame.camera, item.pose.cam_from_obj, corners, RED if wrong else GREEN)
    return image


def choose_frames(outcomes: Sequence[ObjectOutcome], count: int = 12) -> Dict[int, str]:
    """Frame -> caption: evenly spread over the run, and up to a third of them failures."""
    if not outcomes:
        return {}
    last = max(item.frame for item in outcomes)
    failures = [item.frame for item in outcomes if item.outcome in (WRONG, HIDDEN_WRONG, ABSENT_POSE)]
    some = failures[:: max(1, len(failures) // (count // 3))][: count // 3]
    spread = np.linspace(0, last, count - len(some)).round().astype(int).tolist()
    chosen = sorted({*some, *spread})
    captions: Dict[int, str] = {}
    for item in outcomes:
        if item.frame in chosen:
            captions.setdefault(item.frame, f'frame {item.frame}')
            captions[item.frame] += f' · {item.truth.object_name}: {describe(item)}'
    return captions


def describe(item: ObjectOutcome) -> str:
    """Outcome, visible fraction and error in words."""
    text = f'{item.outcome}, {100 * item.truth.visible_fraction:.0f} % visible'
    if item.error_m is not None:
        text += f', ADD {1e3 * item.error_m:.1f} mm'
    return text if item.outcome != RIGHT or item.pose is None else f'{text}, score {item.pose.score:.2f}'
