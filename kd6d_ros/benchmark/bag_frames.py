"""The images of a bag, decoded, each with its camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from kd6d_ros.benchmark import messages
from kd6d_ros.benchmark.records import BagFrame
from kd6d_ros.errors import BagError, ImageError, Kd6dError
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.image_decoding import decode_compressed
from kd6d_ros.inference.image_decoding import decode_image as decode_raw

if TYPE_CHECKING:
    from kd6d_ros.benchmark.bag_source import BagSource, BagTopics, RawMessage
    from kd6d_ros.types import Camera, ImageArray


def read_frames(source: BagSource, topics: BagTopics) -> Iterator[BagFrame]:
    """Decode every image with the newest CameraInfo recorded before it (or the first one of the bag).

    Raises:
        BagError: an image or camera that cannot be used; the message says which.
    """
    camera = first_camera(source, topics.camera_info)
    for raw in source.raw_messages([topics.image, topics.camera_info]):
        if raw.topic == topics.camera_info:
            camera = camera_of_message(source, raw)
            continue
        message = source.decode(raw)
        stamp = messages.stamp_to_ns(message.header.stamp)
        image = decode_image(message, raw.msgtype, f'{source.path}: {raw.topic} at stamp {stamp} ns')
        if image.shape[:2] != (camera.height, camera.width):
            raise BagError(
                f'{source.path}: image of {image.shape[1]}x{image.shape[0]} px at stamp {stamp} ns, but its '
                f'CameraInfo says {camera.width}x{camera.height}; record the matching CameraInfo'
            )
        yield BagFrame(stamp, str(message.header.frame_id), image, camera)


def first_camera(source: BagSource, topic: str) -> Camera:
    """The camera of the first CameraInfo.

    Raises:
        BagError: the topic is empty, or the camera cannot be used.
    """
    for raw in source.raw_messages([topic]):
        return camera_of_message(source, raw)
    raise BagError(f'{source.path}: topic {topic} is empty; record the CameraInfo too')


def camera_of_message(source: BagSource, raw: RawMessage) -> Camera:
    """The camera of a CameraInfo message.

    Raises:
        BagError: it cannot be used.
    """
    info = source.decode(raw)
    try:
        return camera_from_info(info)
    except Kd6dError as error:
        raise BagError(f'{source.path}: topic {raw.topic}: {error}') from None


def camera_from_info(info: Any) -> Camera:
    """Camera of a raw image: K and D of a CameraInfo; all-zero or absent D means no distortion."""
    distortion = np.asarray(info.d, dtype=np.float64)
    undistorted = distortion.size == 0 or not distortion.any()
    return make_camera(
        np.asarray(info.k, dtype=np.float64).reshape(3, 3),
        int(info.width),
        int(info.height),
        model='none' if undistorted else str(info.distortion_model),
        distortion=() if undistorted else tuple(distortion),
    )


def decode_image(message: Any, msgtype: str, where: str) -> ImageArray:
    """(H, W, 3) uint8 RGB of an Image or a CompressedImage, by the node's own decoder, with its bounds.

    Raises:
        BagError: an unknown encoding, too few bytes, or data that does not decode.
    """
    try:
        return decode_compressed(message) if msgtype == messages.COMPRESSED_IMAGE else decode_raw(message)
    except ImageError as error:
        raise BagError(f'{where}: {error}') from None
