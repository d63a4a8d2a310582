"""Which part of a frame the network sees: zoomed crops around an object or beside it, or native-scale windows.

Zoomed crops come from the visible mask's box jittered to an intersection over union of 0.6 to 1 (a
detector's box) or from the projected 3D box, jittered as a tracker's guess. The corners then span 45 to
125 % of the crop, and may lie outside it. Crops beside objects have the same scale: a search of a whole frame measures
wrong places too, and a network that has never seen one at that scale answers there as surely as anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kd6d_ros.data.detector_boxes import jitter_box
from kd6d_ros.inference.crop import Crop

if TYPE_CHECKING:
    from kd6d_ros.training.frames import Frame
    from kd6d_ros.training.recipe import InputRecipe, SamplingRecipe

SMALLEST_SPAN, LARGEST_SPAN = 0.45, 1.25

NEARBY = 0.5, 2.0
"""How far crops beside an object are from it, in sides of the crop."""

TRIES = 8


def draw_window(frame: Frame, sampling: SamplingRecipe, inputs: InputRecipe, rng: np.random.Generator) -> Crop:
    """One window of `frame` for training."""
    candidates = [
        i for i in range(len(frame.class_index))
        if frame.class_index[i] >= 0 and frame.visible_fraction[i] >= sampling.min_visible
    ]  # fmt: skip
    if not candidates or rng.random() < sampling.window_fraction:
        return _native_window(frame, candidates, sampling, inputs, rng)
    crop = _zoomed(frame, int(rng.choice(candidates)), sampling, inputs, rng)
    # No number is drawn where none are wanted, so that older recipes give the crops they always gave.
    if sampling.empty_fraction > 0 and rng.random() < sampling.empty_fraction:
        return _beside(frame, crop, inputs, rng)
    return crop


def _zoomed(frame: Frame, index: int, sampling: SamplingRecipe, inputs: InputRecipe, rng: np.random.Generator) -> Crop:
    corners = frame.corners_px[index]
    low, high = corners.min(0), corners.max(0)
    span = float((high - low).max())
    if rng.random() < sampling.projected_fraction:
        box = np.concatenate([low, high])
        centre = (low + high) / 2 + span * rng.uniform(-0.12, 0.12, 2)
        side = inputs.crop_padding * span * rng.uniform(0.8, 1.25)
    else:
        box = jitter_box(frame.visible_box[index], rng)
        centre = (box[:2] + box[2:]) / 2
        side = inputs.crop_padding * float((box[2:] - box[:2]).max())
    side = float(np.clip(side, span / LARGEST_SPAN, span / SMALLEST_SPAN))
    return Crop.square((float(centre[0]), float(centre[1])), max(side, 8.0), inputs.crop_size)


def _beside(frame: Frame, crop: Crop, inputs: InputRecipe, rng: np.random.Generator) -> Crop:
    """A crop of the same scale whose middle shows none of the objects: half of them near this one, where things lie,
    the rest anywhere; the last one tried where objects are everywhere."""
    side = inputs.crop_size / crop.scale
    centre = middle = crop.to_image(np.full((1, 2), (inputs.crop_size - 1) / 2))[0]
    learnt = [box for box, index in zip(frame.visible_box, frame.class_index, strict=True) if index >= 0]
    for _ in range(TRIES):
        if rng.random() < 0.5:
            angle, far = rng.uniform(0, 2 * np.pi), side * rng.uniform(*NEARBY)
            centre = middle + far * np.array([np.cos(angle), np.sin(angle)])
            centre = np.clip(centre, 0, [frame.width - 1, frame.height - 1])
        else:
            centre = rng.uniform(0, [frame.width - 1, frame.height - 1])
        if not any((box[:2] <= centre).all() and (centre <= box[2:]).all() for box in learnt):
            break
    return Crop.square((float(centre[0]), float(centre[1])), side, inputs.crop_size)


def _native_window(
    frame: Frame,
    candidates: list[int],
    sampling: SamplingRecipe,
    inputs: InputRecipe,
    rng: np.random.Generator,
) -> Crop:
    """A window at about the scale of the whole-frame input, half of them near an object."""
    native = 1.0
    if inputs.frame_size:
        native = min(inputs.frame_size[0] / frame.width, inputs.frame_size[1] / frame.height)
    scale = native * np.exp(rng.uniform(*np.log(sampling.window_scale)))
    side = inputs.crop_size / scale
    half = side / 2
    if candidates and rng.random() < 0.5:
        box = frame.visible_box[int(rng.choice(candidates))]
        centre = (box[:2] + box[2:]) / 2 + rng.uniform(-0.5, 0.5, 2) * half
    else:
        low = np.minimum([half, half], [frame.width / 2, frame.height / 2])
        centre = rng.uniform(low, np.maximum(np.array([frame.width, frame.height]) - low, low + 1e-6))
    return Crop.square((float(centre[0]), float(centre[1])), side, inputs.crop_size)
