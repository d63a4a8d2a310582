"""Bundles: what is written is read back; every damage ends in one line that names file, line and field."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from kd6d_ros.errors import BundleError, ConfigError
from kd6d_ros.inference.bundle import load_bundle, load_mesh
from kd6d_ros.inference.bundle_records import DecodeSpec, Measured
from kd6d_ros.inference.covariance import COLUMNS, CovarianceModel
from kd6d_ros.types import ContinuousSymmetry, ObjectModel, RigidTransform, Symmetries

COVARIANCE = CovarianceModel(
    np.zeros(len(COLUMNS)), np.ones(len(COLUMNS)), np.array([-6.0, -5.0, -4.0]), np.zeros((3, len(COLUMNS))), {}, 0.9
).record()
MODELS = Path(__file__).resolve().parents[2] / 'models'


def edit(folder, change):
    """Apply `change` to the manifest as plain data."""
    path = folder / 'bundle.yaml'
    record = yaml.safe_load(path.read_text())
    change(record)
    path.write_text(yaml.safe_dump(record, sort_keys=False))


def replace_text(folder, old, new):
    path = folder / 'bundle.yaml'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_round_trip(write, tmp_path, objects, network, tetrahedron):
    turned = RigidTransform(np.diag([-1.0, 1.0, -1.0]), np.array([0.001, 0, 0.002]))
    axis = ContinuousSymmetry(np.array([0.0, 0, 1]), np.array([0.01, 0, 0]))
    cup = ObjectModel('cup', 9, 0.17, objects[0].keypoints, Symmetries((turned,), (axis,)))
    write(objects=(*objects, cup), meshes={'mug': tetrahedron}, covariance=COVARIANCE)
    bundle = load_bundle(tmp_path / 'b')
    assert bundle.names == ('mug', 'off', 'brick', 'cup')
    assert bundle.network == network
    assert bundle.object('off').keypoints == pytest.approx(objects[1].keypoints)
    assert bundle.object('mug').display_name == 'Mug'
    read = bundle.object('cup').symmetries
    assert read.discrete[0].matrix() == pytest.approx(turned.matrix())
    assert read.continuous[0].axis == pytest.approx(axis.axis)
    assert read.continuous[0].offset == pytest.approx(axis.offset)
    assert bundle.covariance == COVARIANCE
    assert bundle.training == {'recipe': 'r.yaml', 'iterations': 10}
    mesh = load_mesh(bundle, 'mug')
    assert mesh.vertices == pytest.approx(tetrahedron.vertices)
    assert (mesh.colours == 200).all()
    assert load_mesh(bundle, 'off') is None
    assert sorted(bundle.files) == ['meshes/mug.npz', 'model_fp32.onnx']


def test_multiply_adds_are_kept_where_they_are_known(write, tmp_path, network):
    write()
    text = (tmp_path / 'b' / 'bundle.yaml').read_text()
    assert 'macs' not in text
    assert load_bundle(tmp_path / 'b').network == replace(network, crop_macs=None, frame_macs=None)
    counted = replace(network, crop_macs=123_456_789, frame_macs=2_345_678_901)
    write(network=counted)
    assert load_bundle(tmp_path / 'b').network == counted
    edit(tmp_path / 'b', _set('network', 'frame_macs', value=None))
    assert load_bundle(tmp_path / 'b').network == replace(counted, frame_macs=None)


def test_the_stride_of_the_surface_is_kept(write, tmp_path, network):
    assert write().network.surface_stride is None
    assert 'surface_stride' not in (tmp_path / 'b' / 'bundle.yaml').read_text()
    seeing = replace(network, surface_stride=8)
    write(network=seeing)
    assert load_bundle(tmp_path / 'b').network == seeing
    assert 'surface_stride: 8' in (tmp_path / 'b' / 'bundle.yaml').read_text()
    edit(tmp_path / 'b', _set('network', 'surface_stride', value=None))
    assert load_bundle(tmp_path / 'b').network == network


def test_the_recommended_score_is_kept_and_may_be_missing(write, tmp_path):
    assert write().decode.min_score is None
    assert 'min_score' not in (tmp_path / 'b' / 'bundle.yaml').read_text()
    write(decode=DecodeSpec(0.1, 10, 1.0, min_score=0.35))
    assert 'min_score: 0.35' in (tmp_path / 'b' / 'bundle.yaml').read_text()
    assert load_bundle(tmp_path / 'b').decode == DecodeSpec(0.1, 10, 1.0, min_score=0.35)
    edit(tmp_path / 'b', _set('decode', 'min_score', value=None))
    assert load_bundle(tmp_path / 'b').decode.min_score is None


@pytest.mark.parametrize('name', ['demo', 'lmo'])
def test_the_shipped_bundles_load_and_recommend_what_their_manifests_say(name):
    decode = yaml.safe_load((MODELS / name / 'bundle.yaml').read_text())['decode']
    assert load_bundle(MODELS / name).decode == DecodeSpec(**{'min_score': None, **decode})


def test_a_stride_that_does_not_divide_the_crop_is_not_written(write, tmp_path, network):
    with pytest.raises(BundleError, match='48 does not divide the input size 128'):
        write(network=replace(network, surface_stride=48))
    assert not (tmp_path / 'b').exists()


def test_writing_again_replaces_and_leaves_nothing_else(write, tmp_path):
    write()
    write(licence='MIT')
    assert load_bundle(tmp_path / 'b').licence == 'MIT'
    assert sorted(item.name for item in tmp_path.iterdir()) == ['any.onnx', 'b']


def test_the_same_content_gives_the_same_bytes(write, tmp_path, tetrahedron):
    write(meshes={'mug': tetrahedron})
    first = {p.name: p.read_bytes() for p in (tmp_path / 'b').rglob('*') if p.is_file()}
    write(meshes={'mug': tetrahedron})
    assert first == {p.name: p.read_bytes() for p in (tmp_path / 'b').rglob('*') if p.is_file()}


def test_a_bundle_that_would_not_load_is_not_written(write, tmp_path, objects):
    bad = ObjectModel('a-b', 1, 0.17, objects[0].keypoints)
    with pytest.raises(BundleError, match=r"'a-b' is not an object name that ROS allows"):
        write(objects=(bad,))
    assert sorted(item.name for item in tmp_path.iterdir()) == ['any.onnx']


def test_a_folder_that_is_not_a_bundle_is_not_replaced(write, tmp_path):
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'thesis.tex').write_text('x')
    with pytest.raises(BundleError, match='is not a bundle; choose another folder'):
        write()
    assert (tmp_path / 'b' / 'thesis.tex').read_text() == 'x'


def test_a_value_that_yaml_cannot_hold_is_named(write, tmp_path):
    with pytest.raises(BundleError, match=r'training\.when: a manifest cannot hold a set'):
        write(training={'when': {1, 2}})


def test_missing_folder_and_missing_manifest(tmp_path):
    with pytest.raises(BundleError, match='no such bundle folder'):
        load_bundle(tmp_path / 'none')
    with pytest.raises(BundleError, match=r'has no bundle\.yaml'):
        load_bundle(tmp_path)


def test_a_changed_byte_names_the_file(write, tmp_path):
    write()
    path = tmp_path / 'b' / 'model_fp32.onnx'
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r'model_fp32\.onnx: its sha256 is not the one in bundle\.yaml'):
        load_bundle(tmp_path / 'b')


def test_a_missing_file_an_unlisted_engine_and_a_link_are_refused(write, tmp_path):
    write()
    folder = tmp_path / 'b'
    (folder / 'other.onnx').write_bytes(b'x')
    with pytest.raises(BundleError, match=r'other\.onnx: an engine that bundle\.yaml does not list'):
        load_bundle(folder)
    (folder / 'other.onnx').unlink()
    os.replace(folder / 'model_fp32.onnx', tmp_path / 'away.onnx')
    with pytest.raises(BundleError, match=r'model_fp32\.onnx: named in bundle\.yaml but no such file'):
        load_bundle(folder)
    (folder / 'model_fp32.onnx').symlink_to(tmp_path / 'away.onnx')
    with pytest.raises(BundleError, match=r'model_fp32\.onnx: is a link'):
        load_bundle(folder)


@pytest.mark.parametrize('path', ['../away.onnx', '/etc/passwd', 'a/../../b.onnx', 'bundle.yaml', 'a b.onnx', ''])
def test_paths_that_leave_the_folder_are_refused(write, tmp_path, path):
    write()
    edit(tmp_path / 'b', lambda record: record['engines'].update(fp32=path))
    with pytest.raises(BundleError, match=r'bundle\.yaml line \d+: engines\.fp32: .* is not a file inside'):
        load_bundle(tmp_path / 'b')


def test_an_engine_without_a_hash_is_refused(write, tmp_path):
    write()
    edit(tmp_path / 'b', lambda record: record.update(files={}))
    with pytest.raises(BundleError, match=r'model_fp32\.onnx has no sha256 under files'):
        load_bundle(tmp_path / 'b')


def _set(*keys, value):
    def change(record):
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    return change


WRONG = [
    (_set('schema', value=99), r'schema: the bundle has schema 99, this kd6d_ros reads up to 3: update'),
    (_set('schema', value='one'), r'schema: expected a whole number'),
    (_set('kind', value='dense3'), r"kind: unknown kind 'dense3'"),
    (_set('objects', value=[]), r'objects: expected 1 to 1000 items, got 0'),
    (_set('objects', value='mug'), r"objects: expected a list, got 'mug'"),
    (_set('objects', 0, 'name', value='2mugs'), r"objects\[0\]\.name: '2mugs' is not an object name that ROS"),
    (_set('objects', 1, 'name', value='mug'), r"objects\[1\]: the name 'mug' is given twice"),
    (_set('objects', 1, 'obj_id', value=1), r'objects\[1\]: obj_id 1 is given twice'),
    (_set('objects', 0, 'diameter_m', value=170.0), r'diameter_m: expected 0.005 .. 10 metres, got 170; are these'),
    (_set('objects', 0, 'diameter_m', value=0.001), r'diameter_m: expected 0.005 .. 10 metres, got 0.001'),
    (_set('objects', 0, 'diameter_m', value=float('nan')), r'diameter_m: expected a finite number, got nan'),
    (_set('objects', 0, 'diameter_m', value='big'), r"diameter_m: expected a number, got 'big'"),
    (_set('objects', 0, 'diameter_m', value=True), r"diameter_m: expected a number, got 'true'"),
    (_set('objects', 0, 'diameter_m', value=0.9), r'keypoints_m: the corners span 0.1755 m, which does not fit'),
    (_set('objects', 0, 'keypoints_m', value=[[0, 0, k] for k in range(7)]), r'keypoints_m: expected 8 items, got 7'),
    (_set('objects', 0, 'keypoints_m', 3, value=[0, 0]), r'keypoints_m\[3\]: expected 3 items, got 2'),
    (_set('objects', 0, 'keypoints_m', 3, 1, value=float('inf')), r'keypoints_m\[3\]\[1\]: expected a finite'),
    (_set('objects', 2, 'symmetries', 'discrete', 0, value=[1.0] * 16), r'discrete\[0\]: the last row'),
    (_set('objects', 0, 'symmetries', 'continuous', value=[{'axis': [0, 0, 0], 'offset_m': [0, 0, 0]}]), 'no length'),
    (_set('network', 'crop_size', value=100), r'network\.crop_size: 100 is not a multiple of the finest stride 8'),
    (_set('network', 'frame_size', value=[640]), r'network\.frame_size: expected 2 items, got 1'),
    (_set('network', 'frame_size', value=[650, 480]), r'frame_size: 650x480 is not a multiple'),
    (_set('network', 'layout', value='nchw'), r"network\.layout: unknown layout 'nchw'"),
    (_set('network', 'max_cells', value=10**9), r'max_cells: expected 1 .. 65536, got 1000000000'),
    (_set('network', 'crop_sise', value=1), r"network\.crop_sise: unknown field; did you mean 'crop_size'\?"),
    (_set('network', 'surface_stride', value=48), r'network\.surface_stride: 48 does not divide the input size 128'),
    (_set('network', 'surface_stride', value=64), r'surface_stride: 64 does not divide the input size 480'),
    (_set('network', 'surface_stride', value=0), r'network\.surface_stride: expected 1 .. 256, got 0'),
    (_set('network', 'surface_stride', value='fine'), r'network\.surface_stride: expected a whole number'),
    (_set('network', 'crop_macs', value=0), r'network\.crop_macs: expected 1 .. \d+, got 0'),
    (_set('network', 'frame_macs', value=1.5e9), r'network\.frame_macs: expected a whole number'),
    (_set('decode', 'min_score', value=2), r'decode\.min_score: expected 0 .. 1, got 2'),
    (_set('decode', 'score_threshold', value=2), r'decode\.score_threshold: expected 0 .. 1, got 2'),
    (_set('engines', value={}), r'engines: expected at least one engine'),
    (_set('engines', value={'FP 32': 'x.onnx'}), r"'FP 32' is not a precision that matches"),
    (_set('meshes', value={'cup': 'meshes/cup.npz'}), r"meshes: 'cup' is not an object of this bundle"),
    (_set('files', value={'model_fp32.onnx': 'abc'}), r"files\.model_fp32\.onnx: 'abc' is not a sha256"),
    (_set('expected', value={'add': 'good'}), r'expected\.add: expected a number'),
    (_set('licence', value=3), r"licence: expected text, got '3'"),
    (lambda record: record.pop('decode'), r"line 1: the field 'decode' is missing"),
    (lambda record: record.pop('schema'), r"line 1: the field 'schema' is missing: is this a bundle"),
]


@pytest.mark.parametrize(('change', 'message'), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_wrong_field_is_named_with_its_line(write, tmp_path, change, message):
    write()
    edit(tmp_path / 'b', change)
    with pytest.raises(BundleError, match=r'bundle\.yaml line \d+: .*' + message.replace('line 1: ', '')) as error:
        load_bundle(tmp_path / 'b')
    assert '\n' not in str(error.value)


def test_the_line_is_the_right_one(write, tmp_path):
    write()
    replace_text(tmp_path / 'b', 'diameter_m: 0.17', 'diameter_m: 170')
    lines = (tmp_path / 'b' / 'bundle.yaml').read_text().splitlines()
    number = 1 + next(i for i, line in enumerate(lines) if 'diameter_m: 170' in line)
    with pytest.raises(BundleError, match=rf'bundle\.yaml line {number}: objects\[0\]\.diameter_m'):
        load_bundle(tmp_path / 'b')


BROKEN = [
    (b'', 'empty file'),
    (b'[1, 2', r'line 1: not valid YAML'),
    (b'\xff\xfe', 'not UTF-8'),
    (b'- 1\n- 2\n', 'line 1: expected a mapping of names to values, got a list'),
    (b'a: &x [1]\nb: *x\n', r'line 2: not valid YAML: aliases \(\*name\) are not allowed'),
    (b'a: ' + b'[' * 50 + b']' * 50, 'nested more than 12 deep'),
    (b'schema: 1\nschema: 1\n', 'line 2: schema: given twice'),
    (b'schema: !!python/object:os.system {}\n', 'schema: expected one value, got a mapping'),
    (b'? [1, 2]\n: 3\n', 'names must be plain text'),
    (b'#' * ((1 << 20) + 1), 'a manifest has at most'),
]


@pytest.mark.parametrize(('data', 'message'), BROKEN, ids=[message[:30] for _, message in BROKEN])
def test_a_broken_manifest_ends_in_one_line(tmp_path, data, message):
    (tmp_path / 'bundle.yaml').write_bytes(data)
    with pytest.raises(BundleError, match=message) as error:
        load_bundle(tmp_path)
    assert '\n' not in str(error.value)


def test_numbers_like_1e_minus_3_are_numbers(write, tmp_path):
    write()
    replace_text(tmp_path / 'b', 'sharpness: 1.0', 'sharpness: 1e0')
    assert load_bundle(tmp_path / 'b').decode.sharpness == 1.0


def test_unknown_object_and_precision_name_what_there_is(bundle, write):
    with pytest.raises(ConfigError, match=r"bundle 'fake' has no object 'cup': it knows mug, off, brick"):
        bundle.index('cup')
    with pytest.raises(BundleError, match=r"bundle 'demo' has no 'int8' engine: it has fp32"):
        write().engine_path('int8')


def _mesh_file(write, tmp_path, mesh, data):
    """A bundle whose mesh file was made by someone else, with the right hash."""
    import hashlib

    write(meshes={'mug': mesh})
    (tmp_path / 'b' / 'meshes' / 'mug.npz').write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(tmp_path / 'b', lambda record: record['files'].update({'meshes/mug.npz': digest}))
    return load_bundle(tmp_path / 'b')


def _npz(**arrays):
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_a_mesh_that_is_not_plain_arrays_is_refused(write, tmp_path, tetrahedron):
    faces = tetrahedron.faces.astype(np.int32)
    vertices = tetrahedron.vertices.astype(np.float32)
    cases = [
        (b'PK nonsense', 'not an archive of plain arrays'),
        (_npz(vertices=np.array([{}], dtype=object), faces=faces), 'not an archive of plain arrays'),
        (_npz(faces=faces), 'vertices: expected up to 2000000 rows of 3 numbers, got nothing'),
        (_npz(vertices=vertices[:, :2], faces=faces), 'vertices: expected up to'),
        (_npz(vertices=vertices, faces=faces + 3), 'faces name vertices that do not exist'),
        (_npz(vertices=vertices * np.nan, faces=faces), 'NaN'),
        (_npz(vertices=np.zeros((9_000_000, 3), np.float32), faces=faces), 'unpacks to 108'),
        (_npz(vertices=vertices, faces=faces, colours=np.zeros((3, 3), np.uint8)), 'one per vertex'),
    ]
    for data, message in cases:
        bundle = _mesh_file(write, tmp_path, tetrahedron, data)
        with pytest.raises(BundleError, match=message):
            load_mesh(bundle, 'mug')


def test_every_single_wrong_byte_of_a_mesh_ends_in_a_bundle_error_or_is_harmless(write, tmp_path, tetrahedron):
    bundle = write(meshes={'mug': tetrahedron})
    path = tmp_path / 'b' / 'meshes' / 'mug.npz'
    data = path.read_bytes()
    refused = 0
    for index in range(0, len(data), 3):
        changed = bytearray(data)
        changed[index] ^= 0xFF
        path.write_bytes(bytes(changed))
        try:
            load_mesh(bundle, 'mug')
        except BundleError:
            refused += 1
    assert refused > len(data) / 9


@pytest.mark.parametrize('error', [MemoryError(), OverflowError('x'), NotImplementedError('x'), RuntimeError('x')])
def test_what_zipfile_and_numpy_may_raise_is_one_line(write, tetrahedron, monkeypatch, error):
    bundle = write(meshes={'mug': tetrahedron})

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(np, 'load', fail)
    with pytest.raises(BundleError, match=r'mug\.npz: not an archive of plain arrays \((x|MemoryError)\)'):
        load_mesh(bundle, 'mug')


def test_what_was_measured_of_a_precision_survives(write, tmp_path):
    bundle = write(
        measured={
            'fp32': Measured(6.5, 300, 0.875, 0.0),
        }
    )
    assert load_bundle(tmp_path / 'b').measured == bundle.measured
    assert bundle.measured['fp32'].keypoint_error_px is None


def test_a_bundle_of_schema_1_still_loads(write, tmp_path):
    write()

    def old(record):
        record['schema'] = 1
        record.pop('measured')

    edit(tmp_path / 'b', old)
    assert load_bundle(tmp_path / 'b').measured == {}


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ({'int8': {}}, "measured.int8: 'int8' is not a precision of this bundle"),
        ({'fp32': {'recall': 87.5}}, r'measured.fp32.recall: expected 0 \.\. 1, got 87.5'),
        ({'fp32': {'latency': 1}}, r"measured.fp32.latency: unknown field; did you mean 'latency_ms'"),
        ({'fp32': {'objects': 0.5}}, r'measured.fp32.objects: expected a whole number'),
    ],
)
def test_a_wrong_measurement_is_named(write, tmp_path, value, message):
    write()
    edit(tmp_path / 'b', lambda record: record.update(measured=value))
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path / 'b')


def test_int8_on_a_processor_is_the_file_made_for_it(write, tmp_path):
    (tmp_path / 'x.onnx').write_bytes(b'not looked into')
    bundle = write(engines={'int8': tmp_path / 'x.onnx', 'int8-cpu': tmp_path / 'x.onnx'})
    assert bundle.engines['int8-cpu'] == 'model_int8_cpu.onnx'
    assert bundle.cpu_precision('int8') == 'int8-cpu'
    assert bundle.cpu_precision('fp32') == 'fp32'
    assert replace(bundle, engines={'int8': 'x'}).cpu_precision('int8') == 'int8'
