"""Poses to messages. The header of the image is copied, never now(); nothing here talks to the network."""

from __future__ import annotations

import array
import math
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, PoseStamped, PoseWithCovarianceStamped, Quaternion, TransformStamped, Vector3
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from kd6d_ros.foreign_text import shown
from kd6d_ros.geometry.transforms import quaternion_xyzw
from kd6d_ros.types import Detection

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray, ImageArray, ObjectModel, PoseEstimate, RigidTransform


def pose_message(transform: RigidTransform) -> Pose:
    """geometry_msgs/Pose; quaternion x y z w."""
    x, y, z = (float(value) for value in transform.translation)
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(transform))


def _quaternion(transform: RigidTransform) -> Quaternion:
    x, y, z, w = (float(value) for value in quaternion_xyzw(transform.rotation))
    return Quaternion(x=x, y=y, z=z, w=w)


def pose_stamped(header: Any, pose: PoseEstimate) -> PoseStamped:
    return PoseStamped(header=header, pose=pose_message(pose.cam_from_obj))


def pose_with_covariance(header: Any, pose: PoseEstimate) -> PoseWithCovarianceStamped:
    """Only for a pose that has a covariance."""
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = pose_message(pose.cam_from_obj)
    message.pose.covariance = _covariance(pose)
    return message


def _covariance(pose: PoseEstimate) -> FloatArray:
    if pose.covariance is None:
        return np.zeros(36)
    return np.ascontiguousarray(pose.covariance, dtype=np.float64).reshape(36)


def detections_message(
    header: Any, poses: Iterable[PoseEstimate], models: Mapping[str, ObjectModel]
) -> Detection3DArray:
    """All poses of one image. `results[0].pose` is the mesh origin, `bbox` the box around the mesh; the
    covariance is all zeros where it is not known."""
    message = Detection3DArray(header=header)
    for pose in poses:
        detection = Detection3D(header=header, id=pose.instance_id)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = pose.object_name
        hypothesis.hypothesis.score = float(pose.score)
        hypothesis.pose.pose = pose_message(pose.cam_from_obj)
        hypothesis.pose.covariance = _covariance(pose)
        detection.results.append(hypothesis)
        _set_box(detection, pose, models[pose.object_name])
        message.detections.append(detection)
    return message


def _set_box(detection: Detection3D, pose: PoseEstimate, model: ObjectModel) -> None:
    low, high = model.keypoints.min(axis=0), model.keypoints.max(axis=0)
    centre = pose.cam_from_obj.apply(((low + high) / 2)[None])[0]
    detection.bbox.center = pose_message(pose.cam_from_obj)
    detection.bbox.center.position = Point(x=float(centre[0]), y=float(centre[1]), z=float(centre[2]))
    size = high - low
    detection.bbox.size = Vector3(x=float(size[0]), y=float(size[1]), z=float(size[2]))


def tf_message(header: Any, poses: Iterable[PoseEstimate], prefix: str) -> TFMessage:
    """One message with every object of one image; child frame = prefix + instance id."""
    transforms = []
    for pose in poses:
        item = TransformStamped(header=header, child_frame_id=prefix + pose.instance_id)
        _set_transform(item, pose.cam_from_obj)
        transforms.append(item)
    return TFMessage(transforms=transforms)


def transform_stamped(stamp_ns: int, frame_id: str, child: str, frame_from_child: RigidTransform) -> TransformStamped:
    """One transform with the stamp [ns] of an image."""
    item = TransformStamped(child_frame_id=child)
    item.header.stamp.sec, item.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    item.header.frame_id = frame_id
    _set_transform(item, frame_from_child)
    return item


def _set_transform(item: TransformStamped, transform: RigidTransform) -> None:
    x, y, z = (float(value) for value in transform.translation)
    item.transform.translation = Vector3(x=x, y=y, z=z)
    item.transform.rotation = _quaternion(transform)


def image_message(header: Any, image: ImageArray) -> Image:
    """rgb8 image. The buffer goes in as array.array: rclpy checks any other type element by element."""
    height, width = image.shape[:2]
    message = Image(header=header, height=height, width=width, encoding='rgb8', step=3 * width)
    message.data = array.array('B', np.ascontiguousarray(image).tobytes())
    return message


def timing_message(header: Any, name: str, stages: Mapping[str, float], window: Mapping[str, str]) -> DiagnosticArray:
    """Stage times [s] of one image, with its header; in a second status the figures over the last images."""
    values = [KeyValue(key=f'{stage}_s', value=f'{seconds:.6f}') for stage, seconds in stages.items()]
    if 'age' not in stages:
        values.append(KeyValue(key='age_s', value='unknown'))
    status = DiagnosticStatus(level=DiagnosticStatus.OK, name=f'{name}: timing', values=values)
    figures = [KeyValue(key=key, value=value) for key, value in window.items()]
    return DiagnosticArray(
        header=header,
        status=[status, DiagnosticStatus(level=DiagnosticStatus.OK, name=f'{name}: window', values=figures)],
    )


def boxes_from(message: Any, names: Mapping[str, str]) -> List[Detection]:
    """Detections out of a vision_msgs/Detection2DArray; unknown classes are left out.

    Args:
        names: object name by what a detector may call it (name, display name, BOP id).
    """
    found = []
    for item in message.detections:
        name, score = _best(item.results, names)
        if name:
            centre = item.bbox.center.position
            half_x, half_y = item.bbox.size_x / 2, item.bbox.size_y / 2
            box = np.array([centre.x - half_x, centre.y - half_y, centre.x + half_x, centre.y + half_y])
            found.append(Detection(name, score, box))
    return found


def unknown_class(message: Any, names: Mapping[str, str]) -> Optional[str]:
    """The class id of a detection that ``boxes_from`` leaves out, or None when it takes all of them."""
    for item in message.detections:
        ids = [result.hypothesis.class_id for result in item.results]
        if not any(name in names for name in ids):
            return ids[0] if ids else ''
    return None


def unknown_class_text(name: str, known: Iterable[str]) -> str:
    """What to say about such a class id: what the detector should call the objects."""
    return (
        f'detections_in: class {shown(name)} is not known and is ignored: the detector must call an object '
        f'{", ".join(sorted(known))}'
    )


def _best(results: Sequence[Any], names: Mapping[str, str]) -> Any:
    known = [
        (_share(item.hypothesis.score), names[item.hypothesis.class_id])
        for item in results
        if item.hypothesis.class_id in names
    ]
    if not known:
        return '', 0.0
    score, name = max(known)
    return name, score


def _share(score: float) -> float:
    """A score from 0 to 1; what is no number is none."""
    return 0.0 if math.isnan(score) else min(max(float(score), 0.0), 1.0)


def aliases(models: Iterable[ObjectModel]) -> Dict[str, str]:
    """What a detector may call each object: its BOP id, display name or name."""
    table: Dict[str, str] = {}
    for model in models:
        table.update({str(model.obj_id): model.name, model.display_name or model.name: model.name})
    for model in models:
        table[model.name] = model.name
    return table
