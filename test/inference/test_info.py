"""`kd6d info` and finding bundles by name."""

import json
from dataclasses import replace

import pytest

from kd6d_ros.cli.main import main
from kd6d_ros.errors import BundleError
from kd6d_ros.inference import locate
from kd6d_ros.inference.bundle import load_bundle, load_mesh
from kd6d_ros.inference.bundle_records import DecodeSpec
from kd6d_ros.inference.locate import find_bundle, installed_bundles


def test_info_prints_what_is_in_it(write, tmp_path, capsys, tetrahedron):
    write(meshes={'mug': tetrahedron})
    assert main(['info', str(tmp_path / 'b')]) == 0
    out = capsys.readouterr().out
    for word in ('demo', '170.0', '1 discrete', 'Apache-2.0', 'made here', 'model_fp32.onnx', '640x480 px'):
        assert word in out
    assert '2 files, every sha256 agrees' in out
    assert 'add_recall: 0.5' in out


def test_info_json(write, tmp_path, capsys):
    write()
    target = tmp_path / 'info.json'
    assert main(['info', str(tmp_path / 'b'), '--json', str(target)]) == 0
    record = json.loads(target.read_text())
    assert record['objects'][2]['symmetries'] == '1 discrete'
    assert record['objects'][0]['diameter_mm'] == 170.0
    assert record['network']['parameters'] == 1000
    assert record['engines']['fp32']['bytes'] == len(b'not looked into')
    assert record['checked'] is True
    capsys.readouterr()
    assert main(['info', str(tmp_path / 'b'), '--json']) == 0
    assert json.loads(capsys.readouterr().out) == record


def test_info_shows_the_surface_branch_and_the_multiply_adds_that_are_known(write, tmp_path, capsys, network):
    write()
    assert main(['info', str(tmp_path / 'b')]) == 0
    out = capsys.readouterr().out
    assert 'surface    none\n' in out
    assert 'GMAC' not in out
    write(network=replace(network, surface_stride=8, crop_macs=123_456_789, frame_macs=2_345_678_901))
    assert main(['info', str(tmp_path / 'b')]) == 0
    out = capsys.readouterr().out
    assert 'surface    a point of the object for every 8x8 px\n' in out
    assert 'compute    0.123 GMAC per crop, 2.35 GMAC per frame (1 MAC: one multiply-add)\n' in out
    assert main(['info', str(tmp_path / 'b'), '--json']) == 0
    record = json.loads(capsys.readouterr().out)['network']
    assert (record['surface_stride_px'], record['crop_macs'], record['frame_macs']) == (8, 123456789, 2345678901)


def test_info_says_which_least_score_counts(write, tmp_path, capsys):
    for decode, line, value in (
        (DecodeSpec(), 'min_score  0.6 (the default)', None),
        (DecodeSpec(min_score=0.35), 'min_score  0.35 (recommended here)', 0.35),
    ):
        write(decode=decode)
        assert main(['info', str(tmp_path / 'b'), '--json', str(tmp_path / 'info.json')]) == 0
        assert line in capsys.readouterr().out.splitlines()
        assert json.loads((tmp_path / 'info.json').read_text())['decode']['min_score'] == value


def test_info_of_a_changed_bundle_is_one_line_and_exit_2(write, tmp_path, capsys):
    write()
    (tmp_path / 'b' / 'model_fp32.onnx').write_bytes(b'changed')
    assert main(['info', str(tmp_path / 'b')]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.count('\n') == 1
    assert 'model_fp32.onnx: its sha256 is not the one' in captured.err


def test_a_bundle_is_found_by_path_by_manifest_and_by_name(write, tmp_path, monkeypatch):
    write()
    folder = tmp_path / 'b'
    assert find_bundle(folder) == folder
    assert find_bundle(folder / 'bundle.yaml') == folder
    models = tmp_path / 'ws' / 'share' / 'kd6d_ros' / 'models'
    models.mkdir(parents=True)
    folder.rename(models / 'mine')
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{tmp_path / "ws"}')
    assert find_bundle('mine') == models / 'mine'
    assert 'mine' in installed_bundles()


def test_an_unknown_bundle_names_those_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, 'model_folders', lambda: [])
    with pytest.raises(BundleError, match=r'nope: no such bundle; give a folder or one of the installed'):
        find_bundle('nope')
    with pytest.raises(BundleError, match=r'has no bundle\.yaml, so it is not a bundle'):
        find_bundle(tmp_path)
    with pytest.raises(BundleError, match='no bundle given'):
        find_bundle('')


def test_a_bundle_whose_files_were_installed_as_links_loads(write, tmp_path, monkeypatch, tetrahedron):
    written = write(meshes={'mug': tetrahedron}).folder
    models = tmp_path / 'prefix' / 'share' / 'kd6d_ros' / 'models'
    linked = models / 'mine'
    for path in (item for item in written.rglob('*') if item.is_file()):
        link = linked / path.relative_to(written)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))
    for given in ('mine', linked, linked / 'bundle.yaml'):
        bundle = load_bundle(find_bundle(given))
        assert bundle.folder == written
        assert load_mesh(bundle, 'mug') is not None
