"""TensorRT's place taken by ONNX Runtime: 'engines' that hold the network they were built from and a platform."""

from __future__ import annotations

import json
import os
import threading
import time

import numpy as np

from kd6d_ros.errors import EngineError
from kd6d_ros.inference.engines.tensorrt_seam import Platform
from kd6d_ros.inference.onnx_edit import read_graph

ORIN = Platform('10.3.0', 'Orin', '8.7')


class FakeTensorRt:
    """``Backend``. `padding`: bytes that make its engines larger; `log`: file that gets one line per build;
    `before`: called at the start of each build."""

    def __init__(self, platform=ORIN, padding=0, log=None, before=None, fails=None):
        self._platform, self.padding, self.log, self.before, self.fails = platform, padding, log, before, fails
        self.builds, self.programs = [], []

    def platform(self):
        return self._platform

    def build(self, request, notify):
        self.builds.append(request)
        if self.log is not None:
            with open(self.log, 'a', encoding='utf-8') as file:
                file.write(f'{os.getpid()}\n')
        if self.before is not None:
            self.before()
        if self.fails is not None:
            raise EngineError(self.fails)
        notify('Building: 1 of 5')
        head = {'platform': [self._platform.tensorrt, self._platform.gpu], 'precision': request.precision}
        head['padding'] = self.padding
        return json.dumps(head).encode() + b'\n' + request.onnx + bytes(self.padding)

    def load(self, plan):
        head, _, onnx = plan.partition(b'\n')
        record = json.loads(head)
        if record['platform'] != [self._platform.tensorrt, self._platform.gpu]:
            raise EngineError('TensorRT does not take the engine: it is of another device')
        self.programs.append(FakeProgram(onnx[: len(onnx) - record['padding']], record['precision']))
        return self.programs[-1]


class FakeProgram:
    """``Program`` that notes which threads attached, whether two were ever inside at once, and how many images each run
    got (`seen`)."""

    def __init__(self, onnx, precision):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(onnx, options, providers=['CPUExecutionProvider'])
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self.graph, self._precision = read_graph(onnx), precision
        self.attached, self.inside, self.overlaps, self.closed, self.seen = [], 0, 0, False, []

    def attach(self):
        self.attached.append(threading.get_ident())

    def layers(self):
        word = {'fp16': 'Half', 'int8': 'Int8'}.get(self._precision, 'Float')
        conv = {'LayerType': 'CaskConvolution', 'Inputs': [{'Name': 'x', 'Format/Datatype': word}]}
        last = {'LayerType': 'CaskConvolution', 'Inputs': [{'Name': 'x', 'Format/Datatype': 'Row major linear FP32'}]}
        return json.dumps({'Layers': [conv, conv, conv, last, {'LayerType': 'TopK', 'Inputs': []}]})

    def run(self, feeds):
        assert not self.closed
        self.inside += 1
        self.overlaps += self.inside > 1
        self.seen.append(len(feeds['image']))
        time.sleep(0.002)
        arrays = self._session.run(None, {name: np.ascontiguousarray(array) for name, array in feeds.items()})
        self.inside -= 1
        return dict(zip(self.outputs, arrays, strict=True))

    def close(self):
        self.closed = True
