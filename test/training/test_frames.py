"""Packing a BOP dataset, drawing windows from it, and the order of batches."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from box_scenes import BOX, CAMERA, CAN, CORNERS, write_scene  # noqa: E402

from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord  # noqa: E402
from kd6d_ros.errors import DatasetError  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.data_module import split_frames  # noqa: E402
from kd6d_ros.training.dataset import WindowDataset, collate, make_sample  # noqa: E402
from kd6d_ros.training.frames import DEPTH_UNIT, FramePack, pack_frames  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe, SamplingRecipe  # noqa: E402
from kd6d_ros.training.surface_targets import BACKGROUND, UNKNOWN  # noqa: E402
from kd6d_ros.types import ObjectModel, RigidTransform, Symmetries  # noqa: E402


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / 'set'
    for scene in range(3):
        write_scene(root, scene)
    return root


def recipe_for(root, **sampling):
    spec = NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, classes=2)
    values = {'crops_per_frame': 2, 'buffer': 8, **sampling}
    return Recipe(
        network=spec, input=InputRecipe(96, 1.5, (160, 128)), data=DataRecipe(str(root)),
        sampling=SamplingRecipe(**values),
    )  # fmt: skip


def test_pack_keeps_images_masks_and_poses(dataset, tmp_path):
    folder = pack_frames(dataset, 'train', tmp_path / 'cache')
    pack = FramePack(folder, (BOX, CAN))
    assert len(pack) == 12
    assert pack_frames(dataset, 'train', tmp_path / 'cache') == folder  # found again
    frame = pack.frame(5)
    np.testing.assert_array_equal(frame.class_index, [0, 1])
    inside = frame.image[frame.labels == 2].mean(0)
    np.testing.assert_allclose(inside, [220, 140, 40], atol=12)  # RGB, JPEG
    x0, y0, x1, y1 = frame.visible_box[1]
    np.testing.assert_allclose(frame.corners_px[1].min(0), [x0, y0], atol=1.5)
    np.testing.assert_allclose(frame.corners_px[1].max(0), [x1, y1], atol=1.5)


def test_pack_keeps_the_depth_where_there_is_one(tmp_path):
    depth = np.linspace(0.2, 7.5, 120 * 160, dtype=np.float32).reshape(120, 160)
    depth[:10, :10] = 0
    for scene, given in enumerate((None, np.minimum(depth, 6.5), None, np.full_like(depth, 0.3))):
        write_scene(tmp_path / 'set', scene, images=2, depth=given)
    pack = FramePack(pack_frames(tmp_path / 'set', 'train', tmp_path / 'cache'), (BOX, CAN))
    frames = [pack.frame(number) for number in range(8)]
    assert [frame.depth is None for frame in frames] == [True, True, False, False] * 2
    for frame in frames[2:4]:
        assert frame.depth.dtype == np.uint16
        wanted = np.where(depth < 6.5, depth, 0)
        np.testing.assert_allclose(frame.depth * DEPTH_UNIT, wanted, atol=0.51 * DEPTH_UNIT)
    assert (frames[7].depth == round(0.3 / DEPTH_UNIT)).all()


def test_a_dataset_without_depth_is_packed_and_labelled_without(dataset, tmp_path):
    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (BOX, CAN))
    assert pack.depth is None
    assert pack.frame(0).depth is None
    recipe = recipe_for(dataset, window_fraction=0.0)
    seeing = replace(recipe, network=replace(recipe.network, surface=16))
    for number in range(12):
        frame = pack.frame(number)
        sample = make_sample(frame, seeing, np.random.default_rng(number))
        assert set(sample.surface.classes) == {UNKNOWN, BACKGROUND}
        plain = make_sample(frame, recipe, np.random.default_rng(number))
        np.testing.assert_array_equal(sample.image, plain.image)  # the branch changes no other draw
        np.testing.assert_array_equal(sample.score, plain.score)


def test_depth_that_is_added_later_makes_a_new_pack(tmp_path):
    write_scene(tmp_path / 'set', 0)
    first = pack_frames(tmp_path / 'set', 'train', tmp_path / 'cache')
    assert FramePack(first, (BOX,)).depth is None
    with_depth = tmp_path / 'other'
    write_scene(with_depth, 0, depth=np.full((120, 160), 0.5, np.float32))
    (with_depth / 'train' / '000000' / 'depth').rename(tmp_path / 'set' / 'train' / '000000' / 'depth')
    second = pack_frames(tmp_path / 'set', 'train', tmp_path / 'cache')
    assert second != first
    assert FramePack(second, (BOX,)).frame(0).depth is not None


def test_frames_hold_the_pose_of_their_corners(dataset, tmp_path):
    half_turn = RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    symmetric = ObjectModel('box', 1, 0.141, CORNERS, Symmetries((half_turn,)))
    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (symmetric, CAN))
    for number in range(len(pack)):
        frame = pack.frame(number)
        for turn, shift, corners in zip(frame.rotation, frame.translation, frame.corners_m, strict=True):
            np.testing.assert_allclose(RigidTransform(turn, shift).apply(CORNERS), corners, atol=1e-9)


def test_objects_that_are_not_learned_become_background(dataset, tmp_path):
    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (CAN,))
    np.testing.assert_array_equal(pack.frame(0).class_index, [-1, 0])


def test_symmetric_objects_are_labelled_with_one_of_their_equal_poses(dataset, tmp_path):
    half_turn = RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    symmetric = ObjectModel('box', 1, 0.141, CORNERS, Symmetries((half_turn,)))
    folder = pack_frames(dataset, 'train', tmp_path / 'cache')
    plain, canonical = FramePack(folder, (BOX,)), FramePack(folder, (symmetric,))
    order = [int(np.argmin(np.linalg.norm(CORNERS - half_turn.apply(c[None]), axis=1))) for c in CORNERS]
    changed = 0
    for number in range(len(plain)):
        a, b = plain.frame(number).corners_m[0], canonical.frame(number).corners_m[0]
        same, turned = np.abs(a - b).max() < 1e-9, np.abs(a[order] - b).max() < 1e-9
        assert same or turned
        changed += bool(turned)
    assert 0 < changed < len(plain)


def test_windows_hold_their_labels(dataset, tmp_path):
    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (BOX, CAN))
    rng = np.random.default_rng(0)
    recipe = recipe_for(dataset, window_fraction=0.0)
    for number in range(12):
        sample = make_sample(pack.frame(number), recipe, rng, photometric=False)
        fx, fy, cx, cy = sample.intrinsics
        for item in sample.objects:
            again = item.corners_m[:, :2] / item.corners_m[:, 2:] * [fx, fy] + [cx, cy]
            np.testing.assert_allclose(again, item.corners_px, atol=1e-3)
            middle = item.corners_px.mean(0).round().astype(int)
            assert item.size_px > 0.2 * 96
            if item.class_index == 1 and (middle >= 2).all() and (middle < 94).all():
                np.testing.assert_allclose(sample.image[middle[1], middle[0]], [220, 140, 40], atol=40)


def test_the_span_of_the_zoomed_object_keeps_its_range(dataset, tmp_path):
    from kd6d_ros.training.windows import LARGEST_SPAN, SMALLEST_SPAN, draw_window

    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (BOX, CAN))
    recipe = recipe_for(dataset, window_fraction=0.0)
    rng, spans = np.random.default_rng(0), []
    for _ in range(60):
        frame = pack.frame(int(rng.integers(12)))
        crop = draw_window(frame, recipe.sampling, recipe.input, rng)
        sizes = (frame.corners_px.max(1) - frame.corners_px.min(1)).max(-1) * crop.scale / 96
        spans.append(min(sizes, key=lambda s: max(SMALLEST_SPAN - s, s - LARGEST_SPAN, 0)))
    assert min(spans) >= SMALLEST_SPAN - 1e-6
    assert max(spans) <= LARGEST_SPAN + 1e-6
    assert np.ptp(spans) > 0.2


def test_crops_beside_objects_show_none_in_their_middle_at_the_scale_of_zoomed_ones(dataset, tmp_path):
    from kd6d_ros.training.windows import LARGEST_SPAN, SMALLEST_SPAN, draw_window

    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (BOX, CAN))
    recipe = recipe_for(dataset, window_fraction=0.0, empty_fraction=1.0)
    rng, empty, places = np.random.default_rng(0), 0, []
    for _ in range(60):
        frame = pack.frame(int(rng.integers(12)))
        crop = draw_window(frame, recipe.sampling, recipe.input, rng)
        sizes = (frame.corners_px.max(1) - frame.corners_px.min(1)).max(-1) * crop.scale / 96
        assert ((sizes > SMALLEST_SPAN - 1e-6) & (sizes < LARGEST_SPAN + 1e-6)).any()
        centre = crop.to_image(np.array([47.5, 47.5]))
        inside = [(box[:2] <= centre).all() and (centre <= box[2:]).all() for box in frame.visible_box]
        empty += not any(inside)
        places.append(centre)
    assert empty >= 58  # a frame full of objects may have no empty place
    assert (np.ptp(places, axis=0) > [100, 70]).all()
    assert np.min(places) >= 0
    assert (np.max(places, axis=0) <= [159, 119]).all()


def test_the_share_of_crops_beside_objects_is_the_one_asked_for(dataset, tmp_path):
    from kd6d_ros.training.windows import draw_window

    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (CAN,))
    recipe = recipe_for(dataset, window_fraction=0.0, empty_fraction=0.4)
    rng, count = np.random.default_rng(1), 0
    for _ in range(400):
        frame = pack.frame(int(rng.integers(12)))
        centre = draw_window(frame, recipe.sampling, recipe.input, rng).to_image(np.array([47.5, 47.5]))
        box = frame.visible_box[list(frame.class_index).index(0)]
        count += not ((box[:2] <= centre).all() and (centre <= box[2:]).all())
    assert 0.3 < count / 400 < 0.5


def test_same_seed_same_batches(dataset, tmp_path):
    folder = pack_frames(dataset, 'train', tmp_path / 'cache')
    recipe = recipe_for(dataset)

    def first(seed):
        source = iter(WindowDataset(folder, (BOX, CAN), np.arange(12), recipe, seed))
        return collate([next(source) for _ in range(6)])

    a, b, c = first(1), first(1), first(2)
    for x, y in zip((*a[:-3], *a.instances), (*b[:-3], *b.instances), strict=True):
        assert torch.equal(x, y)
    assert not torch.equal(a.image, c.image)
    assert a.image.shape == (6, 3, 96, 96)
    assert a.score.shape == (6, 36 + 9, 2)
    assert a.score[a.positive_image, a.positive_cell, a.positive_class].eq(1).all()


def test_a_batch_knows_its_instances(dataset, tmp_path):
    folder = pack_frames(dataset, 'train', tmp_path / 'cache')
    recipe = recipe_for(dataset, window_fraction=0.0)
    source = iter(WindowDataset(folder, (BOX, CAN), np.arange(12), recipe, 5))
    samples = [next(source) for _ in range(6)]
    batch, found = collate(samples), 0
    for number, sample in enumerate(samples):
        fx = sample.intrinsics[0]
        np.testing.assert_allclose(
            batch.instances.frame_from_window[number], np.array([1 / 160, 1 / 120]) * 200 / fx, rtol=1e-5
        )
        for index, item in enumerate(sample.objects):
            row = found + index
            assert batch.instances.image[row] == number
            assert batch.instances.class_index[row] == item.class_index
            assert batch.instances.size_px[row].item() == pytest.approx(item.size_px)
            own = batch.instances.positives[row]
            cells = batch.positive_cell[own[own >= 0]]
            assert sorted(cells.tolist()) == sorted(sample.cell[sample.owner == index].tolist())
            assert (batch.positive_image[own[own >= 0]] == number).all()
            seen = batch.instances.at_pixel[number] == row
            assert torch.equal(seen, torch.from_numpy(sample.at_pixel == index))
            assert seen.any()
        found += len(sample.objects)
    assert found == len(batch.instances.image) > 6
    assert (batch.instances.positives >= 0).sum() == batch.positive_cell.numel()


def test_ranks_and_workers_see_different_frames(dataset, tmp_path):
    folder = pack_frames(dataset, 'train', tmp_path / 'cache')
    recipe = recipe_for(dataset)
    one = next(iter(WindowDataset(folder, (BOX, CAN), np.arange(12), recipe, 1, 0, 2)))
    two = next(iter(WindowDataset(folder, (BOX, CAN), np.arange(12), recipe, 1, 1, 2)))
    assert not np.array_equal(one.image, two.image)


def test_whole_scenes_are_kept_for_validation(dataset, tmp_path):
    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (BOX,))
    training, validation = split_frames(pack, 0.1)
    assert (len(training), len(validation)) == (8, 4)
    assert not set(pack.index['scene'][training]) & set(pack.index['scene'][validation])


def test_a_split_leaves_a_scene_to_train_on_or_says_so(dataset, tmp_path):
    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (BOX, CAN))
    training, validation = split_frames(pack, 0.67)
    assert set(pack.index['scene'][training].tolist()) == {0}
    assert set(pack.index['scene'][validation].tolist()) == {1, 2}
    with pytest.raises(DatasetError, match=r'0\.9 keeps all 3 scenes, none to train on: set at most 0\.67'):
        split_frames(pack, 0.9)


def test_a_dataset_without_annotations_is_refused(tmp_path):
    writer = BopSceneWriter(tmp_path / 'set' / 'train' / '000000')
    writer.write(ImageRecord(0, CAMERA, np.zeros((120, 160, 3), np.uint8)))
    writer.finalise()
    with pytest.raises(DatasetError, match='no annotated image'):
        pack_frames(tmp_path / 'set', 'train', tmp_path / 'cache')
    assert not list((tmp_path / 'cache').iterdir())  # nothing half-written


def test_a_sliver_of_an_object_is_neither_label_nor_background(dataset, tmp_path):
    pack = FramePack(pack_frames(dataset, 'train', tmp_path / 'cache'), (BOX, CAN))
    recipe = recipe_for(dataset, window_fraction=0.0, label_visible=0.9)
    seen = 0
    for number in range(12):
        frame = pack.frame(number)
        frame.visible_fraction[:] = [0.5, 1.0]  # the box is below label_visible
        sample = make_sample(frame, recipe, np.random.default_rng(number), photometric=False)
        assert all(item.class_index == 1 for item in sample.objects)
        assert not (sample.score[:, 0] == 1).any()
        seen += int((sample.score[:, 0] == -1).sum())
    assert seen > 0


def test_new_pixels_under_old_poses_make_a_new_pack(dataset, tmp_path):
    first = pack_frames(dataset, 'train', tmp_path / 'cache')
    picture = next((dataset / 'train' / '000000' / 'rgb').iterdir())
    picture.write_bytes(picture.read_bytes() + b' ')
    assert pack_frames(dataset, 'train', tmp_path / 'cache') != first


def test_a_dataset_without_visible_fractions_is_refused(dataset, tmp_path):
    for path in dataset.glob('train/*/scene_gt_info.json'):
        path.unlink()
    with pytest.raises(DatasetError, match='scene_gt_info'):
        pack_frames(dataset, 'train', tmp_path / 'cache')
    assert not list((tmp_path / 'cache').iterdir())
