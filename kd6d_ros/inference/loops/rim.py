"""``outline.OutlineModel.seen`` face by face, edge by edge and row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np

from kd6d_ros.inference.loops.numba_loops import compiled
from kd6d_ros.inference.outline import FARTHEST_PX

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray


@compiled('Tuple((b1, f8[:,::1], f8[::1]))(f8[:,::1], f8[:,::1], f8[::1], f8[:,::1], f8)')
def project(
    vertices: FloatArray, rotation: FloatArray, translation: FloatArray, matrix: FloatArray, nearest: float
) -> Tuple[bool, FloatArray, FloatArray]:
    """Pixels (V, 2) and depths (V,); False where a vertex is nearer than `nearest` or far beside the picture."""
    pixels, depth = np.empty((len(vertices), 2)), np.empty(len(vertices))
    for i in range(len(vertices)):
        a, b, c = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        z = rotation[2, 0] * a + rotation[2, 1] * b + rotation[2, 2] * c + translation[2]
        if z <= nearest:
            return False, pixels, depth
        x = rotation[0, 0] * a + rotation[0, 1] * b + rotation[0, 2] * c + translation[0]
        y = rotation[1, 0] * a + rotation[1, 1] * b + rotation[1, 2] * c + translation[1]
        u, v = x / z * matrix[0, 0] + matrix[0, 2], y / z * matrix[1, 1] + matrix[1, 2]
        if not (abs(u) < FARTHEST_PX and abs(v) < FARTHEST_PX):
            return False, pixels, depth
        pixels[i, 0], pixels[i, 1], depth[i] = u, v, z
    return True, pixels, depth


@compiled('Tuple((f8[::1], i8[::1], i8[::1]))(f8[:,::1], f8[::1], f8[::1], i8[::1], f8[:,::1], i8[:,::1], i8[:,::1])')
def rim(
    normals: FloatArray,
    offsets: FloatArray,
    eye: FloatArray,
    owned: AnyArray,
    forward: FloatArray,
    sides: AnyArray,
    opposite: AnyArray,
) -> Tuple[FloatArray, AnyArray, AnyArray]:
    """How often each edge (E,) is passed by faces that look to `eye` (3,) [object frame]; the edges (N,) with one such
    face, and that face's third vertex (N,)."""
    faces = len(normals)
    turns = np.zeros(len(sides))
    front = np.empty(faces, np.bool_)
    for f in range(faces):
        height = normals[f, 0] * eye[0] + normals[f, 1] * eye[1] + normals[f, 2] * eye[2]
        front[f] = height > offsets[f]
        if front[f]:
            for k in range(3):
                turns[owned[k * faces + f]] += forward[k, f]
    edges, third = np.empty(len(sides), np.int64), np.empty(len(sides), np.int64)
    count = 0
    for e in range(len(sides)):
        one = sides[e, 0] >= 0 and front[sides[e, 0]]
        two = sides[e, 1] >= 0 and front[sides[e, 1]]
        if one != two:
            edges[count], third[count] = e, opposite[e, 0 if one else 1]
            count += 1
    return turns, edges[:count].copy(), third[:count].copy()


@compiled('void(u1[:,::1], f8[::1], f8[::1])')
def _draw(picture: AnyArray, start: FloatArray, end: FloatArray) -> None:
    """255 in the pixels from `start` to `end` (2,) [px]; see ``outline._touched``."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    count = max(np.ceil(max(abs(dx), abs(dy))), 1.0)
    for number in range(int(count) + 1):
        share = number / count
        column, row = int(np.rint(start[0] + dx * share)), int(np.rint(start[1] + dy * share))
        if 0 <= column < picture.shape[1] and 0 <= row < picture.shape[0]:
            picture[row, column] = 255


@compiled('u1[:,::1](f8[:,::1], i8[:,::1], f8[::1], i8)')
def silhouette(pixels: FloatArray, edges: AnyArray, turns: FloatArray, side: int) -> AnyArray:
    """(S, S): 255 where the edges wind around a pixel's centre or touch it; see ``outline.winding_numbers``."""
    crossed = np.zeros((side, side + 1), np.int32)
    for e in range(len(edges)):
        if turns[e] == 0.0:
            continue
        x0, y0 = pixels[edges[e, 0], 0], pixels[edges[e, 0], 1]
        x1, y1 = pixels[edges[e, 1], 0], pixels[edges[e, 1], 1]
        signed = int(turns[e])
        if not y1 > y0:
            x0, y0, x1, y1, signed = x1, y1, x0, y0, -signed
        lean = (x1 - x0) / max(y1 - y0, 1e-12)
        first = int(min(max(np.ceil(y0), 0.0), float(side)))
        last = int(min(max(np.ceil(y1), 0.0), float(side)))
        for row in range(first, last):
            column = min(max(np.ceil(x0 + (row - y0) * lean), 0.0), float(side))
            crossed[row, int(column)] += signed
    out = np.zeros((side, side), np.uint8)
    for row in range(side):
        winding = 0
        for column in range(side):
            winding += crossed[row, column]
            if winding != 0:
                out[row, column] = 255
    for e in range(len(edges)):
        if turns[e] != 0.0:
            _draw(out, pixels[edges[e, 0]], pixels[edges[e, 1]])
    return out


@compiled(
    'Tuple((f8[:,::1], f8[:,::1], f8[:,::1]))'
    '(f8[:,::1], f8[:,::1], f8[::1], i8[:,::1], i8[::1], i8[::1], u1[:,::1], i8, f8)'
)
def places(
    vertices: FloatArray,
    pixels: FloatArray,
    depth: FloatArray,
    edges: AnyArray,
    chosen: AnyArray,
    third: AnyArray,
    covered: AnyArray,
    count: int,
    beyond: float,
) -> Tuple[FloatArray, FloatArray, FloatArray]:
    """Points (N, 3), pixels (N, 2) and outward normals (N, 2) of those of `count` places evenly over the chosen edges
    beyond which nothing is `covered` (H, W); `third` is the vertex on the object's side of each edge."""
    length = np.zeros(len(chosen))
    total = 0.0
    for i in range(len(chosen)):
        one, two = edges[chosen[i], 0], edges[chosen[i], 1]
        dx, dy = pixels[two, 0] - pixels[one, 0], pixels[two, 1] - pixels[one, 1]
        long = np.sqrt(dx * dx + dy * dy)
        length[i] = long if long > 1e-6 else 0.0
        total += length[i]
    points, at, normals = np.empty((count, 3)), np.empty((count, 2)), np.empty((count, 2))
    height, width = covered.shape
    kept, i, end = 0, -1, 0.0
    for k in range(count if total > 0.0 else 0):
        place = (k + 0.5) / count * total
        while end <= place and i + 1 < len(chosen):
            i += 1
            end += length[i]
        one, two = edges[chosen[i], 0], edges[chosen[i], 1]
        share = min(max(1.0 - (end - place) / length[i], 0.0), 1.0)
        dx, dy = pixels[two, 0] - pixels[one, 0], pixels[two, 1] - pixels[one, 1]
        u, v = pixels[one, 0] + share * dx, pixels[one, 1] + share * dy
        nx, ny = dy / length[i], -dx / length[i]
        inward = (pixels[third[i], 0] - pixels[one, 0]) * nx + (pixels[third[i], 1] - pixels[one, 1]) * ny
        if inward > 0.0:
            nx, ny = -nx, -ny
        column, row = int(np.rint(u + beyond * nx)), int(np.rint(v + beyond * ny))
        if 0 <= column < width and 0 <= row < height and covered[row, column] > 0:
            continue
        near, far = depth[one], depth[two]
        along = share * near / (share * near + (1.0 - share) * far)
        for d in range(3):
            points[kept, d] = (1.0 - along) * vertices[one, d] + along * vertices[two, d]
        at[kept, 0], at[kept, 1], normals[kept, 0], normals[kept, 1] = u, v, nx, ny
        kept += 1
    return points[:kept].copy(), at[:kept].copy(), normals[:kept].copy()
