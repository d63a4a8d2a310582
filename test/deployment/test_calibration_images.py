"""What INT8 is calibrated on: crops and frames of renders or of a bag."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
pytest.importorskip('rosbags', reason='bags need pip install kd6d_ros[bench]')

from box_scenes import BOX, CAN, write_models, write_scene

from kd6d_ros.deployment.calibration_images import from_bag, from_renders, is_bag
from kd6d_ros.deployment.rendered_views import RenderedViews, check_disjoint
from kd6d_ros.errors import BagError, ConfigError, DatasetError
from kd6d_ros.inference.bundle import load_bundle

MODELS = Path(__file__).resolve().parents[2] / 'models'
BAG = MODELS / 'demo_bag'


@pytest.fixture(scope='module')
def demo():
    return load_bundle(MODELS / 'demo')


@pytest.fixture
def boxes(tmp_path, demo):
    """A rendered set of three scenes, and a bundle of its objects."""
    root = tmp_path / 'boxes'
    pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")
    for scene in range(3):
        write_scene(root, scene)
    write_models(root)
    return root, replace(demo, objects=(BOX, CAN))


def test_a_bag_gives_crops_around_its_true_objects_and_some_frames(demo):
    assert is_bag(BAG)
    inputs = from_bag(BAG, demo, 16)
    shapes = [image.shape for image in inputs]
    assert len(inputs) == 16
    assert set(shapes) == {(160, 160, 3), (256, 320, 3)}
    assert shapes.count((160, 160, 3)) >= 10
    assert all(image.dtype == np.uint8 for image in inputs)


def test_a_bag_without_truth_of_these_objects_gives_frames(demo, boxes):
    inputs = from_bag(BAG, boxes[1], 8)
    assert {image.shape for image in inputs} == {(256, 320, 3)}
    small = replace(boxes[1], network=replace(demo.network, frame_size=None))
    assert {image.shape for image in from_bag(BAG, small, 8)} == {(160, 160, 3)}


def test_renders_give_the_same_inputs_again(boxes):
    root, bundle = boxes
    views = RenderedViews(root, bundle.objects, 0.1)
    places = views.to_calibrate()
    assert {place.scene_id for place in places} == {0, 1}
    assert {place.scene_id for place in views.to_evaluate()} == {2}
    first, again = (from_renders(views, places, bundle, 12) for _ in range(2))
    assert len(first) == 12
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    with pytest.raises(DatasetError, match='gives 2 inputs, at least 8 are needed'):
        from_renders(views, places[1:2], replace(bundle, network=replace(bundle.network, frame_size=None)), 12)
    check_disjoint(views, places, views, views.to_evaluate())
    with pytest.raises(ConfigError, match='has the images of --calibration'):
        check_disjoint(views, places, views, places[:1])


def test_other_objects_of_the_same_ids_are_refused(boxes):
    with pytest.raises(ConfigError, match=r'object 1 of the checkpoint \(box\) is 282\.0 mm across'):
        RenderedViews(boxes[0], (replace(BOX, diameter=0.282),), 0.1)


def test_a_bag_that_is_none_is_one_line(tmp_path, demo):
    (tmp_path / 'metadata.yaml').write_text('nothing')
    with pytest.raises(BagError, match='cannot be read'):
        from_bag(tmp_path, demo, 8)
