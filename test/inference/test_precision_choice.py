"""What 'auto' runs, for bundles with and without the other precisions and for several machines."""

from dataclasses import replace

import numpy as np
import pytest

from kd6d_ros.inference.bundle_records import Measured
from kd6d_ros.inference.engines import precision_choice, select
from kd6d_ros.inference.engines.precision_choice import (
    MOST_DROP_POINTS,
    built_precisions,
    graphics_precision,
    int8_is_exact,
    processor_flags,
    processor_precision,
    runtime_version,
)

VNNI = frozenset({'avx2', 'avx512_vnni'})
PLAIN = frozenset({'avx2'})
LITTLE, MUCH = Measured(drop_points=0.9), Measured(drop_points=MOST_DROP_POINTS + 0.1)


def with_engines(bundle, **measured):
    named = {name.replace('_', '-'): value for name, value in measured.items()}
    return replace(bundle, engines=dict.fromkeys(named, 'a.onnx'), measured=named)


@pytest.mark.parametrize(
    ('measured', 'flags', 'expected'),
    [
        ({'fp32': LITTLE, 'int8_cpu': LITTLE}, VNNI, 'int8-cpu'),
        ({'fp32': LITTLE, 'int8_cpu': LITTLE}, frozenset({'avx_vnni'}), 'int8-cpu'),
        ({'fp32': LITTLE, 'int8_cpu': LITTLE}, PLAIN, 'fp32'),  # saturates without the instructions
        ({'fp32': LITTLE, 'int8_cpu': LITTLE}, frozenset(), 'fp32'),
        ({'fp32': LITTLE, 'int8_cpu': MUCH}, VNNI, 'fp32'),
        ({'fp32': LITTLE, 'int8_cpu': Measured()}, VNNI, 'fp32'),  # nobody knows what it loses
        ({'fp32': LITTLE, 'int8': LITTLE}, VNNI, 'fp32'),  # made for TensorRT
        ({'fp16': LITTLE, 'int8': LITTLE}, VNNI, 'fp16'),
        ({'int8_cpu': MUCH}, PLAIN, 'int8-cpu'),  # there is nothing else
    ],
)
def test_a_processor_runs_what_it_computes_exactly(bundle, measured, flags, expected):
    assert processor_precision(with_engines(bundle, **measured), flags) == expected


@pytest.mark.parametrize(('flags', 'runtime', 'exact'), [
    (VNNI, (1, 14), True),
    (VNNI | {'amx_int8'}, (1, 23), False),  # answers differ from run to run
    (VNNI | {'amx_int8'}, (1, 24), False),
    (VNNI | {'amx_int8'}, (1, 25), True),
    (VNNI | {'amx_int8'}, (2, 0), True),
    (VNNI | {'amx_int8'}, (0, 0), False),  # unknown
    (PLAIN, (1, 32), False),
])  # fmt: skip
def test_int8_is_trusted_where_it_is_exact(flags, runtime, exact):
    assert int8_is_exact(flags, runtime) == exact


def test_the_version_of_onnx_runtime_is_that_of_the_package():
    onnxruntime = pytest.importorskip('onnxruntime')
    assert runtime_version() == tuple(int(part) for part in onnxruntime.__version__.split('.')[:2])


def test_unmeasured_precisions_of_the_manifest_do_not_count(bundle):
    assert processor_precision(replace(bundle, engines={'fp32': 'a', 'int8-cpu': 'b'}, measured={}), VNNI) == 'fp32'


def test_engines_that_were_built_are_looked_for_fastest_first(bundle):
    every = with_engines(bundle, fp32=LITTLE, fp16=LITTLE, int8=LITTLE, int8_cpu=LITTLE)
    assert built_precisions(every) == ['int8', 'fp16', 'fp32']
    assert built_precisions(with_engines(bundle, fp32=LITTLE, fp16=LITTLE, int8=MUCH)) == ['fp16', 'fp32']
    assert built_precisions(with_engines(bundle, int8_cpu=LITTLE)) == []
    assert graphics_precision(every) == 'fp16'
    assert graphics_precision(with_engines(bundle, fp32=LITTLE, fp16=MUCH)) == 'fp32'


def test_the_flags_are_those_of_this_processor(monkeypatch, tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor\t: 1\nflags\t\t: other\n')
    monkeypatch.setattr(precision_choice, 'Path', lambda path: file)
    monkeypatch.setattr(precision_choice.platform, 'machine', lambda: 'x86_64')
    assert processor_flags.__wrapped__() == {'fpu', 'avx2', 'avx_vnni'}
    file.unlink()
    assert processor_flags.__wrapped__() == frozenset()
    monkeypatch.setattr(precision_choice.platform, 'machine', lambda: 'aarch64')
    assert processor_flags.__wrapped__() == frozenset()


@pytest.mark.parametrize(('flags', 'expected'), [(VNNI, 'int8-cpu'), (PLAIN, 'fp32')])
@pytest.mark.parametrize('engine', ['auto', 'onnxruntime'])
def test_make_engine_says_what_it_chose(write, onnx_file, monkeypatch, engine, flags, expected):
    pytest.importorskip('onnxruntime')
    monkeypatch.setattr(precision_choice, 'processor_flags', lambda: flags)
    files = {'fp32': onnx_file, 'int8-cpu': onnx_file}
    made = select.make_engine(
        write(engines=files, measured={'fp32': LITTLE, 'int8-cpu': LITTLE}), engine, 'auto', threads=1
    )
    assert made.precision == expected
    assert expected in made.description
    assert len(made.run(np.zeros((1, 128, 128, 3), np.uint8), np.ones((1, 3), bool))) == 1
