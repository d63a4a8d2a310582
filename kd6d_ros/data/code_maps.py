"""Which code lies under which pixel: surface points to codes, by the nearest leaf centre."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from kd6d_ros.data.codes import mesh_hash
from kd6d_ros.inference.code_files import check_fits, code_file, read_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.types import AnyArray, ObjectModel


def load_books(folder: Path, objects: Sequence[ObjectModel]) -> tuple[CodeBook, ...]:
    """The codes of `objects`, in their order, from a folder that `kd6d codes` wrote.

    Raises:
        CodesError: one is missing, damaged, or of another object or mesh.
    """
    books = []
    for model in objects:
        path = code_file(folder, model.name)
        book = read_codes(path)
        check_fits(path, book, model, mesh_hash(model.mesh) if model.mesh is not None else '')
        books.append(book)
    return tuple(books)


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
