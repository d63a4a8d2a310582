"""Whatever a file holds, the readers either read it or complain in one line of the package's own family."""

from __future__ import annotations

import copy
import json

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd6d_ros.data import image_files
from kd6d_ros.data.bop import BopScene, read_detections, read_models_info, read_targets
from kd6d_ros.errors import ImageError, Kd6dError

UNIT = [1.0, 0, 0, 0, 1, 0, 0, 0, 1]
INFO = {
    'bbox_obj': [1, 2, 3, 4],
    'bbox_visib': [1, 2, 3, 4],
    'px_count_all': 9,
    'px_count_visib': 5,
    'visib_fract': 0.5,
}
DOCUMENTS = {
    'scene_camera.json': {'3': {'cam_K': [500.0, 0, 32, 0, 500, 24, 0, 0, 1], 'depth_scale': 1.0}},
    'scene_gt.json': {'3': [{'obj_id': 1, 'cam_R_m2c': UNIT, 'cam_t_m2c': [0.0, 0, 700]}]},
    'scene_gt_info.json': {'3': [INFO]},
    'targets.json': [{'scene_id': 1, 'im_id': 3, 'obj_id': 1, 'inst_count': 1}],
    'detections.json': [{'scene_id': 1, 'image_id': 3, 'category_id': 1, 'score': 0.5, 'bbox': [1, 2, 3, 4]}],
    'models_info.json': {
        '1': {
            'diameter': 100.0, 'min_x': -1, 'min_y': -1, 'min_z': -1, 'size_x': 2, 'size_y': 2, 'size_z': 2,
            'symmetries_discrete': [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]],
            'symmetries_continuous': [{'axis': [0, 0, 1], 'offset': [0, 0, 0]}],
        }
    },
}  # fmt: skip
STRANGE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(10**300, 10**310), st.floats(), st.text(max_size=5),
    st.just([]), st.just({}), st.lists(st.integers(), max_size=4), st.just([[[]]]), st.just('1e5'),
)  # fmt: skip


def places(value, path=()):
    """Paths to every value inside a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(document, path, value):
    if not path:
        return value
    out = copy.deepcopy(document)
    inner = out
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return out


def read_everything(folder):
    scene = BopScene(folder, 1)
    for ident in scene.image_ids:
        scene.camera(ident, size=(64, 48))
        scene.annotations(ident)
        scene.cam_from_world(ident)
    read_targets(folder / 'targets.json')
    read_detections(folder / 'detections.json')
    read_models_info(folder)


@pytest.fixture
def folder(tmp_path):
    for name, document in DOCUMENTS.items():
        (tmp_path / name).write_text(json.dumps(document))
    return tmp_path


def test_the_documents_are_fine(folder):
    read_everything(folder)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere(folder, data):
    name = data.draw(st.sampled_from(sorted(DOCUMENTS)))
    path = data.draw(st.sampled_from(list(places(DOCUMENTS[name]))))
    value = data.draw(st.one_of(STRANGE, st.just(...)) if path else STRANGE)
    (folder / name).write_text(json.dumps(replaced(DOCUMENTS[name], path, value)))
    try:
        read_everything(folder)
    except Kd6dError as error:
        text = str(error)
        assert '\n' not in text
        assert name in text
        assert len(text) < 400 + len(str(folder))
    finally:
        (folder / name).write_text(json.dumps(DOCUMENTS[name]))


def complaint(path):
    """What the reader says about a picture; None when it reads it."""
    try:
        image = image_files.read_rgb(path)
    except ImageError as error:
        return str(error)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    return None


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif'])
def test_damaged_pictures(tmp_path, suffix):
    rng = np.random.default_rng(0)
    path = tmp_path / f'a{suffix}'
    whole = cv2.imencode(suffix, rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))[1].tobytes()
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(bytes(data[: rng.integers(1, len(data) + 1)]))
        message = complaint(path)
        refused += message is not None
        assert message is None or '\n' not in message
    assert refused > 50
