"""The images of a bag, decoded, each with its camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Optional

import numpy as np

from kd6d_ros.benchmark import messages
from kd6d_ros.benchmark.records import BagFrame
from kd6d_ros.data.image_files import MAX_PIXELS, size_from_header
from kd6d_ros.errors import BagError, Kd6dError
from kd6d_ros.geometry.cameras import make_camera

if TYPE_CHECKING:
    from kd6d_ros.benchmark.bag_source import BagSource, BagTopics, RawMessage
    from kd6d_ros.types import Camera


def read_frames(source: BagSource, topics: BagTopics) -> Iterator[BagFrame]:
    """Decode every image with the newest CameraInfo recorded before it (or the first one of the bag).

    Raises:
        BagError: an image or camera that cannot be used; the message says which.
    """
    camera: Optional[Camera] = None
    for raw in source.raw_messages([topics.camera_info]):
        camera = _camera(source, raw)
        break
    if camera is None:
        raise BagError(f'{source.path}: topic {topics.camera_info} is empty; record the CameraInfo too')
    for raw in source.raw_messages([topics.image, topics.camera_info]):
        if raw.topic == topics.camera_info:
            camera = _camera(source, raw)
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


def _camera(source: BagSource, raw: RawMessage) -> Camera:
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


def decode_image(message: Any, msgtype: str, where: str) -> Any:
    """(H, W, 3) uint8 RGB of an Image (rgb8, bgr8, mono8) or a CompressedImage.

    Raises:
        BagError: another encoding, too few bytes, or data that does not decode.
    """
    import cv2

    data = np.frombuffer(bytes(message.data), dtype=np.uint8)
    if msgtype == messages.COMPRESSED_IMAGE:
        size = size_from_header(data.tobytes())
        if size is not None and size[0] * size[1] > MAX_PIXELS:
            raise BagError(
                f'{where}: claims {size[0]}x{size[1]} px, over the limit of {MAX_PIXELS // 10**6} megapixels'
            )
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            raise BagError(f'{where}: does not decode as {message.format or "an image"}; record it again')
        return np.ascontiguousarray(image[:, :, ::-1])
    channels = {'rgb8': 3, 'bgr8': 3, 'mono8': 1}.get(message.encoding)
    if channels is None:
        raise BagError(f'{where}: encoding {message.encoding!r} is not read here; use rgb8, bgr8 or mono8')
    height, width, step = int(message.height), int(message.width), int(message.step)
    if step < width * channels or data.size < height * step or not height or not width:
        raise BagError(f'{where}: {data.size} bytes for {width}x{height} {message.encoding} with step {step}')
    rows = data[: height * step].reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)
    if message.encoding == 'bgr8':
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)))
