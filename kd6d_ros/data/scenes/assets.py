"""What scenes are made of: target objects, distractor meshes and shapes, textures, backgrounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from kd6d_ros.data.scenes.placement import Solid
from kd6d_ros.data.scenes.shapes import plane, shape_pool
from kd6d_ros.data.scenes.textures import photo_crop, procedural_texture
from kd6d_ros.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kd6d_ros.data.scenes.recipe import SceneRecipe
    from kd6d_ros.types import ImageArray, Mesh, ObjectModel

    Rng = np.random.Generator

TEXTURES = 64
TEXTURE_SIZE = 256
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


@dataclass(frozen=True, eq=False)
class Target:
    """An object to be found: its model (with mesh) and its solid for placement."""

    model: ObjectModel
    mesh: Mesh
    solid: Solid


@dataclass(frozen=True, eq=False)
class Assets:
    """`backgrounds` are paths (read per image); `textures` (256, 256, 3) serve shapes and tables."""

    targets: tuple[Target, ...]
    distractors: tuple[tuple[Mesh, Solid], ...]
    shapes: tuple[tuple[Mesh, Solid], ...]
    textures: tuple[ImageArray, ...]
    table: Mesh
    sheet: Mesh
    backgrounds: tuple[Path, ...]


def make_assets(
    models: Sequence[ObjectModel],
    distractors: Sequence[Mesh],
    backgrounds: Sequence[Path],
    recipe: SceneRecipe,
    seed: int,
) -> Assets:
    """Build the pools; textures and shapes depend on `seed` alone, so every worker has the same."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x7E37])))
    targets = []
    for model in models:
        if model.mesh is None:
            raise DatasetError(f'object {model.name!r} has no mesh to render')
        targets.append(Target(model, model.mesh, Solid.of(model.mesh.vertices)))
    shapes = [(mesh, Solid.of(mesh.vertices)) for mesh in shape_pool(rng)]
    textures = [procedural_texture(rng, TEXTURE_SIZE) for _ in range(TEXTURES)]
    textures += [
        photo_crop(rng, read_background(backgrounds[index]), TEXTURE_SIZE, TEXTURE_SIZE, 0.2)
        for index in rng.permutation(len(backgrounds))[: TEXTURES // 2]
    ]
    return Assets(
        tuple(targets),
        tuple((mesh, Solid.of(mesh.vertices)) for mesh in distractors),
        tuple(shapes),
        tuple(textures),
        plane(6.0, 1.0),
        plane(1.0, 1.0),
        tuple(backgrounds),
    )


def list_backgrounds(folder: Path | None) -> list[Path]:
    """Image files of a folder, sorted; None gives none (procedural backgrounds only).

    Raises:
        DatasetError: no such folder, no image in it, or a file that only is called an image.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise DatasetError(f'{folder}: backgrounds folder does not exist')
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise DatasetError(f'{folder}: no background image ({", ".join(IMAGE_SUFFIXES)}) in this folder')
    for path in found:
        if not cv2.haveImageReader(str(path)):
            raise _unreadable(path)
    return found


def read_background(path: Path) -> ImageArray:
    """An image file as (H, W, 3) uint8 RGB.

    Raises:
        DatasetError: not an image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or min(image.shape[:2]) < 8:
        raise _unreadable(path)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _unreadable(path: Path) -> DatasetError:
    return DatasetError(f'{path}: not a readable image; remove it from the backgrounds folder')
