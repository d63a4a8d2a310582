"""Writing MCAP bags with images, CameraInfo and ground truth, without ROS.

A bag appears under its name only when it is complete; what breaks off leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence

import numpy as np

from kd6d_ros.benchmark import messages
from kd6d_ros.errors import BagError
from kd6d_ros.geometry.transforms import quaternion_xyzw

if TYPE_CHECKING:
    from types import TracebackType

    from kd6d_ros.benchmark.records import TruthObject
    from kd6d_ros.types import Camera, ImageArray, RigidTransform

FORMATS = ('jpeg', 'png', 'raw')
METADATA_VERSION = 8
"""The newest layout whose QoS field Humble's reader still understands."""


class BagWriter:
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
        self.path = Path(path)
        if self.path.exists():
            raise BagError(f'{self.path}: exists already; choose another name or delete it first')
        self._format = image_format
        self._quality = jpeg_quality
        self._camera_topic = camera_topic
        self._store = messages.type_store()
        self._aside = self.path.with_name(f'.{self.path.name}.{os.getpid()}.tmp')
        self._writer: Any = None
        self._connections: Dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        from rosbags.rosbag2 import StoragePlugin, Writer

        try:
            self._aside.mkdir(parents=True)
            # The bag's file takes the name of its folder, so the folder already carries the final name.
            self._writer = Writer(
                self._aside / self.path.name, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP
            )
            self._writer.open()
        except OSError as error:
            shutil.rmtree(self._aside, ignore_errors=True)
            raise BagError(f'{self.path}: cannot be written ({error.strerror}); choose another folder') from None
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                os.replace(self._aside / self.path.name, self.path)
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def write_frame(
        self,
        stamp_ns: int,
        frame_id: str,
        image: ImageArray,
        camera: Camera,
        truth: Sequence[TruthObject],
    ) -> None:
        """Write one image (H, W, 3) uint8 RGB with its camera and the objects in it, all at `stamp_ns`."""
        header = self._message('std_msgs/msg/Header', stamp=self._time(stamp_ns), frame_id=frame_id)
        # The camera first: who replays the bag then knows it when the image arrives.
        self._write('camera_info', messages.CAMERA_INFO, stamp_ns, self._camera_info(header, camera))
        self._write_image(stamp_ns, header, image)
        array = self._message(
            messages.DETECTIONS_3D,
            header=header,
            detections=[self._detection(header, item, index) for index, item in enumerate(truth)],
        )
        self._write('/ground_truth', messages.DETECTIONS_3D, stamp_ns, array)

    def _write_image(self, stamp_ns: int, header: Any, image: ImageArray) -> None:
        if self._format == 'raw':
            height, width = image.shape[:2]
            message = self._message(
                messages.IMAGE,
                header=header,
                height=height,
                width=width,
                encoding='rgb8',
                is_bigendian=0,
                step=width * 3,
                data=np.ascontiguousarray(image).reshape(-1),
            )
            self._write('image_raw', messages.IMAGE, stamp_ns, message)
            return
        import cv2

        suffix, options = ('.png', [cv2.IMWRITE_PNG_COMPRESSION, 6])
        if self._format == 'jpeg':
            suffix = '.jpg'
            options = [cv2.IMWRITE_JPEG_QUALITY, self._quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        encoded, data = cv2.imencode(suffix, np.ascontiguousarray(image[:, :, ::-1]), options)
        if not encoded:
            raise BagError(f'{self.path}: this OpenCV cannot encode {self._format}')
        message = self._message(
            messages.COMPRESSED_IMAGE,
            header=header,
            format=self._format,
            data=np.frombuffer(data.tobytes(), np.uint8),
        )
        self._write('image_raw/compressed', messages.COMPRESSED_IMAGE, stamp_ns, message)

    def _camera_info(self, header: Any, camera: Camera) -> Any:
        k = camera.matrix
        projection = np.hstack([k, np.zeros((3, 1))])
        model = 'plumb_bob' if camera.model == 'none' else camera.model
        distortion = np.zeros(5) if camera.model == 'none' else np.asarray(camera.distortion)
        roi = self._message(
            'sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        return self._message(
            messages.CAMERA_INFO,
            header=header,
            height=camera.height,
            width=camera.width,
            distortion_model=model,
            d=distortion.astype(np.float64),
            k=np.ascontiguousarray(k, dtype=np.float64).reshape(-1),
            r=np.eye(3).reshape(-1),
            p=projection.reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )

    def _pose(self, transform: RigidTransform) -> Any:
        x, y, z = (float(v) for v in transform.translation)
        qx, qy, qz, qw = (float(v) for v in quaternion_xyzw(transform.rotation))
        return self._message(
            'geometry_msgs/msg/Pose',
            position=self._message('geometry_msgs/msg/Point', x=x, y=y, z=z),
            orientation=self._message('geometry_msgs/msg/Quaternion', x=qx, y=qy, z=qz, w=qw),
        )

    def _detection(self, header: Any, truth: TruthObject, index: int) -> Any:
        pose = self._pose(truth.cam_from_obj)
        hypothesis = self._message(
            'vision_msgs/msg/ObjectHypothesis',
            class_id=truth.object_name,
            score=float(truth.visible_fraction),
        )
        with_covariance = self._message('geometry_msgs/msg/PoseWithCovariance', pose=pose, covariance=np.zeros(36))
        result = self._message('vision_msgs/msg/ObjectHypothesisWithPose', hypothesis=hypothesis, pose=with_covariance)
        box = self._message(
            'vision_msgs/msg/BoundingBox3D',
            center=pose,
            size=self._message('geometry_msgs/msg/Vector3', x=0.0, y=0.0, z=0.0),
        )
        return self._message(
            'vision_msgs/msg/Detection3D',
            header=header,
            results=[result],
            bbox=box,
            id=f'{truth.object_name}_{index}',
        )

    def _time(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        return self._message('builtin_interfaces/msg/Time', sec=seconds, nanosec=nanoseconds)

    def _message(self, msgtype: str, **fields: Any) -> Any:
        return self._store.types[msgtype](**fields)

    def _write(self, topic: str, msgtype: str, stamp_ns: int, message: Any) -> None:
        name = topic if topic.startswith('/') else f'{self._camera_topic}/{topic}'
        if name not in self._connections:
            self._connections[name] = self._writer.add_connection(name, msgtype, typestore=self._store)
        self._writer.write(self._connections[name], stamp_ns, self._store.serialize_cdr(message, msgtype))
