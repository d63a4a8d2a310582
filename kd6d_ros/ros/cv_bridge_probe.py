"""Whether a real cv_bridge works here, found out without risking this process.

A cv_bridge built against NumPy 1 crashes or raises when NumPy 2 is loaded. So a child process imports it
and decodes a small image; only when the result is right may this process import it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from kd6d_ros.errors import ConfigError, ImageError
from kd6d_ros.inference.image_decoding import MAX_PIXELS, check_image, decode_image

if TYPE_CHECKING:
    from kd6d_ros.types import ImageArray

DECODERS = ('auto', 'cv_bridge', 'numpy')
TIMEOUT_S = 60.0
CHILD = """
import numpy as np
from cv_bridge import CvBridge
from sensor_msgs.msg import Image
message = Image(height=2, width=3, encoding='bgr8', step=9)
message.data = bytes(range(18))
got = CvBridge().imgmsg_to_cv2(message, desired_encoding='rgb8')
want = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)[..., ::-1]
assert got.dtype == np.uint8 and np.array_equal(got, want), 'wrong pixels'
"""


class Probe(NamedTuple):
    """`usable`: cv_bridge decodes here; `reason`: one line, why not or that it does."""

    usable: bool
    reason: str


def probe_cv_bridge(python: str = sys.executable, timeout: float = TIMEOUT_S) -> Probe:
    """Import cv_bridge and decode a test image in a child process (which inherits the environment:
    the wheels of ROS 2 need their LD_LIBRARY_PATH)."""
    if importlib.util.find_spec('cv_bridge') is None:
        return Probe(False, 'cv_bridge is not installed')
    try:
        done = subprocess.run([python, '-c', CHILD], capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Probe(False, f'cv_bridge could not be tried: {type(error).__name__}')
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f'the child ended with code {done.returncode}'
        return Probe(False, f'cv_bridge does not work with this NumPy: {last}')
    return Probe(True, 'cv_bridge decodes a test image')


def choose_decoder(wanted: str, probe: Callable[[], Probe] = probe_cv_bridge) -> Any:
    """(name, reason, decode function) for the parameter image_decoder.

    Raises:
        ConfigError: cv_bridge was demanded and does not work, or the name is unknown.
    """
    if wanted not in DECODERS:
        raise ConfigError(f'image_decoder {wanted!r} is not known: use one of {", ".join(DECODERS)}')
    if wanted == 'numpy':
        return 'numpy', 'as demanded', decode_image
    result = probe()
    if result.usable:
        return 'cv_bridge', result.reason, _cv_bridge_decoder(fall_back=wanted == 'auto')
    if wanted == 'cv_bridge':
        raise ConfigError(f'image_decoder is cv_bridge but {result.reason}: set image_decoder:=numpy or auto')
    return 'numpy', result.reason, decode_image


def _cv_bridge_decoder(fall_back: bool) -> Callable[[Any, int], ImageArray]:
    from cv_bridge import CvBridge

    bridge = CvBridge()

    def decode(message: Any, max_pixels: int = MAX_PIXELS) -> ImageArray:
        # cv_bridge trusts size, step and length, so they are checked first in either case.
        check_image(message, max_pixels)
        try:
            image: ImageArray = bridge.imgmsg_to_cv2(message, desired_encoding='rgb8')
        except Exception as error:
            # Each release leaves some encodings out, and raises what it likes.
            if fall_back:
                return decode_image(message, max_pixels)
            text = ' '.join(str(error).split())[:200]
            raise ImageError(
                f'cv_bridge does not decode {message.encoding} ({type(error).__name__}: {text}): set '
                'image_decoder:=numpy'
            ) from error
        return image

    return decode
