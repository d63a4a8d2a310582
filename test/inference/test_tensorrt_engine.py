"""The TensorRT engine and the choice between engines; TensorRT's place is taken by a fake, the rest is real."""

from __future__ import annotations

import json
import re
import threading
import types

import numpy as np
import pytest
from fake_tensorrt import ORIN, FakeTensorRt
from painted_codes import painted_bundle, picture

from kd6d_ros.cli import main as cli
from kd6d_ros.cli import output as cli_output
from kd6d_ros.errors import BundleError, EngineError
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.inference.bundle_records import Measured
from kd6d_ros.inference.engines import onnxruntime_engine, select
from kd6d_ros.inference.engines.engine_layers import in_words, layer_precisions
from kd6d_ros.inference.engines.onnxruntime_providers import CPU, CUDA, TENSORRT, provider_list
from kd6d_ros.inference.engines.select import ENGINES, make_engine
from kd6d_ros.inference.engines.tensorrt_build import BuildOptions
from kd6d_ros.inference.locate import find_bundle
from kd6d_ros.types import RigidTransform

pytest.importorskip('onnxruntime')


@pytest.fixture
def bundle(write, onnx_file):
    return write(engines={'fp32': onnx_file, 'fp16': onnx_file, 'int8-cpu': onnx_file})


@pytest.fixture(autouse=True)
def backend(monkeypatch, tmp_path):
    """A machine with the fake TensorRT and an empty cache."""
    backend = FakeTensorRt()
    monkeypatch.setenv('KD6D_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(select, 'new_backend', lambda: backend)
    monkeypatch.setattr(select, 'tensorrt_installed', lambda: True)
    return backend


def frame(height=128, width=128, count=1, value=128):
    return np.full((count, height, width, 3), value, np.uint8), np.ones((count, 3), bool)


def test_it_answers_as_onnx_runtime_does_on_a_shipped_bundle():
    bundle = load_bundle(find_bundle('demo'))
    native, reference = make_engine(bundle, 'tensorrt'), make_engine(bundle, 'onnxruntime', threads=1)
    rng = np.random.default_rng(3)
    classes = np.ones((2, len(bundle.objects)), bool)
    width, height = bundle.network.frame_size
    for rows, columns in ((bundle.network.crop_size, bundle.network.crop_size), (height, width)):
        image = rng.integers(0, 256, (2, rows, columns, 3)).astype(np.uint8)
        for ours, theirs in zip(native.run(image, classes), reference.run(image, classes), strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-5)
            sure = theirs.score > 1e-3  # cells of equal score may change places
            assert ours.keypoints[sure] == pytest.approx(theirs.keypoints[sure], abs=1e-2)
            assert (ours.class_index == theirs.class_index).all()
            assert ours.surface == pytest.approx(theirs.surface, abs=1e-4)


def test_a_dense_bundle_answers_as_through_onnx_runtime(tmp_path, camera):
    bundle = painted_bundle(tmp_path / 'dense')
    native, reference = make_engine(bundle, 'tensorrt'), make_engine(bundle, 'onnxruntime', threads=1)
    seen = picture(camera, RigidTransform(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 0.5])))
    for rows, columns in ((128, 128), (240, 320)):
        image = seen[None, 120 : 120 + rows, 160 : 160 + columns]
        (ours,), (theirs,) = (engine.run(image, np.array([[True]])) for engine in (native, reference))
        assert theirs.codes.mask.max() > 0.9
        assert ours.codes.mask == pytest.approx(theirs.codes.mask, abs=1e-6)
        assert ours.codes.code == pytest.approx(theirs.codes.code, abs=1e-6)
        assert (ours.codes.class_index == theirs.codes.class_index).all()


def test_both_sizes_are_ready_and_the_description_tells_the_real_precision(bundle, backend):
    engine = make_engine(bundle, 'tensorrt', 'fp16')
    assert engine.name == 'tensorrt'
    assert engine.precision == 'fp16'
    assert engine.description == (
        'TensorRT 10.3.0, Orin (compute capability 8.7), fp16 file, strongly typed, 3 layers in fp16, 1 in fp32'
    )
    assert len(backend.builds) == 2
    engine.warm_up()
    make_engine(bundle, 'tensorrt', 'fp16')
    assert len(backend.builds) == 2


def test_weakly_typed_is_an_engine_of_its_own(bundle, backend):
    assert 'weakly typed' in make_engine(bundle, 'tensorrt-weak', 'fp16').description
    assert [request.strongly_typed for request in backend.builds] == [False, False]


def test_an_engine_that_does_not_run_in_the_asked_precision_says_so(bundle, monkeypatch):
    full = json.dumps({'Layers': [{'LayerType': 'CaskConvolution', 'Inputs': [{'Format/Datatype': 'Float'}]}] * 2})
    monkeypatch.setattr('fake_tensorrt.FakeProgram.layers', lambda _: full)
    said = []
    engine = make_engine(bundle, 'tensorrt', 'fp16', notify=said.append)
    assert engine.precision == 'fp32'
    assert said[-1].endswith('model_fp16.onnx: no layer runs in fp16 in the engine for 640x480: 2 layers in fp32')


def test_wrong_inputs_and_other_sizes_are_refused(bundle):
    engine = make_engine(bundle, 'tensorrt', 'fp16')
    image, classes = frame()
    with pytest.raises(EngineError, match=r'image: expected uint8 .* got float32'):
        engine.run(image.astype(np.float32), classes)
    with pytest.raises(EngineError, match=r'no engine for images of 256x256: there is one for 128x128 and 640x480'):
        engine.run(*frame(256, 256))


def test_several_crops_run_one_after_the_other(bundle, backend):
    engine = make_engine(bundle, 'tensorrt', 'fp16')
    image, classes = frame(count=3)
    image[1] = 64
    first, second, _ = engine.run(image, classes)
    assert first.score == pytest.approx([0.5] * 6)
    assert second.score == pytest.approx([0.25] * 6)
    assert first.keypoints.shape == (6, 8, 2)


def test_several_crops_run_at_once_where_an_engine_for_them_was_prepared(backend, capsys):
    bundle = load_bundle(find_bundle('demo'))
    side, (width, height) = bundle.network.crop_size, bundle.network.frame_size
    image = np.random.default_rng(4).integers(0, 256, (7, side, side, 3)).astype(np.uint8)
    alone = make_engine(bundle, 'tensorrt').run(image, np.ones((7, 1), bool))
    assert cli.main(['engine', 'demo', '--precision', 'fp32', '--batch', '4']) == 0
    out, err = capsys.readouterr()
    assert f'-{side}x{side}-batch4' in out
    assert '1 to 4' in out
    assert f'building demo fp32 {side}x{side}, 1 to 4 images' in err
    assert [request.most_images for request in backend.builds] == [1, 1, 4]
    engine = make_engine(bundle, 'tensorrt')
    assert len(backend.builds) == 3
    assert engine.description.endswith(', up to 4 crops at once')
    engine.warm_up()
    calls = []
    for program in backend.programs:
        program.seen = calls
    together = engine.run(image, np.ones((7, 1), bool))
    assert calls == [4, 3]
    for ours, theirs in zip(together, alone, strict=True):
        assert np.sort(ours.score) == pytest.approx(np.sort(theirs.score), abs=1e-5)
        assert ours.surface == pytest.approx(theirs.surface, abs=1e-4)
    several, calls[:] = backend.programs[-1], []
    several.seen = []
    engine.run(image[:5], np.ones((5, 1), bool))
    assert (several.seen, calls) == ([4], [1])  # one crop takes the engine for one
    engine.run(np.zeros((2, height, width, 3), np.uint8), np.ones((2, 1), bool))  # there is none for whole frames
    assert (several.seen, calls) == ([4], [1, 1, 1])
    engine.close()
    assert all(program.closed for program in backend.programs[-3:])


def test_engines_for_several_crops_have_keys_of_their_own(bundle):
    source = select.engine_source(bundle, 'fp16', BuildOptions(), lambda line: None)
    entries = [source.entry((128, 128), most) for most in (1, 4, 8)]
    assert len({entry.name for entry in entries}) == 3
    assert [entry.key['shapes']['image'][0] for entry in entries] == [1, '1..4', '1..8']


def test_a_network_that_takes_one_image_only_is_one_line(bundle, capsys):
    """The small network of these tests has outputs for one image, whatever it is given."""
    assert cli.main(['engine', str(bundle.folder), '--batch', '2']) == 2
    assert re.search(r'model_fp16.onnx: .* for each image; export the bundle again', capsys.readouterr().err)


def test_one_thread_at_a_time_and_each_new_one_attaches(bundle, backend):
    engine = make_engine(bundle, 'tensorrt', 'fp16')
    crop = backend.programs[0]
    engine.run(*frame())
    assert crop.attached == []  # the thread that made it has the device already
    threads = [threading.Thread(target=lambda: [engine.run(*frame()) for _ in range(5)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crop.overlaps == 0
    assert len(set(crop.attached)) == 3
    engine.close()
    assert all(program.closed for program in backend.programs)


def test_auto_takes_prepared_engines_and_never_builds(bundle, backend):
    engine = make_engine(bundle, 'auto', 'fp16', threads=1)
    assert engine.name == 'onnxruntime'
    assert 'CPU, 1 threads, fp16' in engine.description
    assert '(auto: no engine demo-' in engine.description
    assert f'it is not there yet; kd6d engine {bundle.folder} --precision fp16 prepares it)' in engine.description
    assert backend.builds == []
    assert cli.main(['engine', str(bundle.folder)]) == 0
    assert len(backend.builds) == 2
    assert make_engine(bundle, 'auto', 'fp16').name == 'tensorrt'
    assert len(backend.builds) == 2


def test_auto_precision_takes_the_engine_that_was_built(write, onnx_file, backend):
    known = {name: Measured(drop_points=0.5) for name in ('fp32', 'fp16', 'int8')}
    bundle = write(engines=dict.fromkeys(known, onnx_file), measured=known)
    assert make_engine(bundle, 'auto', 'auto', threads=1).name == 'onnxruntime'
    assert backend.builds == []
    for precision in ('fp16', 'int8'):  # the quicker of those that are there
        assert cli.main(['engine', str(bundle.folder), '--precision', precision]) == 0
        built = len(backend.builds)
        engine = make_engine(bundle, 'auto', 'auto')
        assert engine.name == 'tensorrt'
        assert engine.precision_asked == precision
        assert len(backend.builds) == built
    assert make_engine(bundle, 'tensorrt', 'auto').precision_asked == 'fp16'


def test_auto_says_why_it_is_not_tensorrt(bundle, monkeypatch):
    monkeypatch.setattr(select, 'tensorrt_installed', lambda: False)
    assert make_engine(bundle, threads=1).description.endswith(', fp32 (auto: tensorrt is not installed)')

    def no_gpu():
        raise EngineError('no CUDA device: driver not found')

    monkeypatch.setattr(select, 'tensorrt_installed', lambda: True)
    monkeypatch.setattr(select, 'new_backend', no_gpu)
    assert make_engine(bundle).description.endswith('(auto: no CUDA device: driver not found)')
    with pytest.raises(EngineError, match='no CUDA device: driver not found'):
        make_engine(bundle, 'tensorrt')


def test_auto_runs_a_network_for_the_cpu_on_the_cpu(bundle, backend):
    engine = make_engine(bundle, 'auto', 'int8-cpu', threads=1)
    assert engine.description.endswith('CPU, 1 threads, int8-cpu')
    with pytest.raises(BundleError, match='use int8'):
        make_engine(bundle, 'tensorrt', 'int8-cpu')


@pytest.mark.parametrize('engine', ['onnxruntime-cuda', 'onnxruntime-tensorrt'])
def test_a_missing_provider_is_one_line(bundle, engine):
    import onnxruntime

    if len(set(onnxruntime.get_available_providers()) & {CUDA, TENSORRT}):
        pytest.skip('this ONNX Runtime has GPU providers')
    with pytest.raises(EngineError, match=r'this ONNX Runtime has no \w+ \(it has .*CPU.*\): install onnxruntime-gpu'):
        make_engine(bundle, engine)


@pytest.mark.parametrize(('machine', 'precision'), [('x86_64', 'fp32'), ('aarch64', 'fp16')])
def test_half_precision_on_an_x86_cpu_is_computed_in_float32(bundle, monkeypatch, machine, precision):
    monkeypatch.setattr(onnxruntime_engine.platform, 'machine', lambda: machine)
    engine = make_engine(bundle, 'onnxruntime', 'fp16')
    assert engine.precision == precision
    assert engine.description.endswith('fp16 file computed in fp32' if precision == 'fp32' else ', fp16')


def fake_runtime(version='1.19.2', have=(TENSORRT, CUDA, CPU)):
    return types.SimpleNamespace(__version__=version, get_available_providers=lambda: list(have))


def test_providers_run_what_the_bundle_says(tmp_path):
    assert provider_list(fake_runtime(), CPU, 'fp32') == [(CPU, {})]
    assert provider_list(fake_runtime(), CUDA, 'fp32') == [(CUDA, {'use_tf32': '0'}), (CPU, {})]
    assert provider_list(fake_runtime('1.16.3'), CUDA, 'fp32') == [(CUDA, {}), (CPU, {})]
    first, *others = provider_list(fake_runtime(), TENSORRT, 'fp16')
    assert first[0] == TENSORRT
    assert (first[1]['trt_fp16_enable'], first[1]['trt_int8_enable']) == ('1', '0')
    assert first[1]['trt_engine_cache_path'] == str(tmp_path / 'cache' / 'onnxruntime')
    assert [name for name, _ in others] == [CUDA, CPU]


@pytest.mark.filterwarnings('ignore:Specified provider')
def test_a_provider_that_does_not_start_is_not_replaced_in_silence(bundle, monkeypatch):
    real = onnxruntime_engine._runtime()
    monkeypatch.setattr(real, 'get_available_providers', lambda: [CUDA, CPU])
    with pytest.raises(EngineError, match='has CUDAExecutionProvider but it does not start here'):
        make_engine(bundle, 'onnxruntime-cuda')
    monkeypatch.setattr(select, 'tensorrt_installed', lambda: False)
    assert 'CPU' in make_engine(bundle).description


def test_the_command_prints_and_writes_what_it_built(bundle, tmp_path, capsys):
    cache = tmp_path / 'other'
    arguments = ['engine', str(bundle.folder), '--cache', str(cache), '--workspace-mb', '64']
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert '128x128' in out
    assert '640x480' in out
    assert '3 layers in fp16, 1 in fp32' in out
    assert f'KD6D_CACHE={cache}' in out
    assert 'strongly typed, TensorRT 10.3.0 on Orin: this takes minutes, once' in err
    assert 'Building: 1 of 5' in err
    assert cli.main([*arguments, '--json']) == 0
    record = json.loads(capsys.readouterr().out)
    assert [item['state'] for item in record['engines']] == ['was there', 'was there']
    assert record['tensorrt'] == ORIN.tensorrt
    assert record['folder'] == str(cache)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--precision', 'int8'], "has no 'int8' engine: it has fp16, fp32, int8-cpu"),
        (['--workspace-mb', '0'], '--workspace-mb 0: expected 1 ..'),
        (['--batch', '1'], '--batch 1: expected 2 .. 16'),
    ],
)
def test_mistakes_of_the_command_are_one_line(bundle, capsys, arguments, message):
    assert cli.main(['engine', str(bundle.folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith('kd6d engine: error: ')
    assert message in error
    assert error.count('\n') == 1


def test_without_tensorrt_the_command_ends_in_one_line(bundle, capsys, monkeypatch):
    monkeypatch.undo()
    if select.tensorrt_installed():
        pytest.skip('tensorrt is installed')
    assert cli.main(['engine', str(bundle.folder)]) == 2
    assert capsys.readouterr().err.startswith('kd6d engine: error: tensorrt is not installed: it comes with JetPack')


def test_the_names_of_engines():
    assert ENGINES == (
        'auto', 'onnxruntime', 'onnxruntime-cuda', 'onnxruntime-tensorrt', 'tensorrt', 'tensorrt-weak',
    )  # fmt: skip
    assert cli_output.ENGINES.replace(' or ', ', ').split(', ') == list(ENGINES)


def layer(kind, text, field='Format/Datatype'):
    return {'Name': 'x', 'LayerType': kind, 'Inputs': [{'Name': 'i', field: text}], 'Outputs': []}


@pytest.mark.parametrize(
    ('layers', 'counts'),
    [
        # 8.6 and 10: one field; the strings are those of NVIDIA's engine explorer examples.
        ([layer('CaskConvolution', 'Channel major FP16 format where channel % 8 == 0')] * 2, {'fp16': 2}),
        ([layer('CaskConvolution', 'Thirty-two wide channel vectorized row major Int8 format')], {'int8': 1}),
        ([layer('CudaDepthwiseConvolution', 'Row major linear FP32')], {'fp32': 1}),
        ([layer('kgen', 'Half'), layer('kgen', 'Float')], {'fp16': 1, 'fp32': 1}),
        ([layer('gemm', 'Row major linear BFloat16 format')], {'bf16': 1}),
        # 11: a field of its own.
        ([layer('Convolution', 'Half', 'DataType'), layer('Convolution', 'Int8', 'DataType')], {'fp16': 1, 'int8': 1}),
        # Only convolutions count where there are some; images and indices never do.
        ([layer('CaskConvolution', 'Half'), layer('Reformat', 'Row major linear FP32')], {'fp16': 1}),
        ([layer('Cast', 'Row major linear UInt8 format'), layer('TopK', 'Int64')], {}),
        (['only a name'], {}),
        ([{'LayerType': 'CaskConvolution', 'Inputs': ['x']}], {}),
    ],
)  # fmt: skip
def test_precisions_are_read_off_the_inspector(layers, counts):
    assert layer_precisions(json.dumps({'Layers': layers, 'Bindings': []})) == counts


@pytest.mark.parametrize('text', ['', 'null', '[]', '{"Layers": null}', 'no JSON'])
def test_an_inspector_that_says_nothing_is_no_error(text):
    assert layer_precisions(text) == {}
    assert in_words({}) == 'its layers do not tell their precision'
