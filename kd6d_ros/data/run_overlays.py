"""Pictures of a run over a BOP dataset: estimates in colour, ground truth thin and white below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence, Set, Tuple

import numpy as np

from kd6d_ros.data.photo_pictures import draw_estimate, write_jpeg
from kd6d_ros.geometry.draw import draw_pose

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.data.bop import BopScene
    from kd6d_ros.evaluation.records import Estimate
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.types import Camera, ImageArray

TRUTH_COLOUR = (255, 255, 255)


class RunOverlays:
    """Draws `count` of the images `keys`, (scene, image) each, spread evenly over them, into `folder`; None: none."""

    def __init__(self, bundle: Bundle, folder: Optional[Path], count: int, keys: Sequence[Tuple[int, int]]) -> None:
        self._bundle, self._folder = bundle, folder
        chosen = 0 if folder is None else min(count, len(keys))
        self._keys: Set[Tuple[int, int]] = {keys[int(place)] for place in np.linspace(0, len(keys) - 1, chosen)}

    def draw(
        self,
        scene: BopScene,
        key: Tuple[int, int],
        image: ImageArray,
        camera: Camera,
        estimates: Sequence[Estimate],
    ) -> None:
        """Draw one image, if it is among them.

        Raises:
            ImageError: the picture cannot be encoded.
        """
        if self._folder is None or key not in self._keys:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        picture, known = image.copy(), self._bundle.by_obj_id()
        for truth in scene.annotations(key[1]):
            if truth.obj_id in known:
                model = known[truth.obj_id]
                draw_pose(picture, camera, model, truth.cam_from_obj, TRUTH_COLOUR, thickness=1, axes=False)
        for item in estimates:
            draw_estimate(picture, camera, self._bundle, known[item.obj_id].name, item.score, item.cam_from_obj)
        write_jpeg(self._folder / f'{key[0]:06d}_{key[1]:06d}.jpg', picture)
