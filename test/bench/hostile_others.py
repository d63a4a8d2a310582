"""CameraInfo, detections, transforms and bytes that nobody should send, made anew from a seeded generator."""

from __future__ import annotations

import struct
from typing import Any, Callable

import numpy as np
from hostile_scene import CAMERA, ELSEWHERE, Scene, detection

NAN, INF = float('nan'), float('inf')
Change = Callable[[Any, np.random.Generator], None]
STRANGE = (NAN, INF, -INF, 0.0, -600.0, 1e300, 1e-300)
"""Values that no focal length has."""


def _put(name: str, *places: int) -> Change:
    def apply(info: Any, rng: np.random.Generator) -> None:
        values = np.array(getattr(info, name))
        values[places[int(rng.integers(len(places)))]] = STRANGE[int(rng.integers(len(STRANGE)))]
        setattr(info, name, values)

    return apply


def _fill(name: str, value: float) -> Change:
    return lambda info, rng: setattr(info, name, np.full_like(getattr(info, name), value))


def _skew(info: Any, rng: np.random.Generator) -> None:
    values = np.array(info.k)
    values[[1, 3, 6, 7, 8][int(rng.integers(5))]] = 5.0
    info.k = values


def _centre(info: Any, rng: np.random.Generator) -> None:
    values = np.array(info.k)
    values[(2, 5)[int(rng.integers(2))]] = (1e9, -1e9, 1e300)[int(rng.integers(3))]
    info.k = values


def _coefficients(info: Any, rng: np.random.Generator) -> None:
    info.d = [0.1] * (1, 2, 3, 6, 9, 14, 100_000)[int(rng.integers(7))]


def _wild_coefficients(info: Any, rng: np.random.Generator) -> None:
    info.d = [float(value) for value in rng.choice([NAN, INF, -INF], 5)]


def _model(info: Any, rng: np.random.Generator) -> None:
    info.distortion_model = ('ftheta', 'plumb bob', '', 'x' * 5000, '\x1b[31m')[int(rng.integers(5))]
    info.d = [0.1] * 5


def _binning(info: Any, rng: np.random.Generator) -> None:
    info.binning_x, info.binning_y = int(rng.integers(2, 2**32)), int(rng.integers(2, 2**32))


def _roi(info: Any, rng: np.random.Generator) -> None:
    info.roi.x_offset, info.roi.height = int(rng.integers(1, 2**32)), int(rng.integers(1, 2**32))


def _size(info: Any, rng: np.random.Generator) -> None:
    sides = ((0, 0), (2**32 - 1, 2**32 - 1), (480, 640), (1280, 720))
    info.width, info.height = sides[int(rng.integers(len(sides)))]


def _frame(info: Any, rng: np.random.Generator) -> None:
    info.header.frame_id = ('', 'third', '\x00', 'x' * 5000)[int(rng.integers(4))]


INFO: dict[str, tuple[Change, str]] = {
    'K with a strange focal length': (_put('k', 0, 4), 'calibrate'),
    'K of zeros': (_fill('k', 0.0), 'not calibrated'),
    'K of NaN': (_fill('k', NAN), 'K in CameraInfo contains NaN'),
    'K with skew or a wrong last row': (_skew, 'calibrate'),
    'principal point far outside': (_centre, 'principal point'),
    'wrong number of coefficients': (_coefficients, 'coefficients, got'),
    'coefficients that are no numbers': (_wild_coefficients, 'NaN or infinite'),
    'unknown distortion model': (_model, 'unknown distortion model'),
    'binning': (_binning, 'CameraInfo has binning'),
    'region of interest': (_roi, 'region of interest'),
    'size of another camera': (_size, 'CameraInfo is for'),
    'frame of another camera': (_frame, 'remap camera_info to the topic of the same camera'),
}
RECTIFIED: dict[str, tuple[Change, str]] = {
    'P of zeros': (_fill('p', 0.0), 'image_rectified is true but P in CameraInfo is zero'),
    'P with a strange focal length': (_put('p', 0, 5), 'calibrate'),
    'P of NaN': (_fill('p', NAN), 'P in CameraInfo contains NaN'),
}
"""Name -> what is done to a right CameraInfo, and what diagnostics must say."""


def info(scene: Scene, kind: str) -> tuple[Any, Any]:
    """A CameraInfo of one kind, and the header for an image that goes with it."""
    header = scene.header(ELSEWHERE)
    message = scene.info(scene.header(ELSEWHERE))
    {**INFO, **RECTIFIED}[kind][0](message, scene.rng)
    return message, header


def _boxes(*rows: tuple[float, ...]) -> Callable[[Any, str, np.random.Generator], None]:
    def apply(message: Any, name: str, rng: np.random.Generator) -> None:
        message.detections = [detection(name, *row) for row in rows]

    return apply


def _thousands(message: Any, name: str, rng: np.random.Generator) -> None:
    message.detections = [detection(name, *row) for row in rng.uniform(1, 400, (3000, 4))]


def _unknown(message: Any, name: str, rng: np.random.Generator) -> None:
    words = ('', 'cup', '999', 'x' * 5000, '\x1b[31m', "it's")
    message.detections = [detection(words[int(rng.integers(len(words)))], 320, 240, 90, 90)]


def _hypotheses(message: Any, name: str, rng: np.random.Generator) -> None:
    message.detections = [detection(name, 320, 240, 90, 90)]
    message.detections[0].results *= 3000


def _none(message: Any, name: str, rng: np.random.Generator) -> None:
    message.detections = [detection(name, 320, 240, 90, 90)]
    message.detections[0].results = []


def _scores(message: Any, name: str, rng: np.random.Generator) -> None:
    message.detections = [detection(name, 320, 240, 90, 90, score) for score in (NAN, INF, -INF, -1.0, 1e300)]


NO_BOX = 'detection without a usable box'
BOXES: dict[str, tuple[Any, str]] = {
    'boxes of NaN': (_boxes((NAN, 240, 90, 90), (320, 240, NAN, 90)), NO_BOX),
    'boxes without end': (_boxes((INF, 240, 90, 90), (320, 240, INF, INF), (1e300, 0, 1e300, 1e300)), NO_BOX),
    'boxes of no or negative size': (_boxes((320, 240, 0, 90), (320, 240, -90, -90)), NO_BOX),
    'boxes outside the image': (_boxes((-5000, 240, 90, 90), (1e9, 1e9, 9, 9)), 'outside the image'),
    'boxes far larger than the image': (_boxes((320, 240, 1e6, 1e6), (320, 240, 1e12, 1e12)), 'rejected:'),
    'boxes smaller than a pixel': (_boxes((320, 240, 1e-9, 1e-9), (320, 240, 1e-300, 1e-300)), 'rejected:'),
    'thousands of boxes': (_thousands, 'rejected:'),
    'class that nobody knows': (_unknown, 'is not known and is ignored'),
    'detection without a class': (_none, 'is not known and is ignored'),
    'thousands of hypotheses': (_hypotheses, 'rejected:'),
    'scores that are none': (_scores, 'rejected:'),
}
ALONE: dict[str, str] = {
    'detections of no image': 'match no image by stamp and frame_id',
    'detections of another frame': 'match no image by stamp and frame_id',
}
"""Name -> what diagnostics must say."""


def boxes(scene: Scene, kind: str, name: str) -> tuple[Any, Any]:
    """Detections of one kind, and the header of the image that they are about."""
    from vision_msgs.msg import Detection2DArray

    header = scene.header(CAMERA)
    if kind in ALONE:
        other = header if kind == 'detections of no image' else scene.header(ELSEWHERE)
        return Detection2DArray(header=other, detections=[detection(name, 320, 240, 90, 90)]), None
    message = Detection2DArray(header=header)
    BOXES[kind][0](message, name, scene.rng)
    return message, header


def clock(rng: np.random.Generator) -> Any:
    """A time that may have nothing to do with the last one."""
    from rosgraph_msgs.msg import Clock

    message = Clock()
    message.clock.sec = int(rng.choice([0, 1, -1, -(2**31), 2**31 - 1, int(rng.integers(2**31))]))
    message.clock.nanosec = int(rng.choice([0, 2**32 - 1, int(rng.integers(10**9))]))
    return message


def transforms(scene: Scene, child: str) -> Any:
    """Foreign transforms: thousands, not finite, loops, and a child of ours."""
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    message = TFMessage()
    for number in range((1, 10, 3000)[int(scene.rng.integers(3))]):
        item = TransformStamped(header=scene.header('foreign'), child_frame_id=child if number == 0 else f'f{number}')
        item.transform.translation.x, item.transform.rotation.w = STRANGE[number % len(STRANGE)], NAN
        message.transforms.append(item)
    return message


WAYS = ('random', 'nothing', 'cut off', 'wrong bytes', 'huge lengths', 'no UTF-8')


def wreck(message: Any, rng: np.random.Generator) -> bytes:
    """A serialised message that is broken in a random way."""
    from rclpy.serialization import serialize_message

    data = bytearray(serialize_message(message))
    way = WAYS[int(rng.integers(len(WAYS)))]
    if way == 'random':
        return bytes(rng.bytes(int(rng.integers(4, 3000))))
    if way == 'nothing':
        return bytes(data[:4])
    if way == 'cut off':
        return bytes(data[: int(rng.integers(4, len(data)))])
    # Behind the stamp, most of the time in strings and lengths; a message's pixels are not worth it.
    places = rng.integers(4, min(len(data) - 4, 120), int(rng.integers(1, 8)))
    for place in places:
        if way == 'wrong bytes':
            data[place] = int(rng.integers(256))
        elif way == 'huge lengths':
            at = 4 + (place - 4) // 4 * 4
            data[at : at + 4] = struct.pack('<I', (2**32 - 1, 2**31, 10**9)[int(rng.integers(3))])
    if way == 'no UTF-8':
        data[16 + 4 : 16 + 8] = b'\xff\xfe\x80\xc3'
    return bytes(data)
