"""A box whose paint says where on it one is, and a network of a few operations that reads codes off that paint.

It stands for a trained dense network wherever a test needs a whole bundle: it sees any image, in any crop, and
answers as a network would that has learnt the box perfectly. Run this file as a script to write the network again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from kd6d_ros.inference.bundle import write_bundle
from kd6d_ros.inference.bundle_records import LAYOUTS, DecodeSpec, NetworkSpec
from kd6d_ros.inference.surface_codes import BITS, LEAVES, CodeBook, bits_of
from kd6d_ros.types import Mesh, ObjectModel

FILE = Path(__file__).with_name('painted_codes.onnx')
HALF = np.array([0.06, 0.045, 0.03])
"""Half edges of the box [m]."""
CORNERS = HALF * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
NAME, DIAMETER = 'painted', float(2 * np.linalg.norm(HALF))
STRIDE = 4
SPAN = 254.0
"""Paint of one coordinate goes from 1 to 255; black is no paint."""
NEAR_FACE = 3.0
"""A point lies on a face of the box when one of its paints is at most this far from the end of its range."""
AXIS_OF_BIT = np.arange(BITS) % 3


def model(name=NAME, obj_id=1):
    return ObjectModel(name, obj_id, DIAMETER, CORNERS)


def mesh():
    sides = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return Mesh(CORNERS, np.array([face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))]))


def network_spec(frame=(320, 240)):
    return NetworkSpec(
        128, 1.25, frame, 0, (), LAYOUTS['dense'], parameters=1, architecture='reads paint', code_stride=STRIDE
    )  # fmt: skip


@lru_cache(maxsize=4)
def book(name=NAME, obj_id=1):
    """Codes that halve the box along x, y, z in turn: bit k is a bit of the coordinate of axis k % 3."""
    bits = bits_of(np.arange(LEAVES))
    place = np.zeros((LEAVES, 3))
    for axis in range(3):
        own = bits[:, axis == AXIS_OF_BIT]
        count = own.shape[1]
        cell = own @ (2 ** np.arange(count - 1, -1, -1))
        place[:, axis] = (cell + 0.5) / 2**count
        # What the outermost cells show is nearly always a face of the box.
        place[cell == 0, axis], place[cell == 2**count - 1, axis] = 0.0, 1.0
    grid = np.round(place * 65535).astype(np.uint16)
    return CodeBook(name, obj_id, DIAMETER, -HALF, 2 * HALF / 65535, grid, 64 * 'a', LEAVES, 0)


def surface(camera, pose, pixels):
    """Points (N, 3) [m] of the box under `pixels` (N, 2) of the image and their depths (N,), infinite beside it."""
    from kd6d_ros.geometry.cameras import undistort_points

    rays = np.concatenate([undistort_points(camera, pixels), np.ones((len(pixels), 1))], axis=1)
    direction, origin = rays @ pose.rotation, pose.inverse().translation
    with np.errstate(divide='ignore', invalid='ignore'):
        ends = (np.stack([-HALF, HALF])[:, None] - origin) / direction
    near, far = ends.min(0).max(-1), ends.max(0).min(-1)
    depth = np.where((near < far) & (near > 0), near, np.inf)
    return origin + np.where(np.isfinite(depth), depth, 0.0)[:, None] * direction, depth


def picture(camera, *poses):
    """(H, W, 3) uint8 RGB: boxes at `poses`, their paint being 1 + 254 x (the place between -HALF and HALF)."""
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = np.stack([columns.ravel(), rows.ravel()], 1).astype(float)
    image, nearest = np.zeros((len(pixels), 3)), np.full(len(pixels), np.inf)
    for pose in poses:
        points, depth = surface(camera, pose, pixels)
        first = depth < nearest
        image[first] = 1 + SPAN * np.clip((points[first] + HALF) / (2 * HALF), 0, 1)
        nearest = np.minimum(nearest, depth)
    return np.round(image).astype(np.uint8).reshape(camera.height, camera.width, 3)


def painted_bundle(folder, objects=(NAME,), frame=(320, 240), **changes):
    """A whole bundle in `folder`; its network knows the first of `objects` only."""
    models = tuple(model(name, number) for number, name in enumerate(objects, start=1))
    parts = {
        'name': 'painted_dense',
        'objects': models,
        'network': network_spec(frame),
        'decode': DecodeSpec(0.5, 1000),
        'engines': {'fp32': FILE},
        'licence': 'Apache-2.0',
        'origin': 'made here',
        'books': tuple(replace(book(), name=item.name, obj_id=item.obj_id) for item in models),
    }
    return write_bundle(folder, **{**parts, **changes})


def painted_network():
    """The network as ONNX bytes: the interface of a dense bundle, for one object."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights, nodes = [], []

    def constant(name, value):
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    half, one = constant('half', np.float32(0.5)), constant('one', np.float32(1))
    raw = node('Cast', ['image'], 'pixels', to=TensorProto.FLOAT)
    planes = node('Transpose', [raw], 'planes', perm=[0, 3, 1, 2])
    # The centre of a cell lies between its two middle pixels.
    edges = [constant('from', np.array([1, 1])), constant('to', np.array([2**30, 2**30])), constant('on', [2, 3])]
    inner = node('Slice', [planes, *edges], 'inner')
    paint = node('AveragePool', [inner], 'paint', kernel_shape=[2, 2], strides=[STRIDE, STRIDE])
    least = node('ReduceMin', [paint], 'least', axes=[1], keepdims=1)
    most = node('ReduceMax', [paint], 'most', axes=[1], keepdims=1)
    painted = node('GreaterOrEqual', [least, one], 'is_painted')
    low = node('LessOrEqual', [least, constant('low_end', np.float32(1 + NEAR_FACE))], 'at_low_end')
    high = node('GreaterOrEqual', [most, constant('high_end', np.float32(255 - NEAR_FACE))], 'at_high_end')
    on_face = node('And', [painted, node('Or', [low, high], 'at_an_end')], 'on_face')
    asked = node('Unsqueeze', ['classes', constant('last_axes', np.array([2, 3]))], 'asked')
    first = node('Slice', [asked, constant('zeroth', [0]), constant('first', [1]), constant('axis', [1])], 'known')
    here = node('Cast', [node('And', [on_face, first], 'shown')], 'here', to=TensorProto.FLOAT)
    share = node('Mul', [here, constant('sure', np.float32(0.95))], 'probability')
    node('Squeeze', [share, constant('class_axis', np.array([1]))], 'mask')
    whole = node('Mul', ['mask', constant('nothing', np.float32(0))], 'no_class')
    node('Cast', [whole], 'class_index', to=TensorProto.INT64)
    scaled = node('Div', [node('Sub', [paint, one], 'above_one'), constant('span', np.float32(SPAN))], 'share')
    place = node('Clip', [scaled, constant('zero', np.float32(0)), constant('end', np.float32(1 - 2**-12))], 'place')
    bits = []
    for bit in range(BITS):
        axis = constant(f'axis{bit}', np.array([AXIS_OF_BIT[bit]]))
        own = node('Gather', [place, axis], f'own{bit}', axis=1)
        times = constant(f'times{bit}', np.float32(2 ** (bit // 3 + 1)))
        level = node('Floor', [node('Mul', [own, times], f'level{bit}')], f'fine{bit}')
        parent = node('Floor', [node('Mul', [level, half], f'halved{bit}')], f'coarse{bit}')
        double = node('Add', [parent, parent], f'double{bit}')
        bits.append(node('Sub', [level, double], f'bit{bit}'))
    node('Concat', bits, 'code', axis=1)
    sides = ['batch', 'map_height', 'map_width']
    graph = helper.make_graph(
        nodes, 'painted',
        [
            helper.make_tensor_value_info('image', TensorProto.UINT8, ['batch', 'height', 'width', 3]),
            helper.make_tensor_value_info('classes', TensorProto.BOOL, ['batch', 'objects']),
        ],
        [
            helper.make_tensor_value_info('class_index', TensorProto.INT64, sides),
            helper.make_tensor_value_info('mask', TensorProto.FLOAT, sides),
            helper.make_tensor_value_info('code', TensorProto.FLOAT, ['batch', BITS, *sides[1:]]),
        ],
        weights,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    return made.SerializeToString()


if __name__ == '__main__':
    FILE.write_bytes(painted_network())
