"""Every name, enumeration and call of TensorRT and CUDA in our code exists in the installed packages.

Names come from the source of ``tensorrt_api.py`` and ``cuda_api.py``; nothing is listed twice. A test runs where the
package is installed, with or without a GPU: ``make test-tensorrt`` installs TensorRT 8.6.0, and the bindings of 10
and 11 without their libraries.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines import cuda_api, tensorrt_api

pytestmark = pytest.mark.tensorrt

CLASSES = {
    'builder': 'Builder', 'network': 'INetworkDefinition', 'parser': 'OnnxParser', 'config': 'IBuilderConfig',
    'runtime': 'Runtime', 'engine': 'ICudaEngine', 'context': 'IExecutionContext', 'inspector': 'EngineInspector',
    'profile': 'IOptimizationProfile', 'tensor': 'ITensor',
}  # fmt: skip
"""Variable -> class that it holds."""

ONLY = {
    'NetworkDefinitionCreationFlag.EXPLICIT_BATCH': (8, 10),
    'NetworkDefinitionCreationFlag.STRONGLY_TYPED': (10, 11),
    'BuilderFlag.FP16': (8, 10),
    'BuilderFlag.INT8': (8, 10),
    'IProgressMonitor': (10, 11),
    'IBuilderConfig.progress_monitor': (10, 11),
    'OnnxParserFlag': (10, 11),
    'OnnxParserFlag.NATIVE_INSTANCENORM': (10, 11),
    'OnnxParser.set_flag': (10, 11),
}
"""Names that not every version has -> major versions that have them; the code asks before it uses them."""

CALLBACKS = {
    'IProgressMonitor.phase_start': ['phase_name', 'parent_phase', 'num_steps'],
    'IProgressMonitor.step_complete': ['phase_name', 'step'],
    'IProgressMonitor.phase_finish': ['phase_name'],
    'ILogger.log': ['severity', 'msg'],
}
"""What TensorRT calls on our classes."""


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f'{dotted(node.value)}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else '?'


def tree_of(module) -> ast.AST:
    return ast.parse(Path(module.__file__).read_text(encoding='utf-8'))


def used(module, root: str) -> set[str]:
    """Dotted names below the variable `root`, and attributes of the variables in CLASSES."""
    names = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute):
            first, _, rest = dotted(node).partition('.')
            if first == root and '__' not in rest:
                names.add(rest)
            elif first in CLASSES and root == 'trt':
                names.add(f'{CLASSES[first]}.{rest.split(".")[0]}')
    return names


def calls(module) -> dict[str, set[int]]:
    """Name -> numbers of arguments with which it is called."""
    found: dict[str, set[int]] = {}
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call):
            first, _, rest = dotted(node.func).partition('.')
            name = f'{CLASSES[first]}.{rest}' if first in CLASSES else rest if first in ('trt', 'cudart') else ''
            if name:
                found.setdefault(name, set()).add(len(node.args) + len(node.keywords))
    return found


@pytest.fixture(scope='module')
def trt():
    module = pytest.importorskip('tensorrt', reason='tensorrt is not installed: make test-tensorrt')
    if not hasattr(module, 'Builder'):
        pytest.skip('tensorrt is here without its libraries')
    return module


@pytest.fixture(scope='module')
def cudart():
    if not any(cuda_api._is_there(name) for name in cuda_api.MODULES):
        pytest.skip('cuda-python is not installed: make test-tensorrt')
    return cuda_api.load_cuda()


def major(trt) -> int:
    return int(trt.__version__.split('.')[0])


def look_up(module, name: str):
    for part in name.split('.'):
        module = getattr(module, part, None)
    return module


def signatures(function) -> list[tuple[list[str], int]]:
    """Names of the parameters of each overload and how many have a default, from a pybind11 docstring."""
    found = re.findall(r'^(?:\d+\. )?\w+\((?:self: [^,)]+(?:, )?)?(.*)\) ->', function.__doc__ or '', re.MULTILINE)
    return [
        ([part.split(':')[0].strip() for part in text.split(', ') if ':' in part], text.count(' = ')) for text in found
    ]


def test_the_source_names_enough_to_be_worth_checking():
    names = used(tensorrt_api, 'trt')
    assert {
        'Builder',
        'OnnxParser',
        'Runtime',
        'IExecutionContext.execute_async_v3',
        'IOptimizationProfile.set_shape',
        'MemoryPoolType.WORKSPACE',
    } <= names
    assert {'cudaHostAlloc', 'cudaMemcpyAsync', 'cudaStreamSynchronize'} <= used(cuda_api, 'cudart')
    assert set(ONLY) <= names


def test_every_name_of_tensorrt_exists(trt):
    here = major(trt)
    names = used(tensorrt_api, 'trt')
    expected = {name for name in names if here in ONLY.get(name, (here,))}
    found = {name for name in names if look_up(trt, name) is not None}
    assert expected - found == set(), 'missing in this version'
    assert found - expected == set(), 'ONLY is out of date'


def test_every_call_of_tensorrt_has_a_signature(trt):
    checked = []
    for name, counts in calls(tensorrt_api).items():
        if major(trt) not in ONLY.get(name, (major(trt),)) or name.endswith('__init__') or name == '__version__.split':
            continue
        function = look_up(trt, name)
        function = function.__init__ if inspect.isclass(function) else function
        forms = signatures(function)
        for count in counts:
            fits = [form for form, free in forms if len(form) - free <= count <= len(form)]
            assert fits, f'{name} with {count} arguments: {forms}'
        checked.append(name)
    assert len(checked) > 15, checked
    assert {'Builder.build_serialized_network', 'IExecutionContext.set_tensor_address'} <= set(checked)


def test_what_tensorrt_calls_has_our_signature(trt):
    for name, wanted in CALLBACKS.items():
        if major(trt) in ONLY.get(name.split('.', maxsplit=1)[0], (major(trt),)):
            assert signatures(look_up(trt, name)) == [(wanted, 0)]


def test_our_logger_and_monitor_can_be_made(trt):
    heard, said = [], []
    logger = tensorrt_api._logger(trt, lambda severe, text: heard.append((severe, text)))
    logger.log(trt.ILogger.Severity.ERROR, 'bad')
    logger.log(trt.ILogger.Severity.INFO, 'so so')
    logger.log(trt.ILogger.Severity.VERBOSE, 'chatter')
    assert heard == [(True, 'bad'), (False, 'so so')]
    if major(trt) >= 10:
        monitor = tensorrt_api._monitor(trt, said.append)
        monitor.phase_start('Building', None, 10)
        assert all(monitor.step_complete('Building', step) for step in range(10))
        monitor.phase_finish('Building')
        assert said == ['Building: 10 steps', *(f'Building: {step} of 10' for step in (2, 4, 6, 8))]


def test_types_of_tensors_are_known_by_tensorrts_names(trt):
    known = set(trt.DataType.__members__)
    assert set(tensorrt_api.DTYPES) - known <= ({'INT64'} if major(trt) < 10 else set())
    for name in set(tensorrt_api.DTYPES) & known:
        assert getattr(trt.DataType, name).name == name


def test_flags_fit_the_version(trt):
    flags = trt.NetworkDefinitionCreationFlag
    if major(trt) < 10:
        assert tensorrt_api._network_flags(trt, False) == 1 << int(flags.EXPLICIT_BATCH)
    else:
        assert tensorrt_api._network_flags(trt, True) == 1 << int(flags.STRONGLY_TYPED)
        assert tensorrt_api._network_flags(trt, False) == 0


def test_every_name_of_cuda_exists(cudart):
    for name in sorted(used(cuda_api, 'cudart')):
        assert look_up(cudart, name) is not None, name


def test_every_call_of_cuda_has_a_signature(cudart):
    for name, counts in calls(cuda_api).items():
        text = (getattr(look_up(cudart, name), '__doc__', '') or '').split('\n')[0]
        found = re.fullmatch(r'\w+\((.*)\)', text.strip())
        assert found, f'{name}: no signature in {text!r}'
        given = [part for part in re.sub(r'\([^)]*\)', '', found.group(1)).split(', ') if part]
        most, least = len(given), len([part for part in given if '=' not in part])
        assert all(least <= count <= most for count in counts), f'{name} with {counts}: {text}'


def test_without_a_gpu_the_first_call_says_so(cudart):
    if Path('/proc/driver/nvidia').exists() or Path('/etc/nv_tegra_release').exists():
        pytest.skip('there is a GPU')
    with pytest.raises(EngineError, match=r'^no CUDA device: [^\n]+$'):
        cuda_api.Cuda()
