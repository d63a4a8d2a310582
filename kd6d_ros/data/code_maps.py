"""Which code lies under which pixel: surface points to codes, by the nearest leaf centre."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from kd6d_ros.data.codes import mesh_hash
from kd6d_ros.errors import CodesError
from kd6d_ros.geometry.meshes import surface_points
from kd6d_ros.inference.code_files import CURE, check_fits, code_file, read_codes
from kd6d_ros.inference.surface_codes import LEAVES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.types import AnyArray, Mesh, ObjectModel

SAME_SURFACE = 0.02
"""[of the diameter] Codes and mesh are of one surface when hardly a point of either is further from the other. Leaves'
radii are 0.3 to 0.8 %."""

ELSEWHERE = 1e-3
"""Share of the points that may be: leaves that are not compact have their centre beside the surface."""


def load_books(folder: Path, objects: Sequence[ObjectModel]) -> tuple[CodeBook, ...]:
    """The codes of `objects`, in their order, from a folder that `kd6d codes` wrote.

    Raises:
        CodesError: one is missing, damaged, or of another object or shape.
    """
    books = []
    for model in objects:
        path = code_file(folder, model.name)
        book = read_codes(path)
        check_fits(path, book, model)
        if model.mesh is not None and not same_surface(book, model.mesh):
            raise CodesError(f'{path}: made from another shape than the mesh of {model.name!r}; {CURE}')
        books.append(book)
    return tuple(books)


def same_surface(book: CodeBook, mesh: Mesh) -> bool:
    """Whether codes lie on a mesh and all over it, be it the one they were made from or another file of its shape."""
    if book.mesh_sha256 == mesh_hash(mesh):
        return True
    drawn = surface_points(mesh, LEAVES, np.random.default_rng(0))
    gaps = cKDTree(book.points).query(drawn)[0], cKDTree(drawn).query(book.points)[0]
    return all((gap > SAME_SURFACE * book.diameter).mean() <= ELSEWHERE for gap in gaps)


class CodeLookup:
    """Codes of surface points by class; cheap to send to loader processes."""

    def __init__(self, books: Sequence[CodeBook]) -> None:
        self.trees = [cKDTree(book.points) for book in books]

    def codes(self, classes: AnyArray, points: AnyArray) -> AnyArray:
        """Codes (G,) uint16 of points (G, 3) [m, object frame] on objects of `classes` (G,); 0 where that is
        negative."""
        out = np.zeros(len(classes), np.uint16)
        for index in np.unique(classes[classes >= 0]):
            rows = np.flatnonzero(classes == index)
            out[rows] = self.trees[index].query(points[rows])[1]
        return out
