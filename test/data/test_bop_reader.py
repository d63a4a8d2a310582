"""The BOP reader on small datasets made here, in every core layout, and on broken ones."""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest

from kd6d_ros.data.bop import BopDataset, read_detections, read_models_info, read_targets
from kd6d_ros.errors import CameraError, DatasetError, ImageError

K = [600.0, 0.0, 31.5, 0.0, 601.0, 23.5, 0.0, 0.0, 1.0]
TURN = [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
SIZE = (48, 64)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def colour_image():
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 200, 100, 50  # RGB
    return image


@pytest.fixture
def scene_folder(tmp_path):
    """A scene with one png image, depth, masks, and two objects of which one is hidden."""
    folder = tmp_path / 'set' / 'test' / '000002'
    write_json(folder / 'scene_camera.json', {'17': {'cam_K': K, 'depth_scale': 0.1}})
    gt = {'cam_R_m2c': TURN, 'cam_t_m2c': [10.0, -20.0, 750.0], 'obj_id': 5}
    write_json(folder / 'scene_gt.json', {'17': [gt, {**gt, 'obj_id': 9}]})
    info = {'bbox_obj': [-4, 3, 20, 10], 'bbox_visib': [0, 3, 16, 10], 'px_count_all': 231,
            'px_count_valid': 180, 'px_count_visib': 187, 'visib_fract': 0.81}  # fmt: skip
    hidden = {**info, 'bbox_visib': [-1, -1, -1, -1], 'px_count_visib': 0, 'visib_fract': 0.0}
    write_json(folder / 'scene_gt_info.json', {'17': [info, hidden]})
    for name in ('rgb', 'depth', 'mask', 'mask_visib'):
        (folder / name).mkdir()
    cv2.imwrite(str(folder / 'rgb' / '000017.png'), colour_image()[..., ::-1])
    cv2.imwrite(str(folder / 'depth' / '000017.png'), np.full(SIZE, 7500, np.uint16))
    mask = np.zeros(SIZE, np.uint8)
    mask[3:14, 0:17] = 255
    cv2.imwrite(str(folder / 'mask' / '000017_000000.png'), mask)
    cv2.imwrite(str(folder / 'mask_visib' / '000017_000000.png'), mask)
    return folder


@pytest.fixture
def scene(scene_folder):
    return BopDataset.open(scene_folder.parents[1]).scene('test', 2)


def test_scene_is_read_in_metres_and_corner_boxes(scene):
    assert scene.image_ids == (17,)
    first, second = scene.annotations(17)
    assert (first.obj_id, first.index, second.obj_id, second.index) == (5, 0, 9, 1)
    np.testing.assert_allclose(first.cam_from_obj.translation, [0.01, -0.02, 0.75])
    np.testing.assert_allclose(first.cam_from_obj.rotation, np.reshape(TURN, (3, 3)))
    np.testing.assert_array_equal(first.box_object, [-4, 3, 16, 13])
    np.testing.assert_array_equal(first.box_visible, [0, 3, 16, 13])
    assert (first.visible_fraction, first.pixels_all, first.pixels_visible) == (0.81, 231, 187)
    assert second.box_visible is None
    assert second.visible_fraction == 0.0
    camera = scene.camera(17)
    assert (camera.width, camera.height) == (64, 48)
    np.testing.assert_array_equal(camera.matrix, np.reshape(K, (3, 3)))
    assert scene.camera(17, size=(640, 480)).width == 640
    np.testing.assert_array_equal(scene.image(17), colour_image())
    np.testing.assert_allclose(scene.depth(17), np.full(SIZE, 0.75), rtol=1e-6)
    assert scene.mask(17, 0).sum() == 11 * 17
    assert scene.mask_visible(17, 0).dtype == np.bool_
    assert scene.mask(17, 1) is None


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.jpg'])
@pytest.mark.parametrize('folder', ['rgb', 'gray'])
def test_grey_images_become_rgb(scene_folder, folder, suffix):
    (scene_folder / 'rgb' / '000017.png').unlink()
    (scene_folder / folder).mkdir(exist_ok=True)
    cv2.imwrite(str(scene_folder / folder / f'000017{suffix}'), np.full(SIZE, 77, np.uint8))
    scene = BopDataset.open(scene_folder.parents[1]).scene('test', 2)
    np.testing.assert_allclose(scene.image(17), np.full((*SIZE, 3), 77), atol=1)
    assert scene.camera(17).height == SIZE[0]


@pytest.mark.parametrize(('suffix', 'channels'), [('.png', 1), ('.tif', 1), ('.tif', 3), ('.png', 4)])
def test_sixteen_bits_and_alpha(scene_folder, suffix, channels):
    (scene_folder / 'rgb' / '000017.png').unlink()
    image = np.full((*SIZE, channels), 257 * 130, np.uint16)
    if channels > 1:
        image[..., 2] = 257 * 30  # red, as OpenCV writes BGR
    cv2.imwrite(str(scene_folder / 'rgb' / f'000017{suffix}'), image)
    got = BopDataset.open(scene_folder.parents[1]).scene('test', 2).image(17)
    assert got.dtype == np.uint8
    assert got.shape == (*SIZE, 3)
    assert got[5, 5].tolist() == ([30, 130, 130] if channels > 1 else [130, 130, 130])


def test_held_out_set_has_no_annotations(scene_folder):
    (scene_folder / 'scene_gt.json').unlink()
    scene = BopDataset.open(scene_folder.parents[1]).scene('test', 2)
    assert not scene.has_annotations
    assert scene.annotations(17) == []


def test_no_gt_info_leaves_visibility_unknown(scene_folder):
    (scene_folder / 'scene_gt_info.json').unlink()
    annotation = BopDataset.open(scene_folder.parents[1]).scene('test', 2).annotations(17)[0]
    assert annotation.visible_fraction is None
    assert annotation.box_object is None


def test_world_pose_is_read(scene_folder, scene):
    assert scene.cam_from_world(17) is None
    entry = {'cam_K': K, 'depth_scale': 1.0, 'cam_R_w2c': TURN, 'cam_t_w2c': [1000, 0, 500]}
    write_json(scene_folder / 'scene_camera.json', {'17': entry})
    again = BopDataset.open(scene_folder.parents[1]).scene('test', 2)
    np.testing.assert_allclose(again.cam_from_world(17).translation, [1.0, 0.0, 0.5])


def test_a_thousand_images_open_quickly(tmp_path):
    folder = tmp_path / 'set' / 'train' / '000000'
    gt = [{'cam_R_m2c': TURN, 'cam_t_m2c': [1.0, 2.0, 700.0], 'obj_id': k} for k in range(10)]
    write_json(folder / 'scene_camera.json', {str(i): {'cam_K': K, 'depth_scale': 1.0} for i in range(1000)})
    write_json(folder / 'scene_gt.json', {str(i): gt for i in range(1000)})
    start = time.process_time()
    scene = BopDataset.open(tmp_path / 'set').scene('train', 0)
    assert len(scene.image_ids) == 1000
    assert len(scene.annotations(999)) == 10
    assert time.process_time() - start < 1.0


def test_missing_things_are_named(scene_folder, scene, tmp_path):
    dataset = BopDataset.open(tmp_path / 'set')
    with pytest.raises(DatasetError, match='no such folder'):
        BopDataset.open(tmp_path / 'nothing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetError, match=r'empty: holds no scenes; expected SPLIT/000001/scene_camera\.json'):
        BopDataset.open(tmp_path / 'empty')
    with pytest.raises(DatasetError, match="no split 'val' with scenes; it has test"):
        dataset.split('val')
    with pytest.raises(DatasetError, match='no scene 3; it has 2'):
        dataset.scene('test', 3)
    with pytest.raises(DatasetError, match=r'scene_camera\.json: no image 18; it has 17'):
        scene.camera(18)
    (scene_folder / 'rgb' / '000017.png').unlink()
    fresh = BopDataset.open(tmp_path / 'set').scene('test', 2)
    with pytest.raises(DatasetError, match=r'image 17 has no file; expected rgb/000017\.png'):
        fresh.image(17)


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('scene_camera.json', '{"17": {"cam_K": [1, 2', r'scene_camera\.json line 1: not valid JSON'),
        ('scene_camera.json', '[]', 'expected a mapping at the top level'),
        ('scene_camera.json', '{"x1": {}}', 'key x1: expected keys that are whole numbers'),
        ('scene_camera.json', '{"17": {"cam_K": [1, 2, 3]}}', r'key 17\.cam_K: expected a list of 9 numbers'),
        ('scene_camera.json', '{"17": {"cam_K": [NaN,0,0,0,0,0,0,0,0]}}', 'NaN is not a number'),
        ('scene_camera.json', '{"17": {"cam_K": [1e999,0,0,0,0,0,0,0,0]}}', r'cam_K\[0\]: expected a finite number'),
        ('scene_camera.json', '{"17": {"cam_K": ["a",0,0,0,0,0,0,0,0]}}', r"cam_K\[0\]: expected a number, got 'a'"),
        ('scene_camera.json', '{"17": {"depth_scale": 1}}', r'key 17\.cam_K: is missing'),
        ('scene_camera.json', '{"17": 3}', 'key 17: expected a mapping, got 3'),
        ('scene_camera.json', '{"17": {"cam_K": ' + '[' * 20000 + '}', 'not valid JSON'),
        ('scene_gt.json', '{"17": [{"cam_R_m2c": [1,0,0,0,1,0,0,0,1], "cam_t_m2c": [0,0,1]}]}', r'17\[0\]\.obj_id: is'),
        ('scene_gt.json', '{"17": {"obj_id": 1}}', 'key 17: expected a list'),
        (
            'scene_gt.json',
            '{"17": [{"obj_id": 1.5, "cam_R_m2c": [1,0,0,0,1,0,0,0,1], "cam_t_m2c": [0,0,1]}]}',
            r'obj_id: expected a whole number, got 1\.5',
        ),
        (
            'scene_gt.json',
            '{"17": [{"obj_id": 1, "cam_R_m2c": [1,0,0,0,1,0,0,0,2], "cam_t_m2c": [0,0,1]}]}',
            r'17\[0\]\.cam_R_m2c: not a rotation matrix',
        ),
        ('scene_gt_info.json', '{"17": []}', r'scene_gt_info\.json key 17: 0 entries for the'),
    ],
)
def test_broken_json_is_named(scene_folder, name, text, message):
    if name == 'scene_gt.json':
        (scene_folder / 'scene_gt_info.json').unlink()
    (scene_folder / name).write_text(text)
    scene = BopDataset.open(scene_folder.parents[1]).scene('test', 2)
    ask = scene.camera if name == 'scene_camera.json' else scene.annotations
    with pytest.raises(DatasetError, match=message) as caught:
        ask(17)
    assert str(scene_folder) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_unusable_intrinsics_name_file_and_key(scene_folder):
    write_json(scene_folder / 'scene_camera.json', {'17': {'cam_K': [0.0] * 9, 'depth_scale': 1.0}})
    with pytest.raises(CameraError, match=r'scene_camera\.json key 17\.cam_K'):
        BopDataset.open(scene_folder.parents[1]).scene('test', 2).camera(17)


def test_broken_pictures(scene_folder, scene):
    path = scene_folder / 'rgb' / '000017.png'
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ImageError, match='cut off'):
        scene.image(17)
    path.write_bytes(b'text')
    with pytest.raises(ImageError, match='not a PNG, JPEG or TIFF'):
        scene.image(17)
    huge = bytearray(whole)
    huge[16:24] = (40000).to_bytes(4, 'big') * 2
    path.write_bytes(bytes(huge))
    with pytest.raises(ImageError, match=r'header claims 40000 x 40000 pixels, over the limit'):
        scene.image(17)
    with pytest.raises(ImageError, match='header claims'):
        scene.camera(17)
    cv2.imwrite(str(scene_folder / 'depth' / '000017.png'), colour_image())
    with pytest.raises(ImageError, match='depth picture has one channel'):
        scene.depth(17)


def test_targets(tmp_path):
    path = tmp_path / 'targets.json'
    write_json(
        path, [{'scene_id': 2, 'im_id': 3, 'obj_id': 9, 'inst_count': 2}, {'scene_id': 2, 'im_id': 3, 'obj_id': 1}]
    )
    first, second = read_targets(path)
    assert (first.scene_id, first.image_id, first.obj_id, first.count) == (2, 3, 9, 2)
    assert second.count == 1
    write_json(path, [{'scene_id': 2, 'obj_id': 9}])
    with pytest.raises(DatasetError, match=r'targets\.json key \[0\]\.im_id: is missing'):
        read_targets(path)
    write_json(path, [{'scene_id': -2, 'im_id': 3, 'obj_id': 9}])
    with pytest.raises(DatasetError, match=r'\[0\]\.scene_id: expected a finite number from 0'):
        read_targets(path)
    with pytest.raises(DatasetError, match='no such file'):
        read_targets(tmp_path / 'none.json')


def test_detections_of_both_formats(tmp_path):
    path = tmp_path / 'detections.json'
    row = {'scene_id': 2, 'image_id': 3, 'category_id': 9, 'score': 0.5, 'bbox': [10.0, 20.0, 30.0, 40.0], 'time': 0.1}
    write_json(path, [row, {**row, 'score': 0.9}])
    found = read_detections(path)
    assert list(found) == [(2, 3)]
    assert [item.score for item in found[2, 3]] == [0.9, 0.5]
    np.testing.assert_array_equal(found[2, 3][0].box, [10, 20, 40, 60])
    assert found[2, 3][0].seconds == 0.1
    write_json(path, {'2/3': [{'obj_id': 9, 'score': 0.7, 'bbox_est': [1, 2, 3, 4]}]})
    assert read_detections(path)[2, 3][0].obj_id == 9
    write_json(path, [{**row, 'bbox': [0, 0, 0, 4]}])
    with pytest.raises(DatasetError, match=r'\[0\]\.bbox: box is empty'):
        read_detections(path)
    write_json(path, [{**row, 'score': 7}])
    with pytest.raises(DatasetError, match=r'\[0\]\.score: expected a finite number from 0 to 1, got 7'):
        read_detections(path)
    write_json(path, {'two': []})
    with pytest.raises(DatasetError, match="expected keys such as '2/17'"):
        read_detections(path)


def test_models_info(tmp_path):
    path = tmp_path / 'models_info.json'
    half = [-1, 0, 0, 2.0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    size = {'min_x': -50, 'min_y': -40, 'min_z': -30, 'size_x': 100, 'size_y': 80, 'size_z': 60}
    entry = {
        'diameter': 141.0, **size, 'symmetries_discrete': [half],
        'symmetries_continuous': [{'axis': [0, 0, 2], 'offset': [5, 0, 0]}],
    }  # fmt: skip
    write_json(path, {'4': entry})
    info = read_models_info(tmp_path)[4]
    assert info.diameter == pytest.approx(0.141)
    np.testing.assert_allclose(info.box, [[-0.05, -0.04, -0.03], [0.05, 0.04, 0.03]])
    np.testing.assert_allclose(info.symmetries.discrete[0].translation, [0.002, 0, 0])
    np.testing.assert_allclose(info.symmetries.continuous[0].axis, [0, 0, 1])
    np.testing.assert_allclose(info.symmetries.continuous[0].offset, [0.005, 0, 0])
    for change, message in [
        ({'diameter': 0}, r'4\.diameter: expected millimetres'),
        ({'symmetries_discrete': [[1, 2]]}, r'symmetries_discrete\[0\]: expected a list of 16'),
        ({'symmetries_continuous': [{'axis': [0, 0, 0]}]}, r'symmetries_continuous\[0\]\.axis: the axis has no length'),
        ({'size_z': None}, r'4\.size_z: expected a number'),
    ]:
        write_json(path, {'4': {**entry, **change}})
        with pytest.raises(DatasetError, match=message):
            read_models_info(path)


def test_all_of_the_real_photos(shared_data):
    dataset = BopDataset.open(shared_data / 'lmo')
    scene = dataset.scene('test', 2)
    targets = read_targets(dataset.root / 'test_targets_bop19.json')
    assert (len(scene.image_ids), len(targets)) == (100, 717)
    annotated = {(image, item.obj_id): item for image in scene.image_ids for item in scene.annotations(image)}
    infos = dataset.models_info()
    for target in targets:
        item = annotated[target.image_id, target.obj_id]
        assert 0.3 < item.cam_from_obj.translation[2] < 2.0
        camera = scene.camera(target.image_id)
        u, v, w = camera.matrix @ item.cam_from_obj.translation
        # The projected origin lies in the silhouette's box: K, pose and boxes speak of the same thing.
        x0, y0, x1, y1 = item.box_object
        margin = 0.35 * camera.matrix[0, 0] * infos[target.obj_id].diameter / w
        assert x0 - margin <= u / w <= x1 + margin
        assert y0 - margin <= v / w <= y1 + margin
    assert scene.image(scene.image_ids[0]).shape == (480, 640, 3)
    detections = read_detections(dataset.root / 'detections_cosypose_pbr.json')
    assert set(detections) == {(2, image) for image in scene.image_ids}
