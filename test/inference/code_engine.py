"""An engine that answers with rendered code maps: boxes at given poses, rays against their faces."""

from __future__ import annotations

import numpy as np
from painted_codes import surface

from kd6d_ros.inference.code_cloud import cell_centres
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.surface_codes import bits_of
from kd6d_ros.types import CodeMaps, LocalPredictions


def nearest_codes(points, book):
    """Codes (N,) of the leaves next to points (N, 3) [m], by trying all of them."""
    leaves = book.points
    half_square = 0.5 * np.einsum('ij,ij->i', leaves, leaves)
    parts = [np.argmax(part.astype(np.float32) @ leaves.T - half_square, axis=1) for part in _parts(points)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _parts(points):
    return [points[start : start + 256] for start in range(0, len(points), 256)]


class CodeEngine:
    """Answers from `scene`, a list of (object name, cam_from_obj). The windows that the estimator cuts are taken note
    of by `patch`, a pytest monkeypatch.

    spoil: called with the maps before they are handed out, to make them worse.
    """

    name = 'codes'
    precision = 'none'
    description = 'code maps of boxes'
    side_by_side = 1

    def __init__(self, bundle, camera, patch, scene=(), sure=0.99):
        self._bundle, self._camera = bundle, camera
        self.scene, self.sure, self.spoil = list(scene), sure, None
        self.runs = []
        self._crops, self._known = [], {}
        extract = Crop.extract

        def noted(crop, image, border=114):
            self._crops.append(crop)
            return extract(crop, image, border)

        patch.setattr(Crop, 'extract', noted)

    def run(self, image, classes):
        self.runs.append(image.shape)
        crops, self._crops = self._crops[-len(image) :], []
        maps = [self._maps(crop, tuple(allowed)) for crop, allowed in zip(crops, classes, strict=True)]
        return [LocalPredictions.of_codes(one if self.spoil is None else self.spoil(one)) for one in maps]

    def _maps(self, crop, allowed):
        """Drawn once for each window of each scene."""
        key = (crop, allowed, tuple(self.scene))
        if key not in self._known:
            self._known[key] = self._drawn(crop, np.array(allowed))
        return self._known[key]

    def _drawn(self, crop, allowed):
        stride = self._bundle.network.code_stride
        height, width = crop.height // stride, crop.width // stride
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        pixels = crop.to_image(cell_centres(np.stack([columns.ravel(), rows.ravel()], 1), stride))
        index, nearest = np.zeros(len(pixels), np.int64), np.full(len(pixels), np.inf)
        points = np.zeros((len(pixels), 3))
        for name, pose in self.scene:
            own, depth = surface(self._camera, pose, pixels)
            first = depth < nearest
            index[first], points[first] = self._bundle.index(name), own[first]
            nearest = np.minimum(nearest, depth)
        seen = np.isfinite(nearest) & allowed[index]
        code = np.full((len(pixels), 16), 0.5)
        for number, book in enumerate(self._bundle.books):
            mine = seen & (index == number)
            code[mine] = bits_of(nearest_codes(points[mine], book))
        code = 0.5 + (code - 0.5) * (2 * self.sure - 1)
        mask = np.where(seen, 0.95, 0.03)
        return CodeMaps(
            np.where(seen, index, 0).reshape(height, width),
            mask.reshape(height, width).astype(np.float32),
            np.ascontiguousarray(code.T.reshape(16, height, width), np.float32),
        )
