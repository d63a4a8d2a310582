"""Writing MCAP bags with images, CameraInfo and ground truth, without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from kd6d_ros.benchmark import bag_messages, messages
from kd6d_ros.benchmark.bag_file import BagFile
from kd6d_ros.errors import BagError

if TYPE_CHECKING:
    from kd6d_ros.benchmark.records import TruthObject
    from kd6d_ros.types import Camera, ImageArray

FORMATS = ('jpeg', 'png', 'raw')


class BagWriter(BagFile):
    """Collects one camera's images with ground truth; use it as a context manager.

    Topics: ``<camera>/image_raw`` (raw) or ``<camera>/image_raw/compressed`` (jpeg, png),
    ``<camera>/camera_info`` and ``/ground_truth`` (vision_msgs/Detection3DArray; the score of a hypothesis
    is the visible fraction of the object).

    Raises:
        BagError: the target exists, its parent cannot be written, or the format is unknown.
    """

    def __init__(
        self, path: Path, image_format: str = 'jpeg', jpeg_quality: int = 90, camera_topic: str = '/camera'
    ) -> None:
        if image_format not in FORMATS:
            raise BagError(f'image format {image_format!r}: choose one of {", ".join(FORMATS)}')
        super().__init__(path)
        self._format = image_format
        self._quality = jpeg_quality
        self._camera_topic = camera_topic

    def __enter__(self) -> BagWriter:
        super().__enter__()
        return self

    def write_frame(
        self,
        stamp_ns: int,
        frame_id: str,
        image: ImageArray,
        camera: Camera,
        truth: Sequence[TruthObject],
    ) -> None:
        """Write one image (H, W, 3) uint8 RGB with its camera and the objects in it, all at `stamp_ns`."""
        head = bag_messages.header(stamp_ns, frame_id)
        # The camera first: who replays the bag then knows it when the image arrives.
        info = bag_messages.camera_info(head, camera)
        self.write(f'{self._camera_topic}/camera_info', messages.CAMERA_INFO, stamp_ns, info)
        self._write_image(stamp_ns, head, image)
        self.write('/ground_truth', messages.DETECTIONS_3D, stamp_ns, bag_messages.truth_array(head, truth))

    def _write_image(self, stamp_ns: int, head: Any, image: ImageArray) -> None:
        topic = f'{self._camera_topic}/image_raw'
        if self._format == 'raw':
            self.write(topic, messages.IMAGE, stamp_ns, bag_messages.raw_image(head, image))
            return
        import cv2

        suffix, options = ('.png', [cv2.IMWRITE_PNG_COMPRESSION, 6])
        if self._format == 'jpeg':
            suffix = '.jpg'
            options = [cv2.IMWRITE_JPEG_QUALITY, self._quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        encoded, data = cv2.imencode(suffix, np.ascontiguousarray(image[:, :, ::-1]), options)
        if not encoded:
            raise BagError(f'{self.path}: this OpenCV cannot encode {self._format}')
        message = bag_messages.make(
            messages.COMPRESSED_IMAGE,
            header=head,
            format=self._format,
            data=np.frombuffer(data.tobytes(), np.uint8),
        )
        self.write(f'{topic}/compressed', messages.COMPRESSED_IMAGE, stamp_ns, message)
