"""One random scene from (assets, recipe, camera, generator)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from kd6d_ros.data.renderer.records import RenderItem
from kd6d_ros.data.scenes.assets import read_background
from kd6d_ros.data.scenes.lighting import log_uniform, random_lights, random_material, unit_vector
from kd6d_ros.data.scenes.placement import Arrangement, Solid, random_table
from kd6d_ros.data.scenes.textures import photo_crop
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.data.renderer.records import Lights
    from kd6d_ros.data.scenes.assets import Assets, Target
    from kd6d_ros.data.scenes.recipe import SynthRecipe
    from kd6d_ros.types import Camera, ImageArray

    Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Scene:
    """What the renderer draws. `target_items[k]` shows `targets[k]` under item id k + 1."""

    camera: Camera
    target_items: tuple[RenderItem, ...]
    targets: tuple[Target, ...]
    other_items: tuple[RenderItem, ...]
    lights: Lights
    background: ImageArray

    @property
    def items(self) -> tuple[RenderItem, ...]:
        return self.target_items + self.other_items


def sample_scene(rng: Rng, assets: Assets, recipe: SynthRecipe, camera: Camera) -> Scene:
    """Draw a scene: a table or free clutter, targets, distractors, occluders, light and background."""
    scene = recipe.scene
    on_table = bool(rng.random() < scene.table_probability)
    low, high = scene.distance_m
    distance = log_uniform(rng, low * 1.1, max(low * 1.1, high * 0.85))
    table = random_table(rng, scene, distance) if on_table else None
    arrangement = Arrangement(rng, scene, camera, distance, table)
    chosen = _choose_targets(rng, assets, recipe)
    placed: list[tuple[Target, RigidTransform]] = []
    for target in chosen:
        pose = arrangement.place(target.solid)
        if pose is not None:
            placed.append((target, pose))
    others = _distractors(rng, assets, recipe, arrangement, placed)
    if table is not None:
        others += _sheets(rng, assets, recipe, arrangement)
        others.append(_table_item(rng, assets, recipe, table.cam_from_table))
        up = table.cam_from_table.rotation[:, 2]
    else:
        up = unit_vector(rng)
        up = up if up[2] < 0.4 else -up
    items = tuple(
        RenderItem(t.mesh, pose, random_material(rng, recipe.look), k + 1) for k, (t, pose) in enumerate(placed)
    )
    lights = random_lights(rng, recipe.look, up, distance)
    background = random_background(rng, assets, recipe, camera.width, camera.height)
    return Scene(camera, items, tuple(t for t, _ in placed), tuple(others), lights, background)


def _choose_targets(rng: Rng, assets: Assets, recipe: SynthRecipe) -> list[Target]:
    if rng.random() < recipe.scene.empty_probability:
        return []
    low, high = recipe.scene.targets
    count = int(rng.integers(int(low), int(high) + 1))
    if recipe.scene.repeat_targets:
        return [assets.targets[i] for i in rng.integers(len(assets.targets), size=count)]
    return [assets.targets[i] for i in rng.permutation(len(assets.targets))[:count]]


def _random_distractor(rng: Rng, assets: Assets, recipe: SynthRecipe) -> tuple[RenderItem, Solid]:
    """An item without a pose (identity) and its solid."""
    if not assets.distractors or rng.random() < recipe.scene.shape_probability:
        mesh, _ = assets.shapes[int(rng.integers(len(assets.shapes)))]
        size = log_uniform(rng, *recipe.scene.shape_size_m)
        stretch = np.exp(rng.uniform(-0.6, 0.6, 3)) * size
        scale = (float(stretch[0]), float(stretch[1]), float(stretch[2]))
        texture = assets.textures[int(rng.integers(len(assets.textures)))]
        material = random_material(rng, recipe.look, texture, wild=True)
        solid = Solid.of(mesh.vertices * scale)
        return RenderItem(mesh, RigidTransform.identity(), material, 0, scale), solid
    mesh, solid = assets.distractors[int(rng.integers(len(assets.distractors)))]
    material = random_material(rng, recipe.look, wild=bool(rng.random() < 0.3))
    return RenderItem(mesh, RigidTransform.identity(), material, 0), solid


def _distractors(
    rng: Rng,
    assets: Assets,
    recipe: SynthRecipe,
    arrangement: Arrangement,
    placed: list[tuple[Target, RigidTransform]],
) -> list[RenderItem]:
    low, high = recipe.scene.distractors
    found = []
    for target, pose in placed:
        if rng.random() < recipe.scene.occluder_probability:
            item, solid = _random_distractor(rng, assets, recipe)
            where = arrangement.place_before(solid, target.solid, pose)
            if where is not None:
                found.append(replace(item, cam_from_obj=where))
    for _ in range(int(rng.integers(int(low), int(high) + 1)) - len(found)):
        item, solid = _random_distractor(rng, assets, recipe)
        where = arrangement.place(solid)
        if where is not None:
            found.append(replace(item, cam_from_obj=where))
    return found


def _sheets(rng: Rng, assets: Assets, recipe: SynthRecipe, arrangement: Arrangement) -> list[RenderItem]:
    """Papers and magazines on the table, overlapping as they like."""
    low, high = recipe.scene.sheets
    found = []
    for layer in range(int(rng.integers(int(low), int(high) + 1))):
        where = arrangement.lay(0.0008 * (layer + 1))
        if where is not None:
            texture = assets.textures[int(rng.integers(len(assets.textures)))]
            material = random_material(rng, recipe.look, texture, wild=bool(rng.random() < 0.5))
            scale = (float(rng.uniform(0.04, 0.16)), float(rng.uniform(0.04, 0.16)), 1.0)
            found.append(RenderItem(assets.sheet, where, material, 0, scale, casts_shadow=False))
    return found


def _table_item(rng: Rng, assets: Assets, recipe: SynthRecipe, cam_from_table: RigidTransform) -> RenderItem:
    texture = assets.textures[int(rng.integers(len(assets.textures)))]
    material = random_material(rng, recipe.look, texture, wild=bool(rng.random() < 0.5))
    material = replace(material, uv_scale=log_uniform(rng, 5.0, 40.0), metallic=0.0)
    return RenderItem(assets.table, cam_from_table, material, 0, casts_shadow=False)


def random_background(rng: Rng, assets: Assets, recipe: SynthRecipe, width: int, height: int) -> ImageArray:
    """A crop of a photo, or of a procedural texture, sometimes out of focus: (height, width, 3) uint8."""
    if assets.backgrounds and rng.random() < recipe.scene.photo_background_probability:
        source = read_background(assets.backgrounds[int(rng.integers(len(assets.backgrounds)))])
    else:
        source = assets.textures[int(rng.integers(len(assets.textures)))]
    image = photo_crop(rng, source, width, height)
    if rng.random() < 0.3:
        image = np.asarray(cv2.blur(image, (int(rng.integers(3, 12)),) * 2), np.uint8)
    return image
