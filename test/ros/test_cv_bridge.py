"""When cv_bridge may be used; and, where a real one can be loaded, that it gives what NumPy gives."""

import array
import os
import stat
import sys

import numpy as np
import pytest

from kd6d_ros.errors import ConfigError, ImageError
from kd6d_ros.inference.image_decoding import ENCODINGS, decode_image
from kd6d_ros.ros import cv_bridge_probe
from kd6d_ros.ros.cv_bridge_probe import Probe, choose_decoder, probe_cv_bridge

MODULE = """
import numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        data = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.width, 3)
        return {result}
"""


@pytest.fixture
def fake_bridge(tmp_path, monkeypatch):
    """Puts a package `cv_bridge` with the given text on the path of this process and its children."""
    pytest.importorskip('sensor_msgs.msg', reason='sensor_msgs is needed to decode a test image')

    def make(text):
        (tmp_path / 'cv_bridge').mkdir()
        (tmp_path / 'cv_bridge' / '__init__.py').write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv('PYTHONPATH', f'{tmp_path}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
        monkeypatch.delitem(sys.modules, 'cv_bridge', raising=False)

    yield make
    sys.modules.pop('cv_bridge', None)


def test_a_working_cv_bridge_is_taken(fake_bridge):
    fake_bridge(MODULE.format(result='data[..., ::-1]'))
    assert probe_cv_bridge() == Probe(True, 'cv_bridge decodes a test image')
    name, _, decode = choose_decoder('auto')
    assert name == 'cv_bridge'
    from sensor_msgs.msg import Image

    with pytest.raises(ImageError, match='image data are 0 bytes'):
        decode(Image(width=4, height=4, encoding='rgb8', step=12), 1000)


def test_an_image_that_cv_bridge_cannot_decode_goes_to_numpy_or_names_it(fake_bridge):
    fake_bridge(MODULE.format(result="data[..., ::-1] if message.encoding == 'bgr8' else 1 // 0"))
    from sensor_msgs.msg import Image

    image = Image(width=3, height=2, encoding='rgb8', step=9)
    image.data = array.array('B', range(18))
    np.testing.assert_array_equal(choose_decoder('auto')[2](image, 1000).reshape(-1), np.arange(18))
    with pytest.raises(ImageError, match=r'does not decode rgb8 \(ZeroDivisionError: .*\): set image_decoder:=numpy'):
        choose_decoder('cv_bridge')[2](image, 1000)


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ("raise ImportError('numpy.core.multiarray failed to import')", 'numpy.core.multiarray failed to import'),
        ('import os; os.abort()', 'the child ended with code -6'),
        (MODULE.format(result='data'), 'wrong pixels'),
        (MODULE.format(result='data.astype(float)'), 'wrong pixels'),
    ],
)
def test_a_broken_cv_bridge_is_not_loaded(fake_bridge, text, reason):
    fake_bridge(text)
    result = probe_cv_bridge()
    assert not result.usable
    assert reason in result.reason
    assert choose_decoder('auto')[0] == 'numpy'
    assert 'cv_bridge' not in sys.modules
    with pytest.raises(ConfigError, match=r'image_decoder is cv_bridge but .*: set image_decoder:=numpy or auto'):
        choose_decoder('cv_bridge')


def test_a_cv_bridge_that_hangs_is_given_up(fake_bridge):
    fake_bridge('import time; time.sleep(60)')
    assert probe_cv_bridge(timeout=0.5) == Probe(False, 'cv_bridge could not be tried: TimeoutExpired')


def test_without_cv_bridge_nothing_is_started(monkeypatch):
    monkeypatch.setattr(cv_bridge_probe.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(cv_bridge_probe.subprocess, 'run', lambda *a, **k: pytest.fail('started'))
    assert probe_cv_bridge() == Probe(False, 'cv_bridge is not installed')
    assert choose_decoder('numpy')[0] == 'numpy'


def test_an_unknown_decoder_names_the_known_ones():
    with pytest.raises(ConfigError, match='use one of auto, cv_bridge, numpy'):
        choose_decoder('opencv')


def test_a_python_that_cannot_start_is_a_reason(fake_bridge, tmp_path):
    fake_bridge('')
    broken = tmp_path / 'python'
    broken.write_text('#!/bin/false\n')
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    assert not probe_cv_bridge(str(broken)).usable


def test_a_real_cv_bridge_gives_the_same():
    result = probe_cv_bridge()
    if not result.usable:
        pytest.skip(f'no cv_bridge to compare with: {result.reason}')
    from sensor_msgs.msg import Image

    decode = choose_decoder('cv_bridge')[2]
    rng = np.random.default_rng(7)
    compared = []
    for encoding, kind in ENCODINGS.items():
        # Without padding, which cv_bridge handles differently from release to release.
        pixels = rng.integers(0, 256, (16, 24 * kind.channels * kind.depth), dtype=np.uint8)
        message = Image(width=24, height=16, encoding=encoding, step=pixels.shape[1])
        message.data = array.array('B', pixels.tobytes())
        try:
            theirs = decode(message, 10**6)
        except ImageError as error:
            print(f'this cv_bridge does not decode {encoding}: {error}')
            continue
        np.testing.assert_array_equal(decode_image(message), theirs, err_msg=encoding)
        compared.append(encoding)
    assert {'rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16', 'bayer_rggb8'} <= set(compared)
