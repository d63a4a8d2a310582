"""The cache of engines: what is trusted, what is built again and the one line that says why."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import replace

import pytest
from fake_tensorrt import ORIN, FakeTensorRt

from kd6d_ros.errors import BundleError, ConfigError, EngineError
from kd6d_ros.inference.engines.cache_folder import private_folder
from kd6d_ros.inference.engines.engine_cache import EngineCache
from kd6d_ros.inference.engines.tensorrt_build import BuildOptions, EngineSource
from kd6d_ros.inference.engines.tensorrt_seam import Platform, typing_of

pytest.importorskip('onnxruntime')

CROP = (128, 128)


@pytest.fixture
def bundle(write, onnx_file):
    return write(engines={'fp32': onnx_file, 'fp16': onnx_file, 'int8-cpu': onnx_file})


@pytest.fixture
def folder(tmp_path):
    return private_folder(tmp_path / 'cache')


@pytest.fixture
def said():
    return []


@pytest.fixture
def source(bundle, folder, said):
    def _source(backend=None, precision='fp16', **options):
        return EngineSource(
            bundle, precision, backend or FakeTensorRt(), EngineCache(folder), BuildOptions(**options), said.append
        )

    return _source


def only(folder, suffix):
    (path,) = folder.glob(f'*{suffix}')
    return path


def built(source, **options):
    return source.program(CROP, **options)[1]['built']


def test_an_engine_is_built_once_and_its_sidecar_says_for_what(source, folder):
    assert built(source())
    assert not built(source())
    record = json.loads(only(folder, '.json').read_text())
    assert record['key']['gpu'] == 'Orin'
    assert record['key']['tensorrt'] == '10.3.0'
    assert record['key']['compute_capability'] == '8.7'
    assert record['key']['precision'] == 'fp16'
    assert record['key']['typing'] == 'strong'
    assert record['key']['shapes'] == {'image': [1, 128, 128, 3], 'classes': [1, 3]}
    assert len(record['key']['onnx_sha256']) == 64
    assert record['facts']['layers'] == {'fp16': 3, 'fp32': 1}
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_what_is_built_has_fixed_shapes_and_casts_the_image_first(source):
    backend = FakeTensorRt()
    source(backend).program(CROP)
    (program,) = backend.programs
    assert program.graph.nodes[0].kind == 'Cast'
    assert program.graph.nodes[0].inputs == ('image',)
    assert backend.builds[0].strongly_typed


def damage(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ('suffix', 'change', 'reason'),
    [
        ('.engine', lambda data: data[:-10], 'its engine was changed or cut short'),
        ('.engine', lambda data: b'', 'its engine was changed or cut short'),
        ('.engine', lambda data: data[:50] + b'X' + data[51:], 'its engine was changed or cut short'),
        ('.json', lambda data: data[:40], r'its sidecar cannot be read \('),
        ('.json', lambda data: b'\xff\xfe', r'its sidecar cannot be read \('),
        ('.json', lambda data: b'[' * 100_000, r'its sidecar cannot be read \('),
        ('.json', lambda data: b'[]', 'its sidecar is of another version'),
        ('.json', lambda data: data.replace(b'"schema": 1', b'"schema": 2'), 'its sidecar is of another version'),
        ('.json', lambda data: data.replace(b'Orin', b'Thor'), 'it was built for gpu Thor, here it is Orin'),
        ('.json', lambda data: data.replace(b'8.7', b'11.0'), 'built for compute_capability 11.0, here it is 8.7'),
        ('.json', lambda data: data.replace(b'10.3.0', b'8.6.2'), 'built for tensorrt 8.6.2, here it is 10.3.0'),
        ('.json', lambda data: data.replace(b'"form": 1', b'"form": 0'), 'built for form 0, here it is 1'),
        ('.json', lambda data: data.replace(b'128', b'256'), r'built for shapes \{.*256'),
        ('.json', lambda data: data.replace(b'"engine": "', b'"engine": "../'), 'does not name an engine'),
    ],
)
def test_a_stale_damaged_or_foreign_engine_is_built_again(source, folder, said, suffix, change, reason):
    source().program(CROP)
    damage(only(folder, suffix), change)
    said.clear()
    assert built(source())
    assert said[0].startswith('demo-')
    assert 'building it again: ' in said[0]
    assert re.search(reason, said[0])
    assert '\n' not in said[0]
    assert not built(source())
    assert len(list(folder.glob('*.engine'))) == 1


def test_a_missing_engine_and_a_folder_in_its_place_are_built_again(source, folder, said):
    source().program(CROP)
    only(folder, '.engine').unlink()
    assert built(source())
    assert 'its engine cannot be read (No such file' in said[-3]
    sidecar = only(folder, '.json')
    sidecar.unlink()
    sidecar.mkdir()
    with pytest.raises(EngineError, match='is a directory; the engine was not kept'):
        source().program(CROP)


def test_another_gpu_or_tensorrt_builds_its_own(source):
    assert built(source())
    assert built(source(FakeTensorRt(replace(ORIN, gpu='NVIDIA Thor'))))
    assert built(source(FakeTensorRt(replace(ORIN, tensorrt='10.7.0'))))


def test_an_engine_that_tensorrt_does_not_take_is_built_again(source, said):
    source().program(CROP)

    class Picky(FakeTensorRt):
        def load(self, plan):
            if not self.builds:
                raise EngineError('TensorRT does not take the engine: Serialization assertion failed')
            return super().load(plan)

    assert built(source(Picky()))
    assert any('building it again: TensorRT does not take the engine: Serialization' in line for line in said)


@pytest.mark.parametrize('suffix', ['.engine', '.json'])
def test_what_others_may_write_is_not_trusted(source, folder, said, suffix):
    source().program(CROP)
    only(folder, suffix).chmod(0o666)
    assert built(source())
    assert any('is not trusted: others may write to it' in line for line in said)


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file away')
def test_what_belongs_to_somebody_else_is_not_trusted(source, folder, said):
    source().program(CROP)
    os.chown(only(folder, '.engine'), 12345, -1)
    assert built(source())
    assert any('is not trusted: it belongs to user 12345' in line for line in said)


def test_a_link_is_not_followed(source, folder, tmp_path):
    source().program(CROP)
    engine = only(folder, '.engine')
    engine.rename(tmp_path / 'elsewhere')
    engine.symlink_to(tmp_path / 'elsewhere')
    assert built(source())
    assert not only(folder, '.engine').is_symlink()


def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / 'open').mkdir()
    (tmp_path / 'open').chmod(0o777)
    with pytest.raises(EngineError, match=r'others may write to it, and engines are code: chmod go-w .*open') as error:
        private_folder(tmp_path / 'open')
    assert '\n' not in str(error.value)
    (tmp_path / 'file').write_text('')
    with pytest.raises(EngineError, match='file exists; choose another with KD6D_CACHE or --cache'):
        private_folder(tmp_path / 'file')


def test_the_folder_follows_xdg(tmp_path, monkeypatch):
    for name in ('KD6D_CACHE', 'XDG_CACHE_HOME'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert private_folder() == tmp_path / 'home' / '.cache' / 'kd6d_ros'
    assert stat.S_IMODE(private_folder().stat().st_mode) == 0o700
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    assert private_folder() == tmp_path / 'home' / '.cache' / 'kd6d_ros'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert private_folder() == tmp_path / 'xdg' / 'kd6d_ros'
    monkeypatch.setenv('KD6D_CACHE', str(tmp_path / 'own'))
    assert private_folder() == tmp_path / 'own'
    assert private_folder(tmp_path / 'given') == tmp_path / 'given'


def test_a_workspace_that_is_asked_for_must_be_that_of_the_engine(source, said):
    assert built(source(workspace_mb=256))
    assert not built(source())  # no limit asked for: any will do
    assert built(source(workspace_mb=512))
    assert any('built with a workspace of 256 MiB, 512 are asked for' in line for line in said)
    assert not built(source(workspace_mb=512))


def test_weakly_and_strongly_typed_engines_live_side_by_side(source, folder):
    assert built(source())
    assert built(source(strongly_typed=False))
    assert not built(source())
    assert not built(source(strongly_typed=False))
    assert {'strong', 'weak'} == {path.name.split('-')[3] for path in folder.glob('*.json')}


def test_typing_follows_the_version():
    versions = {'8.6.2': False, '10.3.0': True, '10.13.3.9': True, '11.4.0.106': True}
    for version, strong in versions.items():
        assert typing_of(Platform(version, 'Orin', '8.7'), None) is strong
    with pytest.raises(ConfigError, match=r'TensorRT 8\.6\.2 has no strongly typed networks'):
        typing_of(Platform('8.6.2', 'Orin', '8.7'), True)
    with pytest.raises(ConfigError, match=r'TensorRT 11\.4\.0 has strongly typed networks only'):
        typing_of(Platform('11.4.0', 'Thor', '11.0'), False)


def test_what_tensorrt_cannot_run_is_one_line(source, bundle, folder, said):
    with pytest.raises(EngineError, match=r'TensorRT 8\.5\.2 is too old: 8\.6 or newer'):
        source(FakeTensorRt(Platform('8.5.2', 'Orin', '8.7')))
    with pytest.raises(BundleError, match=r"has no 'int8' engine: it has fp16, fp32, int8-cpu"):
        source(precision='int8')
    with pytest.raises(BundleError, match='int8-cpu has unsigned activations, which TensorRT does not take: use int8'):
        source(precision='int8-cpu')
    large = replace(bundle, network=replace(bundle.network, max_cells=4000))
    with pytest.raises(EngineError, match='4000 cells, TensorRT picks at most 3840'):
        EngineSource(large, 'fp16', FakeTensorRt(), EngineCache(folder), BuildOptions(), said.append)


def test_a_failed_build_names_the_file_and_leaves_nothing(source, folder):
    with pytest.raises(EngineError, match=r'model_fp16\.onnx: TensorRT cannot build it: out of memory'):
        source(FakeTensorRt(fails='TensorRT cannot build it: out of memory')).program(CROP)
    assert [path.suffix for path in folder.iterdir()] == ['.lock']


@pytest.mark.parametrize('keep', [0, 100, -7])
def test_a_corrupt_network_is_one_line(write, plain_file, onnx_file, folder, keep):
    data = onnx_file.read_bytes()
    plain_file.write_bytes(data[:keep] if keep else b'nothing like it')
    with pytest.raises(EngineError, match=r'model_fp32\.onnx: not an ONNX file') as error:
        EngineSource(write(), 'fp32', FakeTensorRt(), EngineCache(folder), BuildOptions(), print)
    assert '\n' not in str(error.value)


def test_a_network_with_a_damaged_part_is_one_line(write, plain_file, onnx_file, folder):
    plain_file.write_bytes(onnx_file.read_bytes().replace(b'Cast', b'Cost'))
    source = EngineSource(write(), 'fp32', FakeTensorRt(), EngineCache(folder), BuildOptions(), lambda _: None)
    with pytest.raises(EngineError, match=r'model_fp32\.onnx: ONNX Runtime refuses it: .*Cost.*; export') as error:
        source.program(CROP)
    assert '\n' not in str(error.value)


def test_the_cache_alone_is_enough_or_says_why_not(source):
    with pytest.raises(EngineError, match=r'no engine demo-.*-fp16-strong-128x128 in .*cache: it is not there yet'):
        source().program(CROP, may_build=False)
    source().program(CROP)
    assert not source().program(CROP, may_build=False)[1]['built']
