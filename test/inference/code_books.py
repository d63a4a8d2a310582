"""Surface codes of a small box, made once, for tests of what decodes them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from kd6d_ros.data.codes import make_codes
from kd6d_ros.geometry.meshes import bounding_box_corners
from kd6d_ros.types import Mesh, ObjectModel

HALF = np.array([0.06, 0.045, 0.03])
"""Half edges of the box [m]."""


def box_mesh():
    """Twelve triangles around the origin."""
    vertices = bounding_box_corners(np.stack([-HALF, HALF]))
    sides = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return Mesh(vertices, np.array([face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))]))


def box_model(name='box', obj_id=1):
    mesh = box_mesh()
    return ObjectModel(name, obj_id, float(2 * np.linalg.norm(HALF)), mesh.vertices, mesh=mesh)


@lru_cache(maxsize=1)
def box_codes():
    """The code book of ``box_model()`` and the samples behind it."""
    return make_codes(box_model(), per_leaf=2, seed=3)
