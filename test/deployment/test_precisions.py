"""FP16 and INT8: what the files hold, that they compute what FP32 does, and what refuses to be exported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')
pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")

import onnx  # noqa: E402
from box_scenes import BOX, CAN, write_models, write_scene  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from kd6d_ros.cli.main import main  # noqa: E402
from kd6d_ros.data.bop import BopDataset  # noqa: E402
from kd6d_ros.deployment.accuracy import Accuracy, paired_drop  # noqa: E402
from kd6d_ros.deployment.equalise import before_group_norm, equalise  # noqa: E402
from kd6d_ros.deployment.graph_parts import decoding, final_convolutions  # noqa: E402
from kd6d_ros.deployment.onnx_export import trace_graph  # noqa: E402
from kd6d_ros.deployment.prepare import fold_padding, pool_first, prepare  # noqa: E402
from kd6d_ros.deployment.quantise import METHODS, calibrate, quantisable, quantise  # noqa: E402
from kd6d_ros.deployment.report import check_drops  # noqa: E402
from kd6d_ros.errors import BundleError, ConfigError, EngineError  # noqa: E402
from kd6d_ros.inference.bundle import load_bundle, write_bundle  # noqa: E402
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine  # noqa: E402
from kd6d_ros.inference.engines.select import make_engine  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.checkpoint import Checkpoint, save_checkpoint  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe  # noqa: E402

MODELS = Path(__file__).resolve().parents[2] / 'models'
SPEC = NetworkSpec('darknet_tiny_h', (16, 32), 32, 1, 'group', classes=2, surface=16)
ALL = ('fp32', 'fp16', 'int8', 'int8-cpu')


def make_network(spec=SPEC):
    torch.manual_seed(3)
    network = KeypointNetwork(spec).eval()
    torch.nn.init.normal_(network.head.score.weight, std=0.3)
    torch.nn.init.normal_(network.head.offsets.weight, std=0.05)
    return network


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A rendered set of six scenes, one of them held out."""
    root = tmp_path_factory.mktemp('data') / 'boxes'
    for scene in range(6):
        write_scene(root, scene)
    write_models(root)
    return root


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('run') / 'final.pt'
    recipe = Recipe('two', network=SPEC, input=InputRecipe(96, 1.5, (160, 128), 64), data=DataRecipe('x'))
    save_checkpoint(path, Checkpoint(make_network(), recipe, (BOX, CAN), {'parameters': 7}))
    return path


@pytest.fixture(scope='module')
def exported(tmp_path_factory, checkpoint, data):
    """The folder of a bundle with every precision."""
    out = tmp_path_factory.mktemp('models') / 'two'
    command = ['export', '--checkpoint', str(checkpoint), '--out', str(out), '--precisions', *ALL]
    command += ['--calibration', str(data), '--calibration-images', '24', '--evaluate-instances', '6']
    assert main([*command, '--allow-drop', 'int8', 'int8-cpu']) == 0
    return out


@pytest.fixture(scope='module')
def prepared():
    return prepare(trace_graph(make_network(), 96, 64))


@pytest.fixture(scope='module')
def noise():
    return list(np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), dtype=np.uint8))


def test_every_precision_computes_nearly_what_fp32_does(exported, data):
    bundle = load_bundle(exported)
    picture = BopDataset.open(data).scene('train', 5).image(0)  # of the scene that nothing was calibrated on
    image = np.stack([picture[:96, :96], picture[24:, 64:]])
    classes = np.ones((2, 2), dtype=bool)
    wanted = make_engine(bundle, threads=1).run(image, classes)
    # The weights are random, so there is no redundancy that would even out errors: hence the width of the limits.
    for precision, score, points in (('fp16', 0.01, 0.02), ('int8', 0.2, 0.35), ('int8-cpu', 0.2, 0.35)):
        engine = OnnxRuntimeEngine(bundle, bundle.engine_path(precision), precision, threads=1)
        for ours, theirs in zip(engine.run(image, classes), wanted, strict=True):
            np.testing.assert_allclose(np.sort(ours.score), np.sort(theirs.score), atol=score)
            gap = np.abs(ours.surface[:, :3] - theirs.surface[:, :3]).mean() / np.abs(theirs.surface[:, :3]).mean()
            assert gap < points, precision
            assert ours.centre.dtype == np.float32
            # The decoding stays in float32: centres are those of the grid to the last bit.
            assert {tuple(row) for row in ours.centre} <= {
                ((x + 0.5) * s - 0.5, (y + 0.5) * s - 0.5) for s in (16, 32) for x in range(6) for y in range(6)
            }


def test_final_poses_of_int8_are_those_of_fp32():
    """The committed demo network on frames of the demo bag, distances in shares of the distance to the camera."""
    pytest.importorskip('rosbags', reason='bags need pip install kd6d_ros[bench]')
    from kd6d_ros.benchmark.bag_frames import read_frames
    from kd6d_ros.benchmark.bag_source import BagSource, find_topics
    from kd6d_ros.inference.estimator import PoseEstimator
    from kd6d_ros.inference.settings import EstimatorSettings

    bundle = load_bundle(MODELS / 'demo')
    estimators = [
        PoseEstimator(bundle, make_engine(bundle, precision=precision, threads=1), EstimatorSettings(track=False))
        for precision in ('fp32', 'int8')
    ]
    gaps = []
    with BagSource(MODELS / 'demo_bag') as source:
        for number, frame in enumerate(read_frames(source, find_topics(source))):
            if number % 25 == 0:
                both = [item.estimate(frame.image, frame.camera, float(number)) for item in estimators]
                gaps += [
                    np.linalg.norm(a.cam_from_obj.translation - b.cam_from_obj.translation)
                    / b.cam_from_obj.translation[2]
                    for a, b in zip(*both, strict=False)
                ]
    assert len(gaps) >= 6
    assert np.median(gaps) < 0.02


def test_the_files_are_what_they_say(exported):
    bundle = load_bundle(exported)
    assert dict(bundle.engines) == {
        'fp32': 'model_fp32.onnx', 'fp16': 'model_fp16.onnx',
        'int8': 'model_int8.onnx', 'int8-cpu': 'model_int8_cpu.onnx',
    }  # fmt: skip
    for precision, name in bundle.engines.items():
        graph = onnx.load(exported / name).graph
        kinds = {item.name: item.type.tensor_type.elem_type for item in (*graph.input, *graph.output)}
        assert kinds['image'] == TensorProto.UINT8
        assert kinds['classes'] == TensorProto.BOOL
        assert {kinds[key] for key in ('score', 'centre', 'keypoints', 'surface')} == {TensorProto.FLOAT}
        assert [dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim[:3]] == ['batch', 'height', 'width']
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        steps = [node for node in graph.node if node.op_type == 'QuantizeLinear']
        if precision in ('fp32', 'fp16'):
            assert not steps
            continue
        points = [tensors[node.input[2]] for node in steps]
        assert {point.dtype for point in points} == {np.dtype('int8' if precision == 'int8' else 'uint8')}
        if precision == 'int8':
            assert not any(point.any() for point in points)
        backs = {node.output[0]: node for node in graph.node if node.op_type == 'DequantizeLinear'}
        weights = [backs[node.input[1]] for node in graph.node if node.op_type == 'Conv' and node.input[1] in backs]
        assert len(weights) > 10
        for node in weights:
            values, scale = tensors[node.input[0]], tensors[node.input[1]]
            assert values.dtype == np.int8
            assert scale.shape == values.shape[:1]  # one scale per channel


def test_a_batch_gives_what_single_images_give(exported):
    ort = pytest.importorskip('onnxruntime')
    image = np.random.default_rng(6).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    classes = np.ones((3, 2), dtype=bool)
    for name in load_bundle(exported).engines.values():
        session = ort.InferenceSession(str(exported / name), providers=['CPUExecutionProvider'])
        together = session.run(['score', 'keypoints'], {'image': image, 'classes': classes})
        for row in range(3):
            alone = session.run(['score', 'keypoints'], {'image': image[row : row + 1], 'classes': classes[:1]})
            np.testing.assert_allclose(together[0][row], alone[0][0], atol=1e-3)


def test_the_report_says_what_was_measured(exported, capsys):
    report = json.loads((exported / 'report.json').read_text())
    assert report['calibration']['inputs'] == 24
    assert report['evaluation'] == {'source': 'boxes', 'split': 'train', 'objects': 6}
    assert report['crop_macs'] > 0
    for precision in ALL:
        row = report['precisions'][precision]
        assert row['bytes'] == (exported / f'model_{precision.replace("-", "_")}.onnx').stat().st_size
        assert row['latency_ms'] > 0
        assert 0 <= row['recall'] <= 1
        assert row['objects'] == 6
    assert report['precisions']['fp32']['drop_points'] == 0.0
    bundle = load_bundle(exported)
    assert bundle.measured['int8-cpu'].latency_ms == report['precisions']['int8-cpu']['latency_ms']
    assert str(exported.parent) not in (exported / 'report.json').read_text()
    assert main(['info', str(exported)]) == 0
    out = capsys.readouterr().out
    assert 'measured   int8-cpu: ' in out
    assert 'of 6 held-out objects' in out


def test_int8_means_the_file_for_the_processor_where_there_is_one(exported, tmp_path):
    bundle = load_bundle(exported)
    assert make_engine(bundle, precision='int8').precision == 'int8-cpu'
    only = write_bundle(
        tmp_path / 'only', name='only', objects=bundle.objects, network=bundle.network, decode=bundle.decode,
        engines={'int8': exported / 'model_int8.onnx'}, licence='CC0', origin='here',
    )  # fmt: skip
    assert make_engine(only, precision='int8').precision == 'int8'
    with pytest.raises(BundleError, match="has no 'fp16' engine: it has int8"):
        make_engine(only, precision='fp16')


def test_a_corrupt_int8_file_is_one_line(exported, tmp_path):
    bundle = load_bundle(exported)
    data = (exported / 'model_int8_cpu.onnx').read_bytes()
    for content in (data[: len(data) // 2], b'', data[:200] + b'\xff' * 200 + data[400:]):
        (tmp_path / 'cut.onnx').write_bytes(content)
        with pytest.raises(EngineError) as error:
            OnnxRuntimeEngine(bundle, tmp_path / 'cut.onnx', 'int8-cpu')
        assert '\n' not in str(error.value)


def run_export(checkpoint, out, *more):
    return main(['export', '--checkpoint', str(checkpoint), '--out', str(out), *map(str, more)])


def test_what_cannot_be_calibrated_is_one_line_and_nothing_is_written(tmp_path, checkpoint, data, capsys):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text').mkdir()
    (tmp_path / 'text' / 'readme.txt').write_text('no dataset')
    foreign = tmp_path / 'foreign'
    write_scene(foreign, 1)
    for path in foreign.rglob('scene_gt.json'):
        path.write_text(path.read_text().replace('"obj_id": 1', '"obj_id": 8').replace('"obj_id": 2', '"obj_id": 9'))
    int8 = ('--precisions', 'int8-cpu')
    for arguments, message in (
        (int8, '--precisions int8-cpu: needs --calibration'),
        ((*int8, '--calibration', tmp_path / 'no'), 'no such folder or bag'),
        ((*int8, '--calibration', tmp_path / 'empty'), 'the folder is empty'),
        ((*int8, '--calibration', tmp_path / 'text'), 'holds no scenes'),
        ((*int8, '--calibration', foreign), 'shows none of the objects of the checkpoint (ids 1, 2)'),
        ((*int8, '--calibration', data, '--calibration-images', 3), '--calibration-images must be within'),
        (('--precisions', 'fp16'), '--precisions fp16: needs --evaluate BOP_DIR'),
        (('--precisions', 'int4'), '--precisions int4: this version writes fp32, fp16, int8, int8-cpu'),
        (('--allow-drop', 'int7'), '--allow-drop int7: this version writes'),
    ):
        assert run_export(checkpoint, tmp_path / 'out', *arguments) == 2
        line = capsys.readouterr().err.strip().splitlines()
        assert message in line[-1]
        assert not any('Traceback' in item for item in line)
        assert not (tmp_path / 'out').exists()


def test_the_same_images_cannot_calibrate_and_judge(tmp_path, checkpoint, data, capsys):
    judges = tmp_path / 'judges'
    write_scene(judges, 1)
    (judges / 'train').rename(judges / 'test')
    (judges / 'models').symlink_to(data / 'models')
    more = ('--precisions', 'int8-cpu', '--calibration', judges, '--evaluate', judges)
    assert run_export(checkpoint, tmp_path / 'out', *more) == 2
    assert 'has the images of --calibration' in capsys.readouterr().err


@pytest.fixture(scope='module')
def plain(tmp_path_factory, checkpoint):
    """The folder of a bundle with FP32 only."""
    out = tmp_path_factory.mktemp('plain') / 'two'
    assert run_export(checkpoint, out) == 0
    return out


def run_addition(bundle, out, *more):
    return main(['export', '--bundle', str(bundle), '--out', str(out), *map(str, more)])


def test_a_bundle_alone_gives_the_precisions_that_its_checkpoint_gives(tmp_path, plain, exported, data):
    out = tmp_path / 'more'
    arguments = ('--precisions', 'fp16', 'int8', 'int8-cpu', '--calibration', data, '--calibration-images', 24)
    arguments += ('--evaluate-instances', 6, '--allow-drop', 'int8', 'int8-cpu')
    assert run_addition(plain, out, *arguments) == 0
    bundle, wanted, before = load_bundle(out), load_bundle(exported), load_bundle(plain)
    assert set(bundle.engines) == set(bundle.measured) == set(ALL)
    assert bundle.engine_path('fp32').read_bytes() == before.engine_path('fp32').read_bytes()
    assert (bundle.name, bundle.training, bundle.objects[0].name) == (before.name, before.training, BOX.name)
    image = BopDataset.open(data).scene('train', 5).image(0)[None, :96, :96]
    # Folding batch normalisation gives weights that the FP32 file rounds to half precision: nothing in FP16, a step of
    # some weights in INT8, which with random weights moves the scores as far as INT8 itself does.
    for precision, score in (('fp32', 0.0), ('fp16', 0.0), ('int8', 0.2), ('int8-cpu', 0.2)):
        ours, theirs = (
            OnnxRuntimeEngine(item, item.engine_path(precision), precision, threads=1).run(image, np.ones((1, 2), bool))
            for item in (bundle, wanted)
        )
        np.testing.assert_allclose(np.sort(ours[0].score), np.sort(theirs[0].score), 0.0, score, err_msg=precision)
    report = json.loads((out / 'report.json').read_text())
    assert set(report['precisions']) == set(ALL)
    assert len(report['calibration']['left_in_float']) <= 6


def test_a_bundle_can_get_precisions_where_it_is_and_get_them_again(tmp_path, plain, data):
    out = tmp_path / 'two'
    shutil.copytree(plain, out)
    (out / 'README').write_text('mine')
    arguments = ('--precisions', 'int8-cpu', '--calibration', data, '--evaluate-instances', 6)
    arguments += ('--allow-drop', 'int8-cpu', '--calibration-images')
    sizes = []
    for images in (8, 24):
        assert run_addition(out, out, *arguments, images, '--name', f'again{images}') == 0
        bundle = load_bundle(out)
        assert (bundle.name, set(bundle.engines)) == (f'again{images}', {'fp32', 'int8-cpu'})
        sizes.append(json.loads((out / 'report.json').read_text())['calibration']['inputs'])
        assert (out / 'README').read_text() == 'mine'
    assert sizes == [8, 24]
    assert [item.name for item in out.parent.iterdir()] == ['two']  # nothing is left beside it


def test_what_cannot_be_added_is_one_line_and_the_bundle_stays(tmp_path, plain, data, capsys):
    before = {path.name: path.read_bytes() for path in plain.iterdir()}
    unsaid = tmp_path / 'unsaid'
    shutil.copytree(plain, unsaid)
    manifest = unsaid / 'bundle.yaml'
    manifest.write_text(manifest.read_text().replace('validation_fraction', 'fraction'))
    int8 = ('--precisions', 'int8-cpu', '--calibration', data)
    for folder, arguments, message in (
        (plain, (), '--precisions must name what to add'),
        (plain, ('--precisions', 'int8-cpu'), 'needs --calibration'),
        (plain, (*int8, '--licence', 'CC0'), '--licence: belongs to --checkpoint'),
        (plain, (*int8, '--crop-padding', '1.2'), '--crop-padding: belongs to --checkpoint'),
        (plain, (*int8, '--name', 'a b'), 'cannot be the name of a bundle'),
        (unsaid, int8, 'does not say which images its training held out: give renders with --evaluate'),
        (tmp_path / 'none', int8, 'none'),
    ):
        assert run_addition(folder, plain, *arguments) == 2
        line = capsys.readouterr().err.strip().splitlines()
        assert message in line[-1]
        assert not any('Traceback' in item for item in line)
        assert {path.name: path.read_bytes() for path in plain.iterdir()} == before
    with pytest.raises(SystemExit):
        main(['export', '--bundle', str(plain), '--checkpoint', 'x', '--out', str(plain)])


def test_a_large_drop_is_refused_unless_it_is_named():
    good, bad = np.ones(100, dtype=bool), np.arange(100) >= 3
    table = {'fp32': Accuracy(good, good, None), 'int8': Accuracy(bad, bad, 1.0)}
    with pytest.raises(ConfigError, match=r'int8 finds 97\.0 % of 100 held-out objects.*3\.0 points less'):
        check_drops(table, ())
    check_drops(table, ('int8',))
    check_drops({'fp32': table['fp32'], 'int8': Accuracy(np.arange(100) >= 2, bad, 1.0)}, ())
    drop = paired_drop(good, bad)
    assert (drop.points, drop.low < 3 < drop.high) == (pytest.approx(3.0), True)


def test_parts_of_the_graph(prepared):
    last = final_convolutions(prepared.graph)
    assert len(last) == 5  # scores and offsets of two levels, surface
    assert not set(last) & set(decoding(prepared.graph))
    assert not set(last) & set(quantisable(prepared.graph))
    tops = [node.name for node in prepared.graph.node if node.op_type == 'TopK']
    assert set(tops) <= set(decoding(prepared.graph))
    first = next(node for node in prepared.graph.node if node.op_type == 'Conv')
    assert first.name not in quantisable(prepared.graph)


def outputs(model, images):
    ort = pytest.importorskip('onnxruntime')
    session = ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    feed = {'image': np.stack(images), 'classes': np.ones((len(images), 2), dtype=bool)}
    return session.run(['score', 'surface'], feed)


def test_equalising_changes_nothing_but_the_ranges(prepared, noise):
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    wanted = outputs(model, noise)
    names = equalise(model, noise, 2)
    assert len(names) == len(before_group_norm(prepared.graph)) == 7
    for a, b in zip(wanted, outputs(model, noise), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_of_calibration_works(prepared, noise, method):
    ranges = calibrate(prepared, noise, 2, method)
    quantised = quantise(prepared, ranges, 'int8-cpu')
    wanted, got = outputs(prepared, noise)[1], outputs(quantised, noise)[1]
    assert np.abs(wanted - got).mean() < 0.3 * np.abs(wanted).mean()


def small_graph(nodes, weights):
    image = helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info('out', TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, 'g', [image], [out], [numpy_helper.from_array(v, k) for k, v in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)


def test_padding_and_pooling_are_rewritten_to_the_same_values():
    ort = pytest.importorskip('onnxruntime')
    rng = np.random.default_rng(1)
    weights = {
        'pads': np.array([0, 0, 0, 1, 0, 0, 1, 2]),
        'w': rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node('Pad', ['image', 'pads'], ['padded'], 'pad'),
        helper.make_node('Conv', ['padded', 'w'], ['convolved'], 'conv', pads=[1, 0, 0, 0]),
        helper.make_node('LeakyRelu', ['convolved'], ['active'], 'leaky', alpha=0.1),
        helper.make_node('MaxPool', ['active'], ['out'], 'pool', kernel_shape=[2, 2], strides=[2, 2]),
    ]
    model = small_graph(nodes, weights)
    feed = {'image': rng.normal(size=(1, 3, 8, 8)).astype(np.float32)}
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, feed)[0]
    fold_padding(model.graph)
    pool_first(model.graph)
    assert [node.op_type for node in model.graph.node] == ['Conv', 'MaxPool', 'LeakyRelu']
    np.testing.assert_allclose(ort.InferenceSession(model.SerializeToString()).run(None, feed)[0], wanted, atol=1e-5)
