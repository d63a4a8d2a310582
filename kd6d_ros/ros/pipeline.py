"""One image message to poses: check, decode, estimate. No ROS in here; the node calls it in its worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Protocol, Tuple

import numpy as np

from kd6d_ros.errors import CameraError, ImageError
from kd6d_ros.foreign_text import shown
from kd6d_ros.inference.image_decoding import compressed_header, decode_compressed
from kd6d_ros.ros.camera_info import CameraInfoReader
from kd6d_ros.ros.stamps import StampGuard

if TYPE_CHECKING:
    from kd6d_ros.inference.workspace import Workspace
    from kd6d_ros.types import Camera, Detection, ImageArray, PoseEstimate


SAME_CAMERA = 0.02
"""K may change by this share of the focal length from image to image (autofocus), and it is still one camera."""


class Estimator(Protocol):
    """What the node needs of ``kd6d_ros.inference.estimator.PoseEstimator``."""

    workspace: Optional[Workspace]

    @property
    def report(self) -> Any: ...

    @property
    def can_find(self) -> bool: ...

    def estimate(
        self, image: ImageArray, camera: Camera, stamp: float, detections: Optional[List[Detection]] = None
    ) -> List[PoseEstimate]: ...

    def reset(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Frame:
    """An image as it arrived, with what belongs to it. `received` [s] on the monotonic clock."""

    message: Any
    info: Any
    compressed: bool
    received: float
    detections: Optional[List[Detection]] = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one image gave. `stages` [s]: queue, image_decode, then those of the estimator's report;
    `decoded_at` [s] on the monotonic clock: when the RGB image was ready."""

    header: Any
    poses: List[PoseEstimate]
    image: ImageArray
    camera: Camera
    decoded_at: float
    stages: Dict[str, float]
    report: Any
    note: str = ''
    rejections: Tuple[Any, ...] = field(default=())
    reset: bool = False
    """Time went back or the camera is another one: what was known before this image does not count any more."""


class FramePipeline:
    """Checks, decodes and estimates; used by one thread at a time."""

    def __init__(
        self,
        estimator: Estimator,
        decode: Callable[[Any, int], ImageArray],
        rectified: bool,
        max_pixels: int,
        back_jump_s: float,
        workspace: Callable[[str, int], Optional[Workspace]] = lambda frame_id, stamp: None,
    ) -> None:
        """`workspace`: for the frame and stamp [ns] of an image."""
        self.estimator = estimator
        self._workspace = workspace
        self._decode, self._max_pixels = decode, max_pixels
        self._infos = CameraInfoReader(rectified)
        self._stamps = StampGuard(back_jump_s)
        self._camera: Optional[Camera] = None
        self._frame_id = ''

    def reset(self) -> None:
        """Forget instances, stamps and the camera."""
        self._stamps.reset()
        self._frame_id, self._camera = '', None
        self.estimator.reset()

    def process(self, frame: Frame, waited_s: float = 0.0) -> Outcome:
        """`waited_s`: from the arrival of the image until now.

        Raises:
            ImageError, CameraError, EngineError...: one line with the cure; nothing may be published.
        """
        started = monotonic()
        message = frame.message
        header = message.header
        if not header.frame_id:
            raise ImageError(
                'image frame_id is empty: set the frame of the camera driver (camera optical frame), '
                'since poses and TF refer to it'
            )
        if header.stamp.nanosec >= 10**9:
            raise ImageError(
                f'image stamp has {header.stamp.nanosec} nanoseconds, a second or more: correct the camera driver'
            )
        verdict = self._stamps.check(stamp_ns(header))
        if frame.info is None:
            raise CameraError('no CameraInfo has arrived yet: publish it beside the image or remap camera_info')
        if frame.compressed:
            # A small file can unfold into a large image: it stays folded unless CameraInfo is of its size.
            claim = compressed_header(message, self._max_pixels)
            self._infos.camera(frame.info, claim.width, claim.height, header.frame_id)
        decode = decode_compressed if frame.compressed else self._decode
        image = decode(message, self._max_pixels)
        camera = self._infos.camera(frame.info, image.shape[1], image.shape[0], header.frame_id)
        switched = self._switched(camera, header.frame_id)
        if verdict.reset or switched:
            self.estimator.reset()
        self._frame_id, self._camera = header.frame_id, camera
        self.estimator.workspace = self._workspace(header.frame_id, stamp_ns(header))
        self._stamps.accept(stamp_ns(header))
        decoded_at = monotonic()
        poses = self.estimator.estimate(image, camera, stamp_ns(header) * 1e-9, frame.detections)
        report = self.estimator.report
        stages = {'queue': waited_s, 'image_decode': decoded_at - started}
        stages.update(report.stages)
        note, reset = verdict.note or switched or report.note, verdict.reset or bool(switched)
        return Outcome(header, poses, image, camera, decoded_at, stages, report, note, report.rejections, reset)

    def _switched(self, camera: Camera, frame_id: str) -> str:
        """One line when this is another camera than that of the last image: tracks are poses in a camera's frame."""
        last = self._camera
        if last is None:
            return ''
        if frame_id != self._frame_id:
            return f'the camera changed from frame {shown(self._frame_id)} to {shown(frame_id)}: tracking reset'
        if (camera.width, camera.height, camera.model) != (last.width, last.height, last.model):
            return f'the image changed to {camera.width}x{camera.height} px, {camera.model}: tracking reset'
        shift = float(np.abs(camera.matrix - last.matrix).max() / last.matrix[0, 0])
        return f'CameraInfo changed by {shift:.0%} of the focal length: tracking reset' if shift > SAME_CAMERA else ''


def stamp_ns(header: Any) -> int:
    """Stamp of a std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
