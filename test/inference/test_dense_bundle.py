"""Dense bundles: what is in them, what a network answers, and files and outputs that are wrong."""

import shutil
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml
from painted_codes import FILE, NAME, book, mesh, model, network_spec, painted_bundle, painted_network, picture

from kd6d_ros.cli.main import main
from kd6d_ros.errors import BundleError, CodesError, EngineError
from kd6d_ros.geometry.transforms import rotation_angle
from kd6d_ros.inference import bundle_schema
from kd6d_ros.inference.bundle import load_bundle, set_covariance, write_bundle
from kd6d_ros.inference.bundle_files import sha256_file
from kd6d_ros.inference.bundle_records import DecodeSpec
from kd6d_ros.inference.code_files import code_file, write_codes
from kd6d_ros.inference.covariance import COLUMNS, CovarianceModel
from kd6d_ros.inference.engines.network_io import CODE_OUTPUTS, outputs_of, predictions
from kd6d_ros.inference.engines.select import make_engine
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.outlines import Outlines
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.types import RigidTransform

CODES = f'codes/{NAME}.codes.npz'


@pytest.fixture(scope='module')
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dense') / 'b'
    painted_bundle(folder)
    return folder


@pytest.fixture
def folder(shipped, tmp_path):
    return shutil.copytree(shipped, tmp_path / 'b')


def edit(folder, change):
    path = folder / 'bundle.yaml'
    record = yaml.safe_load(path.read_text())
    change(record)
    path.write_text(yaml.safe_dump(record, sort_keys=False))


def signed(folder, relative=CODES):
    """Give the manifest the hash that a file has now, as whoever made up the file would."""
    edit(folder, lambda record: record['files'].update({relative: sha256_file(folder / relative)}))


def refused(folder, message):
    with pytest.raises(BundleError, match=message) as error:
        load_bundle(folder)
    assert '\n' not in str(error.value)


# --- what is in them ----------------------------------------------------------------------------------------------


def test_a_dense_bundle_comes_back_as_it_was(folder):
    bundle = load_bundle(folder)
    assert (bundle.kind, bundle.schema) == ('dense', 3)
    assert bundle.network == network_spec()
    assert bundle.decode == DecodeSpec(0.5, 1000, 0.0)
    assert dict(bundle.codes) == {NAME: CODES}
    np.testing.assert_array_equal(bundle.books[0].points, book().points)
    assert set(bundle.files) == {CODES, 'model_fp32.onnx'}
    manifest = yaml.safe_load((folder / 'bundle.yaml').read_text())
    assert manifest['network']['layout'] == 'nhwc_rgb_uint8_code_maps'
    assert 'levels' not in manifest['network']
    assert 'sharpness' not in manifest['decode']


def test_the_same_bundle_has_the_same_bytes(tmp_path, folder):
    painted_bundle(tmp_path / 'again')
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / 'again' / path.relative_to(folder)).read_bytes()


def test_a_covariance_leaves_the_codes_as_they_are(folder):
    size = len(COLUMNS)
    law = CovarianceModel(np.zeros(size), np.ones(size), np.zeros(3), np.zeros((3, size)), {}, 1.0)
    changed = set_covariance(folder, law.record())
    assert len(changed.books) == 1
    assert load_bundle(folder).covariance == law.record()


def test_a_version_that_knows_keypoints_only_says_so_in_one_line(folder, monkeypatch):
    monkeypatch.setattr(bundle_schema, 'SCHEMA', 2)
    refused(folder, r'bundle\.yaml line 1: schema: the bundle has schema 3, this kd6d_ros reads up to 2: update kd6d')


def test_keypoint_bundles_stay_readable_for_that_version(tmp_path, write):
    write()
    manifest = yaml.safe_load((tmp_path / 'b' / 'bundle.yaml').read_text())
    assert manifest['schema'] == 2
    assert 'codes' not in manifest
    assert load_bundle(tmp_path / 'b').schema == 2


def test_info_tells_what_a_dense_bundle_is(folder, capsys):
    assert main(['info', str(folder)]) == 0
    out = capsys.readouterr().out
    assert 'painted_dense (dense, schema 3)' in out
    assert 'a surface code for every 4x4 px' in out
    assert 'strides' not in out


# --- manifests and files that are wrong ------------------------------------------------------------------------------


def _set(*keys, value):
    def change(record):
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    return change


WRONG = [
    (_set('kind', value='keypoints'), r'codes: surface codes belong to kind: dense, this bundle is of kind: keyp'),
    (_set('codes', value={}), r"codes: no surface codes of 'painted', which kind: dense needs; export"),
    (lambda record: record.pop('codes'), r"line 1: no surface codes of 'painted'"),
    (_set('codes', 'cup', value=CODES), r"codes: 'cup' is not an object of this bundle"),
    (_set('codes', NAME, value='../x.npz'), r"codes\.painted: '\.\./x\.npz' is not a file inside the bundle folder"),
    (_set('codes', NAME, value='codes/none.npz'), r'codes/none\.npz has no sha256 under files'),
    (_set('network', 'layout', value='nhwc_rgb_uint8'), r"layout: unknown layout 'nhwc_rgb_uint8': .* for kind: dense"),
    (_set('network', 'code_stride', value=0), r'code_stride: expected 1 \.\. 256, got 0'),
    (_set('network', 'code_stride', value=3), r'crop_size: 128 is not a multiple of the code stride 3'),
    (_set('network', 'frame_size', value=[322, 240]), r'frame_size: 322x240 is not a multiple of the code stride 4'),
    (
        lambda record: record['network'].update(code_stride=1, frame_size=[8192, 8192]),
        'code_stride: 8192x8192 px make a map of more than 1048576 cells',
    ),
    (_set('network', 'levels', value=[]), r'network\.levels: unknown field'),
    (lambda record: record['network'].pop('code_stride'), r"network: the field 'code_stride' is missing"),
    (_set('decode', 'sharpness', value=1.0), r'decode\.sharpness: unknown field'),
    (_set('decode', 'cells_per_object', value=10**6), r'cells_per_object: expected 1 \.\. 1000, got 1000000'),
]


@pytest.mark.parametrize(('change', 'message'), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_wrong_field_is_named(folder, change, message):
    edit(folder, change)
    refused(folder, message)


def test_codes_that_are_missing_changed_or_a_link(folder, tmp_path):
    path = folder / CODES
    whole = path.read_bytes()
    path.unlink()
    refused(folder, r'painted\.codes\.npz: named in bundle\.yaml but no such file')
    (tmp_path / 'elsewhere.npz').write_bytes(whole)
    path.symlink_to(tmp_path / 'elsewhere.npz')
    refused(folder, 'is a link; a bundle holds its own files')
    path.unlink()
    path.write_bytes(whole[:-1])
    refused(folder, 'its sha256 is not the one in bundle.yaml')
    path.write_bytes(whole)
    load_bundle(folder)


OTHER = {
    'another name': (lambda one: replace(one, name='cup'), r"codes of object 1 'cup'; expected 1 'painted'"),
    'another id': (lambda one: replace(one, obj_id=9), r"codes of object 9 'painted'; expected 1 'painted'"),
    'another size': (
        lambda one: replace(one, step=2 * one.step, low=2 * one.low, diameter=2 * one.diameter),
        r"a mesh of another size or place than that of 'painted'",
    ),
    'rows mixed up': (
        lambda one: replace(one, grid=np.random.default_rng(0).permutation(one.grid)),
        'the rows were mixed up',
    ),
}


@pytest.mark.parametrize('what', OTHER)
def test_codes_of_another_object_are_refused(folder, what):
    change, message = OTHER[what]
    write_codes(folder / 'codes', change(book()))
    if what == 'another name':
        code_file(folder / 'codes', 'cup').replace(folder / CODES)
    signed(folder)
    refused(folder, message + r'.*export the bundle again')


def test_codes_that_unpack_to_too_much_are_not_unpacked(folder):
    with zipfile.ZipFile(folder / CODES, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('more.npy', bytes(64 << 20))
    assert (folder / CODES).stat().st_size < 1 << 20
    signed(folder)
    refused(folder, r'not a file of surface codes \(other arrays than expected\)')


def test_pickles_among_the_codes_are_refused(folder):
    with np.load(folder / CODES) as stored:
        arrays = {key: stored[key] for key in stored.files}
    with (folder / CODES).open('wb') as file:
        np.savez_compressed(file, **{**arrays, 'name': np.array({'a': 1}, dtype=object)})
    signed(folder)
    refused(folder, 'not an archive of plain arrays')


def test_nothing_is_written_when_the_codes_do_not_fit(tmp_path):
    with pytest.raises((BundleError, CodesError), match='another size or place'):
        painted_bundle(tmp_path / 'b', books=(replace(book(), diameter=0.3),))
    with pytest.raises(BundleError, match="no surface codes of 'other'"):
        write_bundle(
            tmp_path / 'b', name='x', objects=(model(), model('other', 2)), network=network_spec(),
            decode=DecodeSpec(0.5, 1000), engines={'fp32': FILE}, licence='CC0', origin='here', books=(book(),),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


# --- what a network answers ------------------------------------------------------------------------------------------


def answer(cells=(32, 32), seed=0):
    rng = np.random.default_rng(seed)
    index = np.zeros((1, *cells), np.int64)
    return [index, rng.random((1, *cells), np.float32), rng.random((1, 16, *cells), np.float32)]


def read(bundle, arrays, size=(128, 128)):
    return predictions(bundle, FILE, arrays, size).codes


def test_outputs_become_maps(folder):
    bundle = load_bundle(folder)
    assert outputs_of(bundle.network) == CODE_OUTPUTS == ('class_index', 'mask', 'code')
    arrays = answer()
    maps = read(bundle, arrays)
    np.testing.assert_array_equal(maps.mask, arrays[1][0])
    np.testing.assert_array_equal(maps.code, arrays[2][0])


@pytest.mark.parametrize(
    ('place', 'value'), [(1, np.nan), (1, np.inf), (1, -0.5), (1, 1.5), (2, np.nan), (2, -1.0), (0, 1), (0, -1)]
)
def test_cells_of_nonsense_show_nothing(folder, place, value):
    bundle = load_bundle(folder)
    arrays = answer()
    arrays[place][0][..., 4, 7] = value
    maps = read(bundle, arrays)
    assert maps.mask[4, 7] == 0
    assert ((maps.class_index >= 0) & (maps.class_index < 1)).all()
    assert ((maps.code >= 0) & (maps.code <= 1)).all()
    others = np.ones((32, 32), bool)
    others[4, 7] = False
    np.testing.assert_array_equal(maps.mask[others], arrays[1][0][others])


@pytest.mark.parametrize(
    'change',
    [
        lambda arrays: [*arrays[:2], arrays[2][:, :15]],
        lambda arrays: [arrays[0], arrays[1][:, :-1], arrays[2]],
        lambda arrays: [item[:, ..., :16, :16] for item in arrays],
        lambda arrays: [arrays[0].astype(np.float32), *arrays[1:]],
        lambda arrays: [arrays[0], np.full((1, 32, 32), 'x'), arrays[2]],
        lambda arrays: [arrays[0], arrays[1][0], arrays[2]],
        lambda arrays: [item[:0] for item in arrays],
    ],
)
def test_outputs_of_other_shapes_or_types_are_one_line(folder, change):
    bundle = load_bundle(folder)
    with pytest.raises(EngineError, match='class_index, mask, code are') as error:
        read(bundle, change(answer()))
    assert '\n' not in str(error.value)


def test_the_painted_network_is_what_its_maker_makes():
    onnx = pytest.importorskip('onnx', reason='the onnx package is not installed')
    assert onnx.load_from_string(painted_network()).graph == onnx.load(str(FILE)).graph


@pytest.fixture
def engine(folder):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    return make_engine(load_bundle(folder), threads=1)


def at(x, y, z, rotation):
    return RigidTransform(cv2.Rodrigues(np.array(rotation, dtype=float))[0], np.array([x, y, z], dtype=float))


def test_a_painted_box_is_found_and_followed_through_onnx_runtime(folder, engine, camera):
    engine.warm_up()
    estimator = PoseEstimator(load_bundle(folder), engine)
    assert estimator.estimate(np.zeros((480, 640, 3), np.uint8), camera, 0.0) == []
    for step in range(4):
        truth = at(0.02 + 0.005 * step, -0.01, 0.6, (0.5, -0.7 + 0.05 * step, 0.2))
        (found,) = estimator.estimate(picture(camera, truth), camera, 1 + step / 30)
        assert estimator.report.mode == ('frame' if step == 0 else 'tracked')
        assert np.linalg.norm(found.cam_from_obj.translation - truth.translation) < 3e-3
        assert np.degrees(rotation_angle(found.cam_from_obj.rotation, truth.rotation)) < 1.0


def test_the_outline_of_the_mesh_can_be_fitted_after_codes_too(folder, engine, camera):
    bundle = load_bundle(folder)
    outlines = Outlines(bundle, bundle.names, {NAME: mesh()})
    estimator = PoseEstimator(bundle, engine, EstimatorSettings(fit_outline=True), outlines=outlines)
    truth = at(0.02, -0.01, 0.6, (0.5, -0.7, 0.2))
    (found,) = estimator.estimate(picture(camera, truth), camera, 0.0)
    assert estimator.report.stages['outline'] > 0
    assert np.linalg.norm(found.cam_from_obj.translation - truth.translation) < 3e-3
    assert np.degrees(rotation_angle(found.cam_from_obj.rotation, truth.rotation)) < 1.0


def test_only_objects_that_were_asked_for_are_in_the_maps(folder, engine, camera):
    image = picture(camera, at(0, 0, 0.5, (0.5, -0.7, 0.2)))[None, 176:304, 256:384]
    assert engine.run(image, np.array([[True]]))[0].codes.mask.max() > 0.9
    assert engine.run(image, np.array([[False]]))[0].codes.mask.max() == 0


def test_a_network_of_another_kind_is_named(tmp_path, folder, write, onnx_file):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    keypoints = painted_bundle(tmp_path / 'wrong', engines={'fp32': onnx_file})
    with pytest.raises(EngineError, match=r"expected .* and \['class_index', 'mask', 'code'\]"):
        make_engine(keypoints)
    with pytest.raises(EngineError, match='not a network of kd6d_ros'):
        make_engine(write(engines={'fp32': FILE}))
