"""Bags: what goes in comes out; every broken bag ends in one BagError."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import pytest

from kd6d_ros.benchmark import messages
from kd6d_ros.benchmark.bag_frames import camera_from_info, decode_image, read_frames
from kd6d_ros.benchmark.bag_source import BagSource, BagTopics, camera_info_beside, find_topics, read_ground_truth
from kd6d_ros.benchmark.bag_writer import BagWriter
from kd6d_ros.benchmark.records import TruthObject
from kd6d_ros.errors import BagError, CameraError
from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.types import Camera

START_NS = 1_700_000_000_000_000_000
MakeBag = Callable[..., Path]


def smooth(index: int) -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 3 + index, y * 4, np.full_like(x, 40 * index % 256)], axis=2).astype(np.uint8)


@pytest.mark.parametrize(('image_format', 'tolerance'), [('png', 0), ('raw', 0), ('jpeg', 20)])
def test_images_cameras_and_poses_survive(
    make_bag: MakeBag, camera: Camera, truth: TruthObject, image_format: str, tolerance: int
) -> None:
    with BagSource(make_bag(image_format=image_format)) as source:
        topics = find_topics(source)
        frames = list(read_frames(source, topics))
        known = read_ground_truth(source, topics.truth)
    assert [frame.stamp_ns for frame in frames] == [START_NS + i * 33_333_333 for i in range(5)]
    for index, frame in enumerate(frames):
        difference = np.abs(frame.image.astype(int) - smooth(index))
        assert difference.max() <= tolerance or np.mean(difference) < 3
        assert frame.frame_id == 'optical'
        np.testing.assert_array_equal(frame.camera.matrix, camera.matrix)
        assert (frame.camera.model, frame.camera.width) == ('none', 64)
    assert list(known) == [frame.stamp_ns for frame in frames]
    found = known[START_NS][0]
    assert (found.object_name, found.visible_fraction) == ('mug', 0.75)
    np.testing.assert_allclose(found.cam_from_obj.matrix(), truth.cam_from_obj.matrix(), atol=1e-12)
    assert known[frames[-1].stamp_ns] == ()


def test_topic_names_follow_image_transport(make_bag: MakeBag) -> None:
    with BagSource(make_bag()) as source:
        assert find_topics(source) == BagTopics('/camera/image_raw/compressed', '/camera/camera_info', '/ground_truth')
        assert source.topics()['/ground_truth'].count == 5
    with BagSource(make_bag('raw_bag', image_format='raw')) as source:
        assert find_topics(source).image == '/camera/image_raw'
    assert camera_info_beside('/head/color/image_rect/compressed') == '/head/color/camera_info'


def test_a_single_mcap_file_is_a_bag_too(make_bag: MakeBag) -> None:
    file = next(make_bag().glob('*.mcap'))
    with BagSource(file) as source:
        assert len(list(read_frames(source, find_topics(source)))) == 5


def test_distortion_survives(tmp_path: Path, truth: TruthObject) -> None:
    lens = make_camera(
        np.array([[80.0, 0, 31.5], [0, 82.0, 23.5], [0, 0, 1]]),
        64,
        48,
        model='plumb_bob',
        distortion=(0.1, -0.2, 0.001, 0.002, 0.05),
    )
    with BagWriter(tmp_path / 'bag', 'png') as writer:
        writer.write_frame(START_NS, 'optical', smooth(0), lens, (truth,))
    with BagSource(tmp_path / 'bag') as source:
        frame = next(iter(read_frames(source, find_topics(source))))
    assert frame.camera.model == 'plumb_bob'
    np.testing.assert_allclose(frame.camera.distortion, lens.distortion)


def test_missing_bag(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='no such bag'), BagSource(tmp_path / 'nothing'):
        pass


def test_folder_without_metadata(tmp_path: Path) -> None:
    (tmp_path / 'folder').mkdir()
    with (
        pytest.raises(BagError, match=r'not a bag folder \(metadata.yaml is missing\)'),
        BagSource(tmp_path / 'folder'),
    ):
        pass


@pytest.mark.parametrize('keep', [0.0, 0.001, 0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize('whole', [True, False])
def test_truncated_mcap_is_one_line(make_bag: MakeBag, keep: float, whole: bool) -> None:
    folder = make_bag()
    file = next(folder.glob('*.mcap'))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BagError, match='cut off') as caught, BagSource(folder if whole else file) as source:
        list(read_frames(source, find_topics(source)))
    assert '\n' not in str(caught.value)


def test_another_file_is_no_bag(tmp_path: Path) -> None:
    (tmp_path / 'photo.png').write_bytes(b'\x89PNG')
    with pytest.raises(BagError, match='cannot be read'), BagSource(tmp_path / 'photo.png'):
        pass


def test_missing_topics_are_named(make_bag: MakeBag) -> None:
    with BagSource(make_bag()) as source:
        with pytest.raises(BagError, match='no topic /head/image; the bag has /camera/camera_info'):
            find_topics(source, image='/head/image')
        with pytest.raises(BagError, match='no topic /other'):
            list(source.raw_messages(['/other']))


def test_no_ground_truth_is_said(make_bag: MakeBag) -> None:
    with BagSource(make_bag()) as source, pytest.raises(BagError, match='no ground truth'):
        read_ground_truth(source, None)


def test_a_repeated_truth_stamp_is_refused(tmp_path: Path, camera: Camera, truth: TruthObject) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        for _ in range(2):
            writer.write_frame(START_NS, 'optical', smooth(0), camera, (truth,))
    with BagSource(tmp_path / 'bag') as source, pytest.raises(BagError, match='two messages with stamp'):
        read_ground_truth(source, '/ground_truth')


def test_image_and_camera_of_different_size(tmp_path: Path, camera: Camera) -> None:
    with BagWriter(tmp_path / 'bag', 'raw') as writer:
        writer.write_frame(START_NS, 'optical', smooth(0)[:40], camera, ())
    with BagSource(tmp_path / 'bag') as source, pytest.raises(BagError, match=r'64x40 px .* says 64x48'):
        list(read_frames(source, find_topics(source)))


def test_an_existing_bag_is_kept(make_bag: MakeBag) -> None:
    path = make_bag()
    with pytest.raises(BagError, match='exists already'):
        BagWriter(path)


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, camera: Camera, truth: TruthObject) -> None:
    def write_and_fail() -> None:
        with BagWriter(tmp_path / 'out' / 'bag') as writer:
            writer.write_frame(START_NS, 'optical', smooth(0), camera, (truth,))
            raise RuntimeError('stop')

    with pytest.raises(RuntimeError, match='stop'):
        write_and_fail()
    assert list((tmp_path / 'out').iterdir()) == []


def test_unknown_format_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='choose one of jpeg, png, raw'):
        BagWriter(tmp_path / 'bag', 'webp')
    (tmp_path / 'file').write_text('x')
    with pytest.raises(BagError, match='cannot be written'), BagWriter(tmp_path / 'file' / 'bag'):
        pass


def message(msgtype: str, **fields: Any) -> Any:
    return messages.type_store().types[msgtype](**fields)


def compressed(data: bytes) -> Any:
    return message(messages.COMPRESSED_IMAGE, header=None, format='jpeg', data=np.frombuffer(data, np.uint8))


def raw_image(encoding: str, step: int, size: int) -> Any:
    return message(
        messages.IMAGE,
        header=None,
        height=2,
        width=4,
        encoding=encoding,
        is_bigendian=0,
        step=step,
        data=np.arange(size, dtype=np.uint8),
    )


@pytest.mark.parametrize('data', [b'', b'\xff\xd8\xff\xe0garbage'])
def test_a_broken_jpeg_is_named(data: bytes) -> None:
    with pytest.raises(BagError, match=r'^here: '):
        decode_image(compressed(data), messages.COMPRESSED_IMAGE, 'here')


def test_a_tiny_jpeg_that_claims_to_be_huge_is_refused_before_decoding() -> None:
    data = bytearray(cv2.imencode('.jpg', smooth(0))[1].tobytes())
    start = data.index(b'\xff\xc0')
    data[start + 5 : start + 9] = (12_000).to_bytes(2, 'big') * 2
    with pytest.raises(BagError, match=r'here: image claims 12000x12000 = 144.0 megapixels, more than the limit'):
        decode_image(compressed(bytes(data)), messages.COMPRESSED_IMAGE, 'here')


def test_raw_encodings_steps_and_short_data() -> None:
    rgb = decode_image(raw_image('rgb8', 13, 26), messages.IMAGE, 'here')
    bgr = decode_image(raw_image('bgr8', 13, 26), messages.IMAGE, 'here')
    np.testing.assert_array_equal(rgb[1, 0], [13, 14, 15])
    np.testing.assert_array_equal(bgr, rgb[:, :, ::-1])
    np.testing.assert_array_equal(decode_image(raw_image('mono8', 4, 8), messages.IMAGE, '')[1, 3], [7, 7, 7])
    assert decode_image(raw_image('yuv422', 8, 16), messages.IMAGE, 'here').shape == (2, 4, 3)
    with pytest.raises(BagError, match="here: image encoding '32FC1' is not known"):
        decode_image(raw_image('32FC1', 16, 32), messages.IMAGE, 'here')
    with pytest.raises(BagError, match='here: image data are 20 bytes but 4x2 px rgb8 with step 12 take 24'):
        decode_image(raw_image('rgb8', 12, 20), messages.IMAGE, 'here')


def test_a_zero_matrix_is_refused() -> None:
    class Info:
        k, d, width, height, distortion_model = [0.0] * 9, [], 64, 48, ''

    with pytest.raises(CameraError):
        camera_from_info(Info())


@pytest.mark.parametrize(
    ('storage', 'compression'),
    [('SQLITE3', None), ('SQLITE3', 'FILE'), ('SQLITE3', 'MESSAGE'), ('MCAP', None), ('MCAP', 'MESSAGE')],
)
def test_both_storages_are_read_compressed_or_not(
    make_bag: MakeBag, tmp_path: Path, storage: str, compression: str | None
) -> None:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    store, path = messages.type_store(), tmp_path / 'other'
    writer = Writer(path, version=8, storage_plugin=StoragePlugin[storage])
    if compression is not None:
        writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with BagSource(make_bag(image_format='raw')) as source, writer:
        connections: dict[str, Any] = {}
        for raw in source.raw_messages(list(source.topics())):
            if raw.topic not in connections:
                connections[raw.topic] = writer.add_connection(raw.topic, raw.msgtype, typestore=store)
            writer.write(connections[raw.topic], raw.log_time_ns, raw.data)
    with BagSource(path) as source:
        topics = find_topics(source)
        frames = list(read_frames(source, topics))
        assert len(read_ground_truth(source, topics.truth)) == len(frames) == 5
    np.testing.assert_array_equal(frames[2].image, smooth(2))
