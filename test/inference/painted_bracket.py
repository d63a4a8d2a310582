"""A bracket of three boxes, and pictures of it that are painted here."""

import cv2
import numpy as np

from kd6d_ros.geometry.cameras import project
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.outline_view import MaskMap
from kd6d_ros.types import Mesh, RigidTransform

K = np.array([[572.0, 0, 325.0], [0, 573.0, 242.0], [0, 0, 1]])


def block(low, high):
    """A box of two triangles per side, normals outward."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(high) - low) + low
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return corners, np.array([[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)])


def mesh(*blocks):
    vertices, faces, count = [], [], 0
    for corners, triangles in blocks:
        vertices.append(corners)
        faces.append(triangles + count)
        count += len(corners)
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


def bracket_mesh():
    """A foot, a mast at one end of it, a small arm: no symmetry, and parts before one another."""
    return mesh(
        block([-0.06, -0.03, -0.02], [0.06, 0.03, 0.0]),
        block([0.03, -0.02, 0.0], [0.055, 0.02, 0.08]),
        block([-0.02, -0.012, 0.05], [0.03, 0.012, 0.07]),
    )


def turned(*vector):
    return cv2.Rodrigues(np.array(vector, dtype=float))[0]


def at(rotation, *place):
    return RigidTransform(rotation, np.array(place, dtype=float))


def silhouette(shape, pose, camera):
    """Where the mesh is in the image of a camera, whatever its lens: triangles with bent sides. Drawn four times as
    large, as OpenCV fills every pixel that a side touches: at 1:1 the object would be half a pixel wider all around."""
    large = 4
    out = np.zeros((large * camera.height, large * camera.width), np.uint8)
    share = np.linspace(0, 1, 13)[:-1, None]
    for triangle in shape.vertices[shape.faces]:
        ring = np.concatenate(
            [a * (1 - share) + b * share for a, b in zip(triangle, np.roll(triangle, -1, 0), strict=True)]
        )
        pixels = large * (project(camera, pose.apply(ring)) + 0.5) - 0.5
        cv2.fillPoly(out, [np.round(pixels * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    return cv2.resize(out, (camera.width, camera.height), interpolation=cv2.INTER_AREA) > 127


def painted(shape, pose, camera, seed=0):
    """Noise around two colours for the object, and others, patchy, around it."""
    rng = np.random.default_rng(seed)
    size = (camera.height, camera.width)
    patches = cv2.resize(rng.uniform(0, 255, (12, 16, 3)), size[::-1], interpolation=cv2.INTER_NEAREST)
    patches[..., 0] *= 0.4
    image = patches + rng.normal(0, 12, (*size, 3))
    own = silhouette(shape, pose, camera)
    stripes = ((np.indices(size).sum(axis=0) // 9) % 2)[..., None]
    colour = np.where(stripes, [205.0, 60.0, 50.0], [180.0, 90.0, 60.0]) + rng.normal(0, 12, (*size, 3))
    image[own] = colour[own]
    return np.clip(cv2.GaussianBlur(image, (0, 0), 0.7), 0, 255).astype(np.uint8), own


TRUTH = at(turned(1.9, 0.5, -0.2), 0.04, -0.03, 0.62)


def wrong(truth=TRUTH):
    """8 degrees, a tenth of the distance, and some pixels off."""
    return RigidTransform(turned(0.08, -0.09, 0.06) @ truth.rotation, truth.translation * 1.1 + [0.002, -0.002, 0.0])


def hidden(image, own, camera):
    """A third of the object behind a plate of nearly its own colour, and the network's mask that knows of it."""
    rows, columns = np.nonzero(own)
    cut = int(np.quantile(columns, 0.66))
    image = image.copy()
    image[rows.min() - 30 : rows.max() + 30, cut : columns.max() + 60] = (190, 75, 55)
    seen = own.copy()
    seen[:, cut:] = False
    crop = Crop.square((float(columns.mean()), float(rows.mean())), 170.0, 128)
    share = (
        cv2.resize(
            crop.extract(np.repeat(255 * seen[..., None].astype(np.uint8), 3, axis=2), 0)[..., 0],
            (16, 16),
            interpolation=cv2.INTER_AREA,
        )
        / 255.0
    )
    return image, MaskMap(np.clip(8 * (share - 0.5), -4, 4), crop)
