"""Export of dense networks: every precision computes what PyTorch does, and the bundle works on the robot side."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")

import painted_codes  # noqa: E402
from box_scenes import BOX, CAN, CORNERS, write_models, write_scene  # noqa: E402

from kd6d_ros.cli.main import main  # noqa: E402
from kd6d_ros.data.bop import BopDataset  # noqa: E402
from kd6d_ros.deployment.equality import check_equal  # noqa: E402
from kd6d_ros.deployment.onnx_export import export_graph, rounded_weights  # noqa: E402
from kd6d_ros.errors import BundleError, ConfigError, EngineError  # noqa: E402
from kd6d_ros.geometry.cameras import make_camera  # noqa: E402
from kd6d_ros.geometry.transforms import rotation_angle  # noqa: E402
from kd6d_ros.inference.bundle import load_bundle  # noqa: E402
from kd6d_ros.inference.engines.network_io import predictions  # noqa: E402
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine  # noqa: E402
from kd6d_ros.inference.engines.select import make_engine  # noqa: E402
from kd6d_ros.inference.estimator import PoseEstimator  # noqa: E402
from kd6d_ros.inference.onnx_static import evaluate_with_onnxruntime, static_network  # noqa: E402
from kd6d_ros.inference.surface_codes import BITS  # noqa: E402
from kd6d_ros.networks.dense_network import DenseNetwork, DenseOutput  # noqa: E402
from kd6d_ros.networks.deployed_dense import DeployedDense  # noqa: E402
from kd6d_ros.networks.macs import count_macs  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.checkpoint import DenseCheckpoint, save_checkpoint  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe  # noqa: E402
from kd6d_ros.training.start_weights import network_of_bundle  # noqa: E402
from kd6d_ros.types import RigidTransform  # noqa: E402

ALL = ('fp32', 'fp16', 'int8', 'int8-cpu')
SPEC = NetworkSpec('darknet_tiny_h', channels=32, classes=2, kind='dense')


def book_of(model):
    """Codes that halve the box of `box_scenes` along its axes."""
    size = CORNERS.max(0) - CORNERS.min(0)
    own = {'name': model.name, 'obj_id': model.obj_id, 'diameter': model.diameter}
    return replace(painted_codes.book(), low=CORNERS.min(0), step=size / 65535, **own)


def make_network():
    torch.manual_seed(3)
    network = DenseNetwork(SPEC).eval()
    torch.nn.init.normal_(network.decoder.output[-1].weight, std=0.3)
    return network


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('run') / 'final.pt'
    recipe = Recipe(
        'two', network=SPEC, input=InputRecipe(96, 1.25, (160, 128)), data=DataRecipe('secret', codes='secret')
    )
    books = (book_of(BOX), book_of(CAN))
    facts = {'parameters': 7, 'validation': {'recall': 0.25, 'accepted': 0.5, 'looked_at': 40}}
    save_checkpoint(path, DenseCheckpoint(make_network(), recipe, (BOX, CAN), facts, books))
    return path


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Six scenes, one of them held out."""
    root = tmp_path_factory.mktemp('data') / 'boxes'
    for scene in range(6):
        write_scene(root, scene)
    write_models(root)
    return root


@pytest.fixture(scope='module')
def exported(tmp_path_factory, checkpoint, data):
    """The folder of a bundle with every precision."""
    out = tmp_path_factory.mktemp('models') / 'two'
    command = ['export', '--checkpoint', str(checkpoint), '--out', str(out), '--precisions', *ALL]
    command += ['--calibration', str(data), '--calibration-images', '12', '--evaluate-instances', '4']
    assert main([*command, '--meshes', str(data / 'models')]) == 0
    return out


def outputs_of(network, image, classes):
    with torch.no_grad():
        return [
            out.numpy() for out in DeployedDense(network).eval()(torch.from_numpy(image), torch.from_numpy(classes))
        ]


@pytest.mark.parametrize('size', [(96, 96), (128, 160)])
def test_every_output_is_what_pytorch_computes(exported, data, size):
    picture = BopDataset.open(data).scene('train', 5).image(0)  # of the scene that nothing was calibrated on
    image = np.zeros((2, *size, 3), np.uint8)
    image[0, : min(120, size[0]), : min(160, size[1])] = picture[: size[0], : size[1]]
    image[1] = np.random.default_rng(0).integers(0, 256, (*size, 3))
    classes = np.array([[True, True], [False, True]])
    index, mask, code = outputs_of(rounded_weights(make_network()), image, classes)
    bundle = load_bundle(exported)
    # The weights are random, so there is no redundancy that would even out errors: hence the width of the limits.
    for precision, most, mean in (
        ('fp32', 1e-3, 1e-4), ('fp16', 0.1, 0.005), ('int8', 1.0, 0.15), ('int8-cpu', 1.0, 0.15)
    ):  # fmt: skip
        engine = OnnxRuntimeEngine(bundle, bundle.engine_path(precision), precision, threads=1)
        for row, cells in enumerate(engine.run(image, classes)):
            maps = cells.codes
            assert maps.mask.dtype == maps.code.dtype == np.float32
            assert maps.code.shape == (BITS, size[0] // 4, size[1] // 4)
            gaps = np.abs(maps.mask - mask[row])
            same = maps.class_index == index[row]
            bits = np.abs(maps.code - code[row])[:, same]
            assert gaps.max() < most, precision
            assert bits.max() < most, precision
            assert max(gaps.mean(), bits.mean()) < mean, precision
            assert same.mean() > (0.99 if precision == 'fp32' else 0.7), precision
    assert (engine.run(image, classes)[1].codes.class_index == 1).all()


def test_the_bundle_carries_the_codes_and_the_facts(exported, checkpoint, capsys):
    bundle = load_bundle(exported)
    assert (bundle.kind, bundle.names, sorted(bundle.meshes)) == ('dense', ('box', 'can'), ['box', 'can'])
    for book, model in zip(bundle.books, (BOX, CAN), strict=True):
        np.testing.assert_array_equal(book.points, book_of(model).points)
    assert bundle.network.frame_size == (160, 128)
    assert bundle.network.crop_macs == count_macs(make_network(), 96, 96).total
    assert bundle.expected['held_out_renders_recall_0.1d'] == 0.25
    assert bundle.decode.cells_per_object == 1000
    assert set(bundle.measured) == set(ALL)
    assert 'secret' not in (exported / 'bundle.yaml').read_text()
    report = json.loads((exported / 'report.json').read_text())
    assert report['evaluation']['objects'] == 4
    assert all(report['precisions'][name]['objects'] == 4 for name in ALL)
    assert report['calibration']['inputs'] == 12
    half_weights = 2 * sum(p.numel() for p in make_network().parameters())
    assert (exported / 'model_fp32.onnx').stat().st_size < half_weights + 120_000
    assert sum((exported / name).stat().st_size for name in bundle.codes.values()) < 2 * 450_000
    assert main(['info', str(exported)]) == 0
    assert 'a surface code for every 4x4 px' in capsys.readouterr().out


def test_a_dense_graph_with_fixed_sizes_computes_the_same(exported):
    """What TensorRT's parser gets: nothing left that depends on the size of the input."""
    bundle = load_bundle(exported)
    data = bundle.engine_path('fp32').read_bytes()
    shapes = {'image': (1, 96, 96, 3), 'classes': (1, 2)}
    fixed = static_network(data, shapes, evaluate_with_onnxruntime)
    image = np.random.default_rng(1).integers(0, 256, shapes['image'], dtype=np.uint8)
    feeds = {'image': image, 'classes': np.array([[True, False]])}
    arrays = [evaluate_with_onnxruntime(item, ('class_index', 'mask', 'code'), feeds) for item in (fixed, data)]
    for ours, theirs in zip(*arrays, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert predictions(bundle, exported, arrays[0], (96, 96)).codes.mask.shape == (24, 24)


def test_a_graph_that_differs_is_refused(exported):
    network = rounded_weights(make_network())
    with torch.no_grad():
        network.decoder.output[-1].bias[1] += 3.0  # a bit of the first object
    bundle = load_bundle(exported)
    with pytest.raises(EngineError, match=r'differs from PyTorch at 2x96x96: masks by .*, bits by 0\.\d+'):
        check_equal(network, bundle.engine_path('fp32'), bundle)


def test_a_dense_checkpoint_with_other_codes_is_refused(tmp_path, checkpoint, capsys):
    content = torch.load(checkpoint, weights_only=True)
    content['codes'] = content['codes'][::-1]
    torch.save(content, tmp_path / 'other.pt')
    assert main(['export', '--checkpoint', str(tmp_path / 'other.pt'), '--out', str(tmp_path / 'b')]) == 2
    assert 'its surface codes are not those of its objects' in capsys.readouterr().err
    assert not (tmp_path / 'b').exists()


def test_training_does_not_start_from_a_dense_bundle(exported):
    with pytest.raises(BundleError, match='a dense network can only start from a checkpoint'):
        network_of_bundle(exported)


def test_a_recipe_with_a_wrong_frame_is_named(tmp_path):
    from kd6d_ros.training.recipe import load_recipe

    text = 'data: {train: x, codes: y}\nnetwork: {kind: dense, backbone: efficientnet_lite0}\ninput: {frame_size: %s}\n'
    (tmp_path / 'good.yaml').write_text(text % '[320, 256]')
    assert load_recipe(tmp_path / 'good.yaml').input.frame_size == (320, 256)
    (tmp_path / 'bad.yaml').write_text(text % '[320, 250]')
    with pytest.raises(ConfigError, match='must be multiples of 32'):
        load_recipe(tmp_path / 'bad.yaml')


class PaintReader(DenseNetwork):
    """A dense network that knows the painted box: the bits of a colour are those of a place."""

    def __init__(self):
        super().__init__(NetworkSpec('darknet_tiny_h', channels=32, kind='dense'))

    def forward(self, image):
        paint = torch.nn.functional.avg_pool2d(image[:, :, 1:-1, 1:-1], 2, 4)
        on_face = (paint.amin(1) >= 1) & ((paint.amin(1) <= 4) | (paint.amax(1) >= 252))
        place = ((paint - 1) / painted_codes.SPAN).clamp(0, 1 - 2**-12)
        bits = []
        for bit in range(BITS):
            level = torch.floor(place[:, bit % 3] * float(2 ** (bit // 3 + 1)))
            bits.append(level - 2 * torch.floor(level / 2))
        code = 8.0 * torch.stack(bits, 1) - 4.0
        return DenseOutput((6.0 * on_face.float() - 3.0)[:, None], code[:, None])


class TorchDense:
    name, precision, description = 'torch', 'fp32', 'PyTorch'
    side_by_side = 1

    def __init__(self, network, bundle):
        self._network, self._bundle = network, bundle

    def run(self, image, classes):
        outputs = outputs_of(self._network, image, classes)
        rows = [[out[row : row + 1] for out in outputs] for row in range(len(image))]
        return [predictions(self._bundle, None, arrays, image.shape[1:3]) for arrays in rows]


def test_final_poses_are_those_of_pytorch(tmp_path):
    """In the whole frame, tracked and through the file: PyTorch and ONNX Runtime give one pose, the true one."""
    import onnx

    network = PaintReader().eval()
    onnx.save(export_graph(network, 128, 0), tmp_path / 'paint.onnx')
    bundle = painted_codes.painted_bundle(tmp_path / 'b', engines={'fp32': tmp_path / 'paint.onnx'})
    check_equal(network, bundle.engine_path('fp32'), bundle)
    both = [PoseEstimator(bundle, engine) for engine in (make_engine(bundle, threads=1), TorchDense(network, bundle))]
    camera = make_camera(np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]]), 640, 480)
    for step in range(3):
        turn = cv2.Rodrigues(np.array([0.5, -0.7 + 0.1 * step, 0.2]))[0]
        truth = RigidTransform(turn, np.array([0.02, -0.01 * step, 0.55]))
        image = painted_codes.picture(camera, truth)
        (ours,), (theirs,) = (estimator.estimate(image, camera, step / 10) for estimator in both)
        for found, limit in ((ours, 3e-3), (theirs, 3e-3)):
            assert np.linalg.norm(found.cam_from_obj.translation - truth.translation) < limit
        assert np.linalg.norm(ours.cam_from_obj.translation - theirs.cam_from_obj.translation) < 1e-4
        assert rotation_angle(ours.cam_from_obj.rotation, theirs.cam_from_obj.rotation) < 1e-3
