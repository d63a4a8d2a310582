"""The executable as users start it: with bundles that are wrong, and with the shipped one."""

import shutil
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'models' / 'demo'


def test_bundles_that_are_wrong_are_named_and_the_node_lives(start, new_peer, tmp_path):
    broken = tmp_path / 'broken'
    broken.mkdir()
    (broken / 'bundle.yaml').write_text('schema: one\nname: 3\n')
    empty = tmp_path / 'empty'
    empty.mkdir()
    process = start('-r', '__node:=wrong', real=True)
    peer = new_peer('/wrong')
    for value, text in (
        ('', 'parameter bundle is empty: set it to the name or the folder of a model bundle'),
        ('no_such_bundle', 'no_such_bundle: no such bundle'),
        (str(empty), 'has no bundle.yaml'),
        (str(broken), 'bundle.yaml line 1'),
    ):
        peer.set(bundle=value)
        assert peer.change('configure') == [False]
        peer.wait(lambda text=text: text in peer.texts(), text)
        assert f'configure failed: {"" if value in ("", "no_such_bundle") else value}' in process.text()
    assert peer.state() == 'unconfigured'
    assert 'Traceback' not in process.text()
    assert process.stop() == 0


@pytest.fixture
def demo(tmp_path):
    if not (DEMO / 'bundle.yaml').is_file():
        pytest.skip('models/demo is not in this checkout')
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    return Path(shutil.copytree(DEMO, tmp_path / 'demo'))


def test_an_unknown_object_name_is_named_with_those_that_are_known(demo, start, new_peer):
    process = start('-r', '__node:=asked', '-p', f'bundle:={demo}', '-p', 'objects:=cup', real=True)
    peer = new_peer('/asked')
    assert peer.change('configure') == [False]
    text = "configure failed: bundle 'demo' has no object 'cup': it knows toy_rover"
    peer.wait(lambda: text in peer.texts(), text)
    assert 'Traceback' not in process.text()
    assert peer.set(objects='') == [(True, '')]
    assert peer.change('configure') == [True]


def test_a_bundle_with_a_changed_byte_is_refused(demo, start, new_peer):
    path = next(demo.glob('*.onnx'))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    start('-r', '__node:=changed', '-p', f'bundle:={demo}', real=True)
    peer = new_peer('/changed')
    assert peer.change('configure') == [False]
    peer.wait(lambda: path.name in peer.texts(), 'the changed file')


def test_the_shipped_bundle_becomes_active_and_stays_small(demo, start, new_peer):
    peer = new_peer('/shipped')
    started = time.monotonic()
    process = start('-r', '__node:=shipped', '-p', f'bundle:={demo}', real=True)
    assert peer.change('configure', 'activate') == [True, True]
    took = time.monotonic() - started
    status = Path(f'/proc/{process.process.pid}/status').read_text()
    assert int(status.split('VmRSS:')[1].split()[0]) / 1024 < 350
    assert 'libtorch' not in Path(f'/proc/{process.process.pid}/maps').read_text()
    print(f'active after {took:.1f} s')  # `make bench` holds it to 3 s
