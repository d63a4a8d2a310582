"""The configurations in which a node is attacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hostile_images
import hostile_others


@dataclass(frozen=True)
class Setup:
    """One configuration of the node, and what its images look like."""

    name: str
    parameters: dict[str, Any]
    transport: str
    infos: dict[str, Any]
    images: dict[str, Any]
    boxes: bool = False


SETUPS = (
    Setup(
        'compressed',
        {
            'image_transport': 'compressed',
            'image_rectified': False,
            'use_detections': False,
            # Each image is looked at anew: no track and no find of an image before it says where.
            'track': False,
        },
        'compressed',
        hostile_others.INFO,
        {**hostile_images.COMPRESSED, **hostile_images.TIMES},
    ),
    Setup(
        'raw',
        {'image_transport': 'raw'},
        'image',
        hostile_others.INFO,
        {**hostile_images.RAW, **hostile_images.TIMES},
    ),
    Setup(
        'rectified',
        {'image_rectified': True, 'use_sim_time': True},
        'image',
        hostile_others.RECTIFIED,
        {'noise': hostile_images.RAW['noise'], **hostile_images.TIMES},
    ),
    Setup(
        'detections',
        {
            'image_transport': 'compressed',
            'image_rectified': False,
            'use_detections': True,
            'use_sim_time': False,
            'max_wait_s': 1.0,
        },
        'compressed',
        {},
        {},
        boxes=True,
    ),
)
