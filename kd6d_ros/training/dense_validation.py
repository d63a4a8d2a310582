"""Validation of a dense network: crops around jittered boxes of held-out frames, decode, PnP.

Without the gates on score and inliers that the robot has, and without its second look: a pose is what PnP finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kd6d_ros.geometry.cameras import make_camera
from kd6d_ros.inference.code_cloud import code_cloud
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.pnp_codes import solve_codes
from kd6d_ros.training.validation import Validation, is_hit, targets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.inference.surface_codes import CodeBook
    from kd6d_ros.networks.dense_network import DenseNetwork
    from kd6d_ros.training.frames import FramePack
    from kd6d_ros.training.recipe import Recipe
    from kd6d_ros.types import AnyArray, Camera, ImageArray, ObjectModel, RigidTransform

THRESHOLD = 2.0
"""A point agrees with a pose within this many px of the network's input."""


@torch.no_grad()
def pose_in_crop(
    network: DenseNetwork, image: ImageArray, camera: Camera, crop: Crop, index: int, book: CodeBook
) -> RigidTransform | None:
    """Pose of the object of class `index` in a crop of `image`, the network in evaluation mode; None: not found."""
    seen = torch.from_numpy(crop.extract(image)).permute(2, 0, 1)[None].float()
    output = network(seen.to(network.mean.device))
    mask, code = (logits[0, index].cpu().numpy() for logits in (output.mask, output.code))
    found = solve_codes(code_cloud(mask, code, book, crop), camera, THRESHOLD / crop.scale)
    return None if found is None else found.cam_from_obj


def validate_dense(
    network: DenseNetwork,
    recipe: Recipe,
    objects: tuple[ObjectModel, ...],
    books: Sequence[CodeBook],
    pack: FramePack,
    frames: Sequence[int],
    count: int,
) -> Validation:
    """As ``validation.validate``, for a dense network."""
    network.eval()
    rng = np.random.default_rng(7)
    names = [model.name for model in objects]
    hits: dict[str, list[bool]] = {name: [] for name in names}
    seen = accepted = 0
    for number in frames:
        if seen >= count:
            break
        frame = pack.frame(int(number), with_depth=False)
        camera = make_camera(frame.matrix, frame.width, frame.height)
        image: AnyArray = np.ascontiguousarray(frame.image)
        for (model, corners), detection in zip(*targets_of(frame, objects, rng), strict=True):
            index = names.index(model.name)
            crop = Crop.around_box(detection.box, recipe.input.crop_padding, recipe.input.crop_size)
            pose = pose_in_crop(network, image, camera, crop, index, books[index])
            hits[model.name].append(pose is not None and is_hit(model, corners, pose))
            seen += 1
            accepted += pose is not None
    return Validation.of(hits, accepted)
