"""What the hostile run shows to the node: frames of a bag with and without its object, and their messages."""

from __future__ import annotations

import array
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd6d_ros.benchmark.bag_frames import read_frames
from kd6d_ros.benchmark.bag_source import BagSource
from kd6d_ros.benchmark.recording import Recording
from kd6d_ros.benchmark.records import BagFrame, TruthObject
from kd6d_ros.geometry.cameras import project

CAMERA, ELSEWHERE = 'camera', 'elsewhere'
"""Frame of the good images, and of those that go with a bad CameraInfo: a slow node may pair the latter with the next
CameraInfo, which must not make a good pair of the two."""
CLEAR = 0.99
"""Visible fraction from which a frame is a good one."""
SHOWN, EMPTY = 24, 4
"""Frames that are kept."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame of the bag with the objects in it."""

    frame: BagFrame
    truth: tuple[TruthObject, ...]


class Scene:
    """Messages for one camera; stamps grow with the wall clock and none comes twice."""

    def __init__(self, recording: Recording, rng: np.random.Generator) -> None:
        self.rng = rng
        stamps = sorted(recording.truth)
        clear = [ns for ns in stamps if all(item.visible_fraction >= CLEAR for item in recording.truth[ns])]
        clear = [ns for ns in clear if recording.truth[ns]]
        away = [ns for ns in stamps if not any(item.visible_fraction > 0 for item in recording.truth[ns])]
        wanted = {int(ns) for kept, most in ((clear, SHOWN), (away, EMPTY)) for ns in rng.permutation(kept)[:most]}
        shots = _read(recording.path, recording, wanted)
        self.candidates = [shot for shot in shots if shot.frame.stamp_ns in set(clear)]
        self.clear = self.candidates
        self.empty = [shot for shot in shots if shot.frame.stamp_ns in set(away)]
        self._last_ns = 0

    def stamp_ns(self) -> int:
        """A stamp [ns] of now that no other message has."""
        self._last_ns = max(self._last_ns + 1_000_000, time.time_ns())
        return self._last_ns

    def header(self, frame_id: str = CAMERA, stamp_ns: int | None = None) -> Any:
        from std_msgs.msg import Header

        header = Header(frame_id=frame_id)
        ns = self.stamp_ns() if stamp_ns is None else stamp_ns
        header.stamp.sec, header.stamp.nanosec = divmod(ns, 10**9)
        return header

    def raw(self, shot: Shot, header: Any) -> Any:
        from sensor_msgs.msg import Image

        height, width = shot.frame.image.shape[:2]
        message = Image(header=header, width=width, height=height, encoding='rgb8', step=3 * width)
        message.data = array.array('B', shot.frame.image.tobytes())
        return message

    def compressed(self, shot: Shot, header: Any) -> Any:
        from sensor_msgs.msg import CompressedImage

        return CompressedImage(header=header, format='jpeg', data=array.array('B', jpeg(shot.frame.image)))

    def info(self, header: Any) -> Any:
        """The right CameraInfo, for raw and rectified images alike (the demo camera does not distort)."""
        from sensor_msgs.msg import CameraInfo

        camera = self.clear[0].frame.camera
        info = CameraInfo(header=header, width=camera.width, height=camera.height, distortion_model='plumb_bob')
        info.d, info.k = [0.0] * 5, camera.matrix.reshape(9)
        info.p = np.hstack([camera.matrix, np.zeros((3, 1))]).reshape(12)
        return info

    def boxes(self, shot: Shot, header: Any, corners: dict[str, np.ndarray]) -> Any:
        """The right detections: boxes around the projected `corners` (8, 3) [m] of each object."""
        from vision_msgs.msg import Detection2DArray

        message = Detection2DArray(header=header)
        for item in shot.truth:
            points = project(shot.frame.camera, item.cam_from_obj.apply(corners[item.object_name]))
            low, high = points.min(axis=0), points.max(axis=0)
            message.detections.append(detection(item.object_name, *((low + high) / 2), *(high - low)))
        return message

    def pick(self, shots: list[Shot]) -> Shot:
        return shots[int(self.rng.integers(len(shots)))]


def detection(name: str, x: float, y: float, width: float, height: float, score: float = 0.9) -> Any:
    """vision_msgs/Detection2D with one hypothesis."""
    from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

    item, hypothesis = Detection2D(), ObjectHypothesisWithPose()
    item.bbox.center.position.x, item.bbox.center.position.y = float(x), float(y)
    item.bbox.size_x, item.bbox.size_y = float(width), float(height)
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = name, float(score)
    item.results.append(hypothesis)
    return item


def jpeg(image: np.ndarray, *options: int) -> bytes:
    return _encode('.jpg', image, *options)


def png(image: np.ndarray) -> bytes:
    return _encode('.png', image)


def _encode(ending: str, image: np.ndarray, *options: int) -> bytes:
    import cv2

    pixels = image[:, :, ::-1] if image.ndim == 3 else image
    data: bytes = cv2.imencode(ending, np.ascontiguousarray(pixels), list(options))[1].tobytes()
    return data


def _read(path: Path, recording: Recording, wanted: set[int]) -> list[Shot]:
    with BagSource(path) as source:
        frames = [frame for frame in read_frames(source, recording.topics) if frame.stamp_ns in wanted]
    return [Shot(frame, recording.truth[frame.stamp_ns]) for frame in frames]
