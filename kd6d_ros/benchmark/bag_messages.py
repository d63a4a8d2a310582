"""Message objects for the bags we write, from this package's records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence

import numpy as np

from kd6d_ros.benchmark import messages
from kd6d_ros.geometry.transforms import quaternion_xyzw

if TYPE_CHECKING:
    from kd6d_ros.benchmark.records import PublishedPose, TruthObject
    from kd6d_ros.types import Camera, FloatArray, ImageArray, RigidTransform


def make(msgtype: str, **fields: Any) -> Any:
    """A message object of a type that rosbags or `messages` knows."""
    return messages.type_store().types[msgtype](**fields)


def header(stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = make('builtin_interfaces/msg/Time', sec=seconds, nanosec=nanoseconds)
    return make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)


def raw_image(head: Any, image: ImageArray) -> Any:
    """sensor_msgs/Image of (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    return make(
        messages.IMAGE,
        header=head,
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=width * 3,
        data=np.ascontiguousarray(image).reshape(-1),
    )


def camera_info(head: Any, camera: Camera) -> Any:
    """sensor_msgs/CameraInfo of a raw image's camera."""
    k = camera.matrix
    distortion = np.zeros(5) if camera.model == 'none' else np.asarray(camera.distortion)
    roi = make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return make(
        messages.CAMERA_INFO,
        header=head,
        height=camera.height,
        width=camera.width,
        distortion_model='plumb_bob' if camera.model == 'none' else camera.model,
        d=distortion.astype(np.float64),
        k=np.ascontiguousarray(k, dtype=np.float64).reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack([k, np.zeros((3, 1))]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def pose(transform: RigidTransform) -> Any:
    """geometry_msgs/Pose."""
    x, y, z = (float(v) for v in transform.translation)
    qx, qy, qz, qw = (float(v) for v in quaternion_xyzw(transform.rotation))
    return make(
        'geometry_msgs/msg/Pose',
        position=make('geometry_msgs/msg/Point', x=x, y=y, z=z),
        orientation=make('geometry_msgs/msg/Quaternion', x=qx, y=qy, z=qz, w=qw),
    )


def pose_stamped(head: Any, transform: RigidTransform) -> Any:
    """geometry_msgs/PoseStamped."""
    return make(messages.POSE_STAMPED, header=head, pose=pose(transform))


def transform_stamped(head: Any, child: str, transform: RigidTransform) -> Any:
    """geometry_msgs/TransformStamped from the header's frame to `child`."""
    where = pose(transform)
    x, y, z = where.position.x, where.position.y, where.position.z
    moved = make('geometry_msgs/msg/Vector3', x=x, y=y, z=z)
    turned = make('geometry_msgs/msg/Transform', translation=moved, rotation=where.orientation)
    return make('geometry_msgs/msg/TransformStamped', header=head, child_frame_id=child, transform=turned)


def tf_message(transforms: Sequence[Any]) -> Any:
    """tf2_msgs/TFMessage."""
    return make(messages.TF, transforms=list(transforms))


def truth_array(head: Any, objects: Sequence[TruthObject]) -> Any:
    """vision_msgs/Detection3DArray of the true poses; the score is the visible fraction."""
    rows = [
        _detection(head, item.object_name, f'{item.object_name}_{index}', item.visible_fraction, item.cam_from_obj)
        for index, item in enumerate(objects)
    ]
    return make(messages.DETECTIONS_3D, header=head, detections=rows)


def pose_array(head: Any, poses: Sequence[PublishedPose]) -> Any:
    """vision_msgs/Detection3DArray of published poses."""
    rows = [
        _detection(head, item.object_name, item.instance_id, item.score, item.cam_from_obj, item.covariance)
        for item in poses
    ]
    return make(messages.DETECTIONS_3D, header=head, detections=rows)


def _detection(
    head: Any, name: str, ident: str, score: float, transform: RigidTransform, covariance: Optional[FloatArray] = None
) -> Any:
    where = pose(transform)
    numbers = np.zeros(36) if covariance is None else np.asarray(covariance, np.float64).reshape(36)
    hypothesis = make('vision_msgs/msg/ObjectHypothesis', class_id=name, score=float(score))
    result = make(
        'vision_msgs/msg/ObjectHypothesisWithPose',
        hypothesis=hypothesis,
        pose=make('geometry_msgs/msg/PoseWithCovariance', pose=where, covariance=numbers),
    )
    size = make('geometry_msgs/msg/Vector3', x=0.0, y=0.0, z=0.0)
    box = make('vision_msgs/msg/BoundingBox3D', center=where, size=size)
    return make('vision_msgs/msg/Detection3D', header=head, results=[result], bbox=box, id=ident)
