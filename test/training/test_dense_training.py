"""Dense networks: what they learn, how it is weighted, that they can learn it, and the way through `kd6d train`."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from code_books import box_codes, box_model
from painted_box import CAMERA, box_depth, draw, random_pose, write_models

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
pytest.importorskip('scipy', reason="surface codes need pip install 'kd6d_ros[train]'")

from kd6d_ros.cli.main import main  # noqa: E402
from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord  # noqa: E402
from kd6d_ros.errors import ConfigError, DatasetError  # noqa: E402
from kd6d_ros.geometry.transforms import rotation_angle  # noqa: E402
from kd6d_ros.inference.code_cloud import code_cloud  # noqa: E402
from kd6d_ros.inference.code_files import write_codes  # noqa: E402
from kd6d_ros.inference.crop import Crop  # noqa: E402
from kd6d_ros.inference.pnp_codes import solve_codes  # noqa: E402
from kd6d_ros.inference.surface_codes import bits_of  # noqa: E402
from kd6d_ros.networks.dense_network import DenseNetwork, DenseOutput  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training import dense_losses as losses  # noqa: E402
from kd6d_ros.training.checkpoint import (  # noqa: E402
    Checkpoint,
    DenseCheckpoint,
    any_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from kd6d_ros.training.code_targets import CodeTargets  # noqa: E402
from kd6d_ros.training.dataset import Batch, collate, make_sample  # noqa: E402
from kd6d_ros.training.dense_module import DenseModule  # noqa: E402
from kd6d_ros.training.frames import FramePack, pack_frames  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe, SamplingRecipe, load_recipe  # noqa: E402
from kd6d_ros.training.run import train  # noqa: E402
from kd6d_ros.training.surface_targets import BACKGROUND, UNKNOWN, surface_targets  # noqa: E402
from kd6d_ros.training.weights_file import read_weights_file  # noqa: E402
from kd6d_ros.types import RigidTransform, Symmetries  # noqa: E402

HALF_TURN = RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))


def write_scene(root, scene, poses, depth=True):
    rng = np.random.default_rng(scene)
    writer = BopSceneWriter(root / 'train' / f'{scene:06d}')
    for image_id, pose in enumerate(poses):
        image, mask = draw(pose, rng)
        deep = np.where(mask > 0, box_depth(pose), 0).astype(np.float32) if depth else None
        writer.write(ImageRecord(image_id, CAMERA, image, deep, (InstanceRecord(1, pose, mask, mask),)))
    writer.finalise()


@pytest.fixture(scope='module')
def book():
    return replace(box_codes()[0], name='painted_box')


@pytest.fixture(scope='module')
def dataset(tmp_path_factory, book):
    root = tmp_path_factory.mktemp('dense')
    rng = np.random.default_rng(4)
    for scene in range(2):
        write_scene(root, scene, [random_pose(rng) for _ in range(12)])
    write_models(root)
    write_codes(root / 'codes', book)
    (root / 'recipe.yaml').write_text(
        f"""
name: box
out: {root}/run
data: {{train: {root}, codes: {root}/codes, cache: {root}/cache, validation_fraction: 0.3}}
network: {{kind: dense, backbone: darknet_tiny_h, channels: 32}}
input: {{crop_size: 64}}
sampling: {{window_fraction: 0.2, buffer: 16}}
train: {{batch_size: 8, steps: 6, precision: 32-true, workers: 0, threads: 1, validate_every: 3, validation_crops: 5}}
"""
    )
    return root


@pytest.fixture(scope='module')
def pack(dataset):
    return pack_frames(dataset, 'train', dataset / 'cache', 1)


def recipe_of(backbone='darknet_tiny_h', decoder='compact', size=64, channels=32):
    return Recipe(
        network=NetworkSpec(backbone, channels=channels, kind='dense', decoder=decoder),
        input=InputRecipe(size), data=DataRecipe('x', codes='y'), sampling=SamplingRecipe(window_fraction=0.0),
    )  # fmt: skip


MODEL = replace(box_model('painted_box'), mesh=None)


def samples_of(pack, book, recipe, count, seed=0):
    frames, codes = FramePack(pack, (MODEL,)), CodeTargets((book,), (MODEL,))
    rng = np.random.default_rng(seed)
    return [make_sample(frames.frame(i), recipe, rng, photometric=False, codes=codes) for i in range(count)]


# --- targets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [64, 128])
def test_the_codes_of_a_window_decode_to_the_pose_of_its_frame(pack, book, size):
    """As they are learnt: cells of a window over an image of 2.5 mm per pixel with depth in steps of 0.1 mm."""
    frames, codes = FramePack(pack, (MODEL,)), CodeTargets((book,), (MODEL,))
    for number in range(6):
        frame = frames.frame(number)
        crop = Crop.around_box(frame.visible_box[0], 1.25, size)
        surface = surface_targets(frame, crop, 4, through_centres=True)
        side = size // 4
        on = (surface.classes == 0).reshape(side, side)
        code = np.moveaxis(60.0 * bits_of(codes.codes(surface)) - 30.0, -1, 0).reshape(16, side, side)
        cloud = code_cloud(np.where(on, 30.0, -30.0), code, book, crop)
        assert len(cloud.points) > 60
        found = solve_codes(cloud, CAMERA, 2.0).cam_from_obj
        assert np.linalg.norm(found.translation - frame.translation[0]) < 5e-3
        assert rotation_angle(found.rotation, frame.rotation[0]) < np.radians(1.0)


def test_samples_hold_a_class_and_a_code_for_every_pixel_of_the_map(pack, book):
    for decoder, backbone, stride in (('compact', 'darknet_tiny_h', 4), ('aspp', 'resnet34', 2)):
        recipe = recipe_of(backbone, decoder)
        batch = collate(samples_of(pack, book, recipe, 3))
        cells = (64 // stride) ** 2
        assert batch.surface_class.shape == batch.code.shape == (3, cells)
        assert batch.surface_point.numel() == batch.score.numel() == batch.positive_cell.numel() == 0
        assert batch.code.max() < 65536
        assert (batch.code[batch.surface_class < 0] == 0).all()
        assert len(np.unique(batch.code[batch.surface_class == 0])) > 100
        assert set(np.unique(batch.surface_class)) <= {0, BACKGROUND, UNKNOWN}
        # The box is brighter than what is around it; its pixels are where the map says.
        at_pixels = batch.image[:, :, stride // 2 :: stride, stride // 2 :: stride].float().amax(1).flatten(1)
        assert at_pixels[batch.surface_class == 0].mean() > at_pixels[batch.surface_class == BACKGROUND].mean() + 60


def test_one_image_of_a_symmetric_object_has_one_code_map(tmp_path, book):
    pose = random_pose(np.random.default_rng(7))
    write_scene(tmp_path, 0, [pose, pose @ HALF_TURN])
    folder = pack_frames(tmp_path, 'train', tmp_path / 'cache', 1)
    crop = Crop.square((80.0, 60.0), 100.0, 64)
    found = {}
    for name, model in (('plain', MODEL), ('symmetric', replace(MODEL, symmetries=Symmetries((HALF_TURN,))))):
        targets = CodeTargets((book,), (model,))
        for number in range(2):
            surface = surface_targets(FramePack(folder, (model,)).frame(number), crop, 4, through_centres=True)
            found[name, number] = targets.codes(surface)
            assert (surface.classes == 0).sum() > 30
    on = surface.classes == 0
    points = {key: book.decode(codes[on]) for key, codes in found.items()}
    # The images differ in nothing but their noise; depths are rounded, so codes may be a leaf apart.
    assert np.linalg.norm(points['symmetric', 0] - points['symmetric', 1], axis=1).max() < 2e-3
    assert np.linalg.norm(points['plain', 0] - points['plain', 1], axis=1).mean() > 0.02


# --- losses -------------------------------------------------------------------------------------------------------


def test_bit_weights_are_those_of_the_description():
    errors = torch.tensor([0.0, 0.1, 0.255, 0.4, 0.5])
    expected = np.exp(3 * np.array([0.0, 0.1, 0.255, 0.11, 0.01]))
    np.testing.assert_allclose(losses.bit_weights(errors).numpy(), expected, rtol=1e-5)


def made_up(seed=0):
    """Output of two windows of 2x3 pixels with three classes, and a batch that fits it."""
    generator = torch.Generator().manual_seed(seed)
    output = DenseOutput(
        torch.randn(2, 3, 2, 3, generator=generator).requires_grad_(),
        torch.randn(2, 3, 16, 2, 3, generator=generator).requires_grad_(),
    )
    classes = torch.tensor([[0, 2, -1, -2, 2, -1], [-1, 2, 0, 0, -1, -2]], dtype=torch.int8)
    code = torch.randint(65536, (2, 6), generator=generator, dtype=torch.int32)
    nothing = torch.zeros(0)
    batch = Batch(*[nothing] * 10, classes, nothing, None, None, code)
    return output, batch


def test_losses_match_plain_loops():
    output, batch = made_up()
    weights_by_class = losses.bit_weights(torch.linspace(0, 0.5, 48).reshape(3, 16))
    mask = code = amount = 0.0
    wrong, count = np.zeros((3, 16)), np.zeros(3)
    leading = []
    for image in range(2):
        for cell in range(6):
            owner, (row, column) = int(batch.surface_class[image, cell]), divmod(cell, 3)
            if owner != UNKNOWN:
                for index in range(3):
                    p = 1 / (1 + np.exp(-output.mask[image, index, row, column].item()))
                    mask -= np.log(p if index == owner else 1 - p) / 12
            if owner >= 0:
                right = []
                for bit in range(16):
                    truth = int(batch.code[image, cell]) >> (15 - bit) & 1
                    logit = output.code[image, owner, bit, row, column].item()
                    p = 1 / (1 + np.exp(-logit))
                    weight = weights_by_class[owner, bit].item()
                    code -= weight * np.log(p if truth else 1 - p)
                    amount += weight
                    wrong[owner, bit] += (logit > 0) != truth
                    right.append((logit > 0) == truth)
                count[owner] += 1
                leading.append(right.index(False) if False in right else 16)
    assert losses.mask_loss(output, batch).item() == pytest.approx(mask, rel=1e-5)
    pixels = losses.code_pixels(output, batch)
    weights = weights_by_class[pixels.owner]
    assert losses.code_loss(pixels, weights, weights.sum()).item() == pytest.approx(code / amount, rel=1e-5)
    got_wrong, got_count = losses.wrong_bits(pixels, 3)
    np.testing.assert_array_equal(got_wrong, wrong)
    np.testing.assert_array_equal(got_count, count)
    assert losses.leading_bits(pixels).item() == pytest.approx(np.mean(leading))


def test_a_batch_without_objects_has_no_code_loss_and_no_gradient_of_it():
    output, batch = made_up()
    batch = batch._replace(surface_class=torch.full((2, 6), BACKGROUND, dtype=torch.int8))
    pixels = losses.code_pixels(output, batch)
    loss = losses.code_loss(pixels, torch.ones(0, 16), torch.zeros(()))
    (loss + losses.mask_loss(output, batch)).backward()
    assert loss.item() == losses.leading_bits(pixels).item() == 0
    assert (output.code.grad == 0).all()
    assert output.mask.grad.abs().sum() > 0


def test_error_rates_follow_the_batches_and_stay_for_classes_that_are_not_in_them():
    output, batch = made_up()
    recipe = replace(recipe_of(), network=replace(recipe_of().network, classes=3))
    module = DenseModule(recipe, ())
    module.log = module.log_dict = lambda *args, **options: None
    pixels = losses.code_pixels(output, batch)
    wrong, count = losses.wrong_bits(pixels, 3)
    module.objective(output, batch)
    for owner in range(3):
        rate = wrong[owner] / count[owner] if count[owner] else torch.full((16,), 0.5)
        torch.testing.assert_close(module.bit_errors[owner], 0.95 * 0.5 + 0.05 * rate)
    assert count[1] == 0


# --- learning -----------------------------------------------------------------------------------------------------


def overfit(pack, book, recipe, steps, lr):
    """The module after training on one batch of two windows, and the batch."""
    torch.manual_seed(0)
    batch = collate(samples_of(pack, book, recipe, 2))
    module = DenseModule(recipe, (book,))
    module.log = module.log_dict = lambda *args, **options: None
    optimiser = torch.optim.Adam([p for p in module.network.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        module.objective(module.network(batch.image), batch).backward()
        optimiser.step()
    return module, batch


def check_learnt(module, batch, least_bits):
    with torch.no_grad():
        output = module.network(batch.image)
    truth = (batch.surface_class == 0).reshape(output.mask[:, 0].shape)
    known = (batch.surface_class != UNKNOWN).reshape(truth.shape)
    predicted = output.mask[:, 0] > 0
    joint = (predicted & truth).sum() / ((predicted | truth) & known).sum()
    assert joint > 0.9
    assert losses.leading_bits(losses.code_pixels(output, batch)) > least_bits


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['darknet_tiny', 'darknet_tiny_h', 'efficientnet_lite0'])
def test_students_learn_one_batch_by_heart(pack, book, backbone):
    module, batch = overfit(pack, book, recipe_of(backbone), steps=120, lr=4e-3)
    check_learnt(module, batch, least_bits=8)


@pytest.mark.slow
def test_the_described_teacher_learns_one_batch_by_heart(pack, book):
    module, batch = overfit(pack, book, recipe_of('resnet34', 'aspp', 32, 256), steps=30, lr=1e-3)
    check_learnt(module, batch, least_bits=4)


# --- the way through the command ----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def run_folder(dataset):
    assert main(['train', str(dataset / 'recipe.yaml')]) == 0
    return dataset / 'run'


def test_a_run_leaves_a_checkpoint_with_its_codes(run_folder, dataset, book):
    found = any_checkpoint(read_weights_file(run_folder / 'final.pt'), run_folder / 'final.pt')
    assert isinstance(found, DenseCheckpoint)
    assert isinstance(found.network, DenseNetwork)
    assert found.recipe.network.kind == 'dense'
    np.testing.assert_array_equal(found.books[0].points, book.points)
    lines = [json.loads(line) for line in (run_folder / 'validation.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [3, 6]
    assert all(line['looked_at'] >= 5 and 0 <= line['recall'] <= 1 for line in lines)


@pytest.mark.parametrize('damage', ['missing', 'of fewer leaves', 'of another object'])
def test_a_checkpoint_whose_codes_are_damaged_is_refused(run_folder, damage):
    content = read_weights_file(run_folder / 'final.pt')
    (record,) = content['codes']
    content['codes'] = {
        'missing': [{}],
        'of fewer leaves': [{**record, 'grid': record['grid'][:-1]}],
        'of another object': [{**record, 'name': 'mug'}],
    }[damage]
    with pytest.raises(ConfigError, match='its surface codes are not those of its objects'):
        any_checkpoint(content, run_folder / 'final.pt')


def test_a_run_goes_on_with_the_same_codes_only(run_folder, dataset, book, capsys):
    command = ['train', str(dataset / 'recipe.yaml'), 'train.steps=9', '--resume']
    write_codes(dataset / 'codes', replace(book, grid=book.grid ^ 1))
    assert main(command) == 2
    assert 'holds other codes than those that the run began with' in capsys.readouterr().err
    write_codes(dataset / 'codes', book)
    assert main(command) == 0
    assert any_checkpoint(read_weights_file(run_folder / 'final.pt'), run_folder).facts['steps'] == 9


def test_a_dense_checkpoint_is_none_of_keypoints(run_folder):
    with pytest.raises(ConfigError, match='networks of the kind keypoints only'):
        load_checkpoint(run_folder / 'final.pt')


def test_a_backbone_goes_from_one_kind_to_the_other(run_folder, dataset):
    keypoints = dataset / 'keypoints.pt'
    recipe = load_recipe(dataset / 'recipe.yaml')
    spec = NetworkSpec('darknet_tiny_h')
    network = KeypointNetwork(spec)
    save_checkpoint(keypoints, Checkpoint(network, Recipe(network=spec), (MODEL,), {}))
    started = replace(
        recipe, initial_weights=str(keypoints), out=str(dataset / 'started'),
        train=replace(recipe.train, steps=1, validate_every=1), optimiser=replace(recipe.optimiser, lr=1e-9),
    )  # fmt: skip
    final = train(started)
    weights = any_checkpoint(read_weights_file(final), final).network.backbone.state_dict()
    for name, value in network.backbone.state_dict().items():
        if 'running' not in name and 'num_batches' not in name:
            torch.testing.assert_close(weights[name], value, rtol=2e-3, atol=1e-4)


def test_data_without_depth_is_refused(tmp_path, book):
    rng = np.random.default_rng(0)
    for scene in range(2):
        write_scene(tmp_path, scene, [random_pose(rng)], depth=False)
    write_models(tmp_path)
    write_codes(tmp_path / 'codes', book)
    recipe = replace(
        recipe_of(), out=str(tmp_path / 'run'),
        data=DataRecipe(str(tmp_path), cache=str(tmp_path / 'cache'), codes=str(tmp_path / 'codes')),
    )  # fmt: skip
    with pytest.raises(DatasetError, match='no depth images, from which a dense network learns'):
        train(recipe)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['data.codes=""'], 'data.codes is missing'),
        (['data.codes=nowhere'], r'nowhere/painted_box\.codes\.npz: no such file; make it with `kd6d codes`'),
        (['network.strides=[16, 32]'], 'network.strides belongs to network.kind: keypoints'),
        (['network.surface=64'], 'network.surface belongs to network.kind: keypoints'),
        (['loss.score=1'], 'loss.score belongs to network.kind: keypoints'),
        (['distillation.cells=5'], 'distillation.cells belongs to network.kind: keypoints'),
        (['distillation.adlp.coordinates=frame'], r'adlp\.coordinates belongs to network.kind: keypoints'),
        (['distillation.surface.weight=1'], 'distillation.surface belongs to network.kind: keypoints'),
        (['distillation.pooling=3', 'distillation.adlp.weight=1', 'distillation.teacher=t.pt'], 'squares of 3'),
        (['distillation.pooling=0'], 'distillation.pooling must be positive'),
        (['distillation.adlp.place=-1'], 'distillation.adlp.place must not be negative'),
        (['distillation.adlp.every=0'], 'distillation.adlp.every must be positive'),
        (['network.kind=keypoints'], 'data.codes belongs to network.kind: dense'),
        (['network.decoder=aspp'], 'aspp needs network.backbone: resnet34'),
        (['network.backbone=resnet34', 'network.decoder=aspp', 'train.batch_size=1'], 'must be 2 or more'),
        (['input.crop_size=72'], 'multiples of 16'),
    ],
)
def test_recipes_that_cannot_be_meant_end_in_one_line(dataset, changes, message, capsys):
    assert main(['train', str(dataset / 'recipe.yaml'), f'out={dataset}/refused', *changes]) == 2
    line = capsys.readouterr().err.strip()
    assert re.search(message, line)
    assert '\n' not in line
    assert not (dataset / 'refused').exists()
